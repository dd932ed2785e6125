#!/usr/bin/env python3
"""Measures what 500 forwards in one process take, and prints its resident memory.

    benches/forwards.py [--coderctl target/release/coderctl] [--forwards COUNT] [--size KIB]

Four figures: once all are ready; after a connection through each has carried so much both ways, one
after the other; with a connection open in each that has just done so; and when those have been silent
for a while. At most 40 MiB is the aim.

It starts a deployment of its own on this machine. Linux only (/proc).
"""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from files import PIECE, ROOT, Deployment

# Seconds after which a connection that carries nothing has given its memory back.
IDLE = 4


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--coderctl", type=Path, default=ROOT / "target/release/coderctl")
    parser.add_argument("--forwards", type=int, default=500, metavar="COUNT")
    parser.add_argument("--size", type=int, default=256, metavar="KIB")
    return parser.parse_args()


def echo():
    """A service that sends back what it gets; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def answer(connection):
        with connection:
            while piece := connection.recv(1 << 16):
                connection.sendall(piece)

    def serve():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def exchange(connection, size):
    """So much there and back."""
    sender = threading.Thread(target=connection.sendall, args=(PIECE[:size],))
    sender.start()
    while size > 0 and (piece := connection.recv(1 << 16)):
        size -= len(piece)
    sender.join()
    if size > 0:
        raise SystemExit("a connection ended early")


def report(what, pid):
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status if line.endswith(" kB")}
    print(f"{what:44} {fields['VmRSS']:6.1f} MiB resident, {fields['VmHWM']:6.1f} MiB at most", flush=True)


def measure(options, home, deployment):
    ready = home / "forwards.json"
    port, size = echo(), options.size << 10
    command = [options.coderctl, "-q", "port-forward", "dev", "--ready-file", ready]
    command += ["--tcp", ",".join([f"127.0.0.1:0:{port}"] * options.forwards)]
    forward = subprocess.Popen(command, env=deployment.env)
    try:
        while not ready.exists():
            if forward.poll() is not None:
                raise SystemExit("the forwards have ended")
            time.sleep(0.02)
        ports = [one["local"]["port"] for one in json.loads(ready.read_text())["forwards"]]
        report(f"{len(ports)} forwards, ready", forward.pid)
        for port in ports:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                exchange(connection, size)
        report(f"after {options.size} KiB both ways through each", forward.pid)
        connections = [socket.create_connection(("127.0.0.1", port)) for port in ports]
        for connection in connections:
            exchange(connection, size)
        report("the same with all connections open at once", forward.pid)
        time.sleep(IDLE)
        report("after they were silent for a while", forward.pid)
        for connection in connections:
            connection.close()
    finally:
        forward.send_signal(signal.SIGINT)
        forward.wait()


def main():
    options = arguments()
    options.coderctl = options.coderctl.resolve()
    home = Path(tempfile.mkdtemp(prefix="coderctl-forwards-"))
    deployment = Deployment(options.coderctl, home)
    try:
        measure(options, home, deployment)
    finally:
        deployment.end()
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
