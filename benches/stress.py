#!/usr/bin/env python3
"""Looks for transfers that stop: ten at once through one forward, short ones, both ways, hashes checked.

    benches/stress.py --workspace mine [--runs 300] [--relay]

CODER_URL and CODER_SESSION_TOKEN name a deployment on this machine whose agent runs on this machine
too. Every few runs the forward is a new one, so that a run may begin before the direct path is found.
A transfer that does not move for ten seconds is one too many: then the process of the forward stays,
so that it can be looked at, and the stress ends. A run during which this process did not get to run
itself (on a machine that is busy or stopped) says nothing, and is told so.
"""

import argparse
import contextlib
import hashlib
import os
import random
import socket
import threading
import time

from compare import HERE, Forward, serving

STREAMS = 10
# Seconds, and how many of them in a row are one too many.
TICK = 0.5
STUCK = 20
# Seconds without a tick, after which nothing can be said.
ASLEEP = 2
HEADER = 17


def contents(seed, length):
    return random.Random(seed).randbytes(length)


class Clock(threading.Thread):
    """Whether this process was awake all the time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ticked, self.longest = time.monotonic(), 0

    def run(self):
        while True:
            time.sleep(TICK)
            self.look()

    def look(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.ticked)
        self.ticked = now

    def begin(self):
        self.ticked, self.longest = time.monotonic(), 0

    def slept(self):
        self.look()
        return self.longest > ASLEEP


def patiently(operation):
    """Its result, if there is one in time."""
    for _ in range(STUCK):
        with contextlib.suppress(TimeoutError):
            return operation()
    raise OSError(f"nothing for {STUCK * TICK:.0f} s")


def receive(stream, length):
    """So many bytes, each piece of which has to come in time."""
    pieces = []
    while length:
        piece = patiently(lambda: stream.recv(min(length, 1 << 16)))
        if not piece:
            raise OSError(f"{length} bytes are missing")
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def answer(stream):
    """Takes bytes and says their hash, or gives bytes and then their hash."""
    with contextlib.suppress(OSError), stream:
        header = receive(stream, HEADER)
        seed, length = int.from_bytes(header[1:9]), int.from_bytes(header[9:17])
        if header[:1] == b"u":
            stream.sendall(hashlib.sha256(receive(stream, length)).digest())
        else:
            data = contents(seed, length)
            stream.sendall(data + hashlib.sha256(data).digest())


def transfer(port, chance, problems):
    seed, length = chance.getrandbits(63), int(10 ** chance.uniform(0, 6.8))
    way = chance.choice([b"u", b"d"])
    moved = "connecting"
    try:
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.settimeout(TICK)
            moved = "begun"
            data = contents(seed, length)
            header = way + seed.to_bytes(8) + length.to_bytes(8)
            if way == b"u":
                stream.sendall(header)
                view = memoryview(data)
                while view:
                    view = view[patiently(lambda: stream.send(view[: 1 << 16])):]
                    moved = f"sent all but {len(view)}"
                moved = "sent"
                digest = receive(stream, 32)
            else:
                stream.sendall(header)
                got = receive(stream, length)
                moved = "received"
                digest = receive(stream, 32)
                if got != data:
                    raise OSError("other bytes")
            if digest != hashlib.sha256(data).digest():
                raise OSError("another hash")
            # Some end by half, others at once.
            if chance.random() < 0.5:
                stream.shutdown(socket.SHUT_WR)
                if patiently(lambda: stream.recv(1)):
                    raise OSError("more than there is")
    except OSError as problem:
        problems.append(f"{length} bytes {'up' if way == b'u' else 'down'}: {moved}: {problem!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coderctl", default=os.path.join(HERE, "..", "target", "release", "coderctl"))
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--relay", action="store_true", help="not by direct paths")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()

    env = {**os.environ, "CODER_DISABLE_DIRECT_CONNECTIONS": str(args.relay).lower()}
    binary = os.path.abspath(args.coderctl)
    chance = random.Random(args.seed)
    forward, slowest, begun, void = None, 0, time.monotonic(), 0
    clock = Clock()
    clock.start()
    with serving(answer) as port:
        for run in range(args.runs):
            if forward is None or chance.random() < 0.2:
                if forward:
                    forward.close()
                forward = Forward(binary, args.workspace, env, port)
            problems, since = [], time.monotonic()
            clock.begin()
            transfers = [
                threading.Thread(target=transfer, args=[forward.local, random.Random(chance.getrandbits(63)), problems])
                for _ in range(STREAMS)
            ]
            for thread in transfers:
                thread.start()
            for thread in transfers:
                thread.join()
            if clock.slept():
                void += 1
                forward.close()
                forward = None
                continue
            slowest = max(slowest, time.monotonic() - since)
            if problems:
                print("\n".join(problems))
                raise SystemExit(f"run {run} of seed {args.seed}; the forward is process {forward.child.pid}")
        if forward:
            forward.close()
    print(f"{args.runs} runs, {void} of them void, in {time.monotonic() - begun:.0f} s, the slowest in {slowest:.2f} s (seed {args.seed})")


if __name__ == "__main__":
    main()
