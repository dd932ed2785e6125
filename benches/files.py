#!/usr/bin/env python3
"""Measures `coderctl cp` against what it has to stand up to, and prints the two ratios.

    benches/files.py [--coderctl target/release/coderctl] [--size MIB] [--files COUNT] [--rounds N]

* Many small files: against `scp -r` through `coderctl ssh --stdio`. Above 3 is the aim.
* One large file: against a raw stream through `coderctl port-forward`, each way. Above 0.8 is the aim.

It starts a deployment of its own on this machine. Absolute values move with the machine; the ratios
are what counts. `scp` is needed for the first.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIECE = bytes(range(256)) * 4096


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--coderctl", type=Path, default=ROOT / "target/release/coderctl")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--files", type=int, default=10_000, metavar="COUNT")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    return parser.parse_args()


def seconds(command, env):
    begun = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


class Deployment:
    """A server of our own with a workspace `dev`, which is a directory of this machine."""

    def __init__(self, coderctl, home):
        ready = home / "ready.json"
        command = [coderctl, "server", "--listen", "127.0.0.1:0", "--state", home / "state"]
        command += ["--workspace", "dev", "--ready-file", ready]
        self.env = {"HOME": str(home), "PATH": os.environ["PATH"]}
        self.log = open(home / "server.log", "wb")
        self.child = subprocess.Popen(command, env=self.env, stderr=self.log)
        while not ready.exists():
            if self.child.poll() is not None:
                raise SystemExit((home / "server.log").read_text())
            time.sleep(0.05)
        told = json.loads(ready.read_text())
        self.env |= {"CODER_URL": told["url"], "CODER_SESSION_TOKEN": told["token"]}
        subprocess.run([coderctl, "-q", "wait", "dev"], env=self.env, check=True)

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()


def many(options, home, deployment):
    tree = home / "tree"
    for number in range(options.files):
        path = tree / str(number % 100) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PIECE[: 100 + number % 4000])
    proxy = f"ProxyCommand={options.coderctl} ssh --stdio %h"
    scp = ["scp", "-q", "-r", "-F", "none", "-o", proxy, "-o", "StrictHostKeyChecking=no"]
    scp += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    ours, theirs = [], []
    for number in range(options.rounds):
        cp = [options.coderctl, "-q", "cp", "-r", tree, f"dev:ours-{number}"]
        ours.append(seconds(cp, deployment.env))
        theirs.append(seconds([*scp, tree, f"dev:theirs-{number}"], deployment.env))
    report(f"{options.files} small files", "scp", theirs, ours)
    ours = [
        seconds([options.coderctl, "-q", "cp", "-r", f"dev:ours-0", home / f"back-{number}"], deployment.env)
        for number in range(options.rounds)
    ]
    theirs = [
        seconds([*scp, "dev:ours-0", home / f"back-scp-{number}"], deployment.env)
        for number in range(options.rounds)
    ]
    report(f"{options.files} small files, back", "scp", theirs, ours)


def service(size):
    """Takes `size` bytes and answers with one, or, asked for it with one byte, gives `size`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(1) == b"d":
                    send(connection, size)
                    continue
                if receive(connection, size):
                    connection.sendall(b".")

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def receive(connection, size):
    """Whether so much came; whoever only looks whether somebody is there sends less."""
    while size > 0 and (piece := connection.recv(1 << 20)):
        size -= len(piece)
    return size <= 0


def send(connection, size):
    for begin in range(0, size, len(PIECE)):
        connection.sendall(PIECE[: min(len(PIECE), size - begin)])


def raw(options, deployment, way, size, port):
    ready = tempfile.mktemp()
    command = [options.coderctl, "-q", "port-forward", "dev", "--tcp", f"127.0.0.1:0:{port}"]
    forward = subprocess.Popen([*command, "--wait-remote", "30s", "--ready-file", ready], env=deployment.env)
    while not os.path.exists(ready):
        time.sleep(0.02)
    local = json.loads(Path(ready).read_text())["forwards"][0]["local"]["port"]
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", local)) as connection:
        connection.sendall(way)
        if way == b"u":
            send(connection, size)
            connection.recv(1)
        else:
            receive(connection, size)
    took = time.perf_counter() - begun
    forward.send_signal(signal.SIGINT)
    forward.wait()
    return took


def large(options, home, deployment):
    size = options.size << 20
    path = home / "large"
    with open(path, "wb") as file:
        for begin in range(0, size, len(PIECE)):
            file.write(PIECE[: min(len(PIECE), size - begin)])
    port = service(size)
    for way, name in [(b"u", "up"), (b"d", "down")]:
        ours, theirs = [], []
        for _ in range(options.rounds):
            command = [options.coderctl, "-q", "cp", "--force"]
            command += [path, "dev:large"] if way == b"u" else ["dev:large", home / "back"]
            ours.append(seconds(command, deployment.env))
            theirs.append(raw(options, deployment, way, size, port))
        report(f"{options.size} MiB {name}", "raw stream", theirs, ours)


def report(what, other, theirs, ours):
    theirs, ours = statistics.median(theirs), statistics.median(ours)
    print(f"{what:28} cp {ours:7.2f} s   {other} {theirs:7.2f} s   ratio {theirs / ours:5.2f}", flush=True)


def main():
    options = arguments()
    options.coderctl = options.coderctl.resolve()
    home = Path(tempfile.mkdtemp(prefix="coderctl-files-"))
    deployment = Deployment(options.coderctl, home)
    try:
        large(options, home, deployment)
        if shutil.which("scp"):
            many(options, home, deployment)
    finally:
        deployment.end()
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
