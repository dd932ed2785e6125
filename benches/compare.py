#!/usr/bin/env python3
"""Measures coderctl against the Go client, side by side in one run, and prints ratios.

    benches/compare.py --coder /path/to/coder --workspace dev [--rows version,ssh,...]

CODER_URL and CODER_SESSION_TOKEN name a deployment on this machine whose workspace runs on this
machine too. Both clients run in turn (A B A B ...), medians are compared, everything but the row
`direct` goes through the relay. Absolute values move with the machine; the ratios are what counts. `iperf3` is needed for
the throughput rows, and Linux (/proc) for memory and CPU.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
TICKS = os.sysconf("SC_CLK_TCK")
ROWS = "version size ssh latency forward forward4 forward10 direct far echo memory idle".split()


def run_once(command, env):
    """Runs to the end; (wall seconds, cpu seconds, peak KiB)."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, stderr = child.stdout, child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed ({child.returncode}):\n{stderr.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def interleave(commands, env, rounds):
    """Runs the commands in turn after one warm-up each; a list of measurements for each."""
    for command in commands:
        run_once(command, env)
    measured = [[] for _ in commands]
    for _ in range(rounds):
        for slot, command in enumerate(commands):
            measured[slot].append(run_once(command, env))
    return measured


def median(samples, field):
    return statistics.median(sample[field] for sample in samples)


def spread(samples, field):
    values = [sample[field] for sample in samples]
    return f"{min(values):.3f}–{max(values):.3f}"


def say(row, what, ours, theirs, unit, target):
    ratio = ours / theirs if theirs else float("inf")
    print(f"{row:9} {what:34} {ours:10.3f} {theirs:10.3f} {unit:8} ratio {ratio:6.3f}   ({target})", flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu(process):
    """Seconds of CPU that a process has had."""
    with open(f"/proc/{process}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Forward:
    """A `port-forward` that is up, a local port for each remote one."""

    def __init__(self, binary, workspace, env, *remotes):
        self.locals = [free_port() for _ in remotes]
        self.local = self.locals[0]
        command = [binary, "port-forward", workspace]
        for local, remote in zip(self.locals, remotes):
            command += ["--tcp", f"127.0.0.1:{local}:{remote}"]
        self.child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for line in self.child.stderr:
            if "Ready!" in line:
                return
        raise SystemExit(f"{' '.join(command)} never became ready")

    def resident(self):
        with open(f"/proc/{self.child.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024

    def cpu(self):
        return cpu(self.child.pid)

    def close(self):
        self.child.send_signal(signal.SIGINT)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise SystemExit("a forward did not end within 10 s of SIGINT")


class Iperf:
    """An iperf3 server on a free port; a new one for each run, since it serves one at a time."""

    def __enter__(self):
        self.port = free_port()
        self.child = subprocess.Popen(
            ["iperf3", "-s", "-B", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            # The probe below is a client that says nothing, which it complains about.
            stderr=subprocess.DEVNULL,
        )
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()


def iperf(port, seconds, *options):
    """Mbit/s at the receiver."""
    answer = subprocess.run(
        ["iperf3", "-J", "-c", "127.0.0.1", "-p", str(port), "-t", str(seconds), *options],
        capture_output=True, text=True, timeout=seconds + 60,
    )
    report = json.loads(answer.stdout)
    if "error" in report:
        raise SystemExit(f"iperf3: {report['error']}")
    return report["end"]["sum_received"]["bits_per_second"] / 1e6


@contextlib.contextmanager
def serving(answer):
    """A TCP server on a free port; `answer` gets each connection, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=answer, args=[stream], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def echo(stream):
    with contextlib.suppress(OSError), stream:
        while data := stream.recv(4096):
            stream.sendall(data)


def round_trips(port, count):
    """The median of so many, in milliseconds."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        for _ in range(count):
            begun = time.perf_counter()
            stream.sendall(b"?")
            assert stream.recv(1) == b"?"
            took.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(took)


def echo_beside_upload(binary, env, args):
    """An echo alone, and beside an upload through the same tunnel, in milliseconds; and the upload, in Mbit/s."""
    mbits = []
    with Iperf() as bulk, serving(echo) as quiet:
        forward = Forward(binary, args.workspace, env, bulk.port, quiet)
        # Everything is warm then, and a direct path found where there may be one.
        round_trips(forward.locals[1], 1000)
        alone = round_trips(forward.locals[1], 500)
        upload = threading.Thread(target=lambda: mbits.append(iperf(forward.local, args.seconds)))
        upload.start()
        # Its slow start is over.
        time.sleep(args.seconds / 4)
        beside = round_trips(forward.locals[1], 300)
        upload.join()
        forward.close()
    return alone, beside, beside / alone, mbits[0]


class Delayed:
    """A deployment behind a proxy that holds every byte back; its environment."""

    def __init__(self, env, one_way):
        target = urlsplit(env["CODER_URL"])
        self.proxy = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "delay_proxy.py"), str(target.port or 80), str(one_way)],
            stdout=subprocess.PIPE, text=True,
        )
        self.env = {**env, "CODER_URL": f"http://127.0.0.1:{self.proxy.stdout.readline().strip()}"}

    def __enter__(self):
        return self.env

    def __exit__(self, *_):
        self.proxy.kill()
        self.proxy.wait()


def throughput(shapes, pair, args):
    """Two lines for each shape: what it is, iperf3's options, the environment, what is wanted."""
    for what, options, env, wanted in shapes:
        samples, cpu = [[], []], [[], []]
        for _ in range(args.rounds):
            for slot, binary in enumerate(pair):
                with Iperf() as server:
                    forward = Forward(binary, args.workspace, env, server.port)
                    mbits = iperf(forward.local, args.seconds, *options)
                    samples[slot].append(mbits)
                    cpu[slot].append(forward.cpu() / (mbits * args.seconds / 1e3))
                    forward.close()
        say("forward", what, *map(statistics.median, samples), "Mbit/s", wanted)
        say("", "    its CPU", *map(statistics.median, cpu), "s/Gbit", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coderctl", default=os.path.join(HERE, "..", "target", "release", "coderctl"))
    parser.add_argument("--coder", required=True, help="the Go client to compare with")
    parser.add_argument("--workspace", default="dev")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=5, help="length of one iperf3 run")
    parser.add_argument("--idle", type=int, default=30, help="seconds of the idle row")
    parser.add_argument("--delay", type=float, default=0.025, help="seconds each way in the latency row")
    parser.add_argument("--rows", default=",".join(ROWS))
    args = parser.parse_args()

    env = {**os.environ, "CODER_DISABLE_DIRECT_CONNECTIONS": "true", "CODER_NO_VERSION_WARNING": "true"}
    pair = [os.path.abspath(args.coderctl), os.path.abspath(args.coder)]
    rows = args.rows.split(",")
    print(f"{'row':9} {'what':34} {'coderctl':>10} {'coder':>10}", flush=True)

    if "version" in rows:
        ours, true = interleave([[pair[0], "--version"], ["/bin/true"]], env, 300)
        say("version", "--version ÷ /bin/true, wall", median(ours, 0), median(true, 0), "s", "≤ 1.5")
        ours, theirs = interleave([[pair[0], "--version"], [pair[1], "--version"]], env, args.rounds)
        say("version", "--version, wall", median(ours, 0), median(theirs, 0), "s", "")

    if "size" in rows:
        sizes = [os.path.getsize(binary) / 1e6 for binary in pair]
        say("size", "binary as built", *sizes, "MB", "≤ 12 MB")

    if "ssh" in rows:
        ours, theirs = interleave([[b, "ssh", args.workspace, "--", "true"] for b in pair], env, args.rounds)
        say("ssh", "ssh -- true, wall", median(ours, 0), median(theirs, 0), "s", "≤ 0.65")
        print(f"          spread {spread(ours, 0)} against {spread(theirs, 0)}")
        say("ssh", "ssh -- true, CPU", median(ours, 1), median(theirs, 1), "s", "")
        say("ssh", "ssh -- true, peak memory", median(ours, 2) / 1024, median(theirs, 2) / 1024, "MiB", "")

    if "latency" in rows:
        with Delayed(env, args.delay) as slow:
            ours, theirs = interleave([[b, "ssh", args.workspace, "--", "true"] for b in pair], slow, args.rounds)
        say("latency", f"ssh -- true at {args.delay * 2e3:.0f} ms, wall", median(ours, 0), median(theirs, 0), "s", "≤ 0.58")
        print(f"          spread {spread(ours, 0)} against {spread(theirs, 0)}")

    throughputs = {"forward", "forward4", "forward10", "direct", "far"}
    if (throughputs | {"echo", "memory", "idle"}) & set(rows) and not shutil.which("iperf3"):
        raise SystemExit("iperf3 is not installed")

    shapes = []
    if "forward" in rows:
        shapes += [("one stream up", [], env, "≥ 1.5"), ("one stream down", ["-R"], env, "≥ 1.5")]
    for streams, name in (4, "four"), (10, "ten"):
        if f"forward{streams}" in rows:
            shapes += [(f"{name} streams up", ["-P", str(streams)], env, "≥ 1.5")]
    if "direct" in rows:
        direct = {**env, "CODER_DISABLE_DIRECT_CONNECTIONS": "false"}
        # The first seconds are not counted: the path is being found.
        found = ["-O", "2"]
        shapes += [("direct, one stream up", found, direct, "≥ 3")]
        shapes += [("direct, one stream down", [*found, "-R"], direct, "≥ 1.6")]
    throughput(shapes, pair, args)

    if "far" in rows:
        with Delayed(env, args.delay) as slow:
            far = f"at {args.delay * 2e3:.0f} ms,"
            shapes = [(f"{far} one stream up", [], slow, "≥ 1.5"), (f"{far} four streams up", ["-P", "4"], slow, "≥ 1.5")]
            throughput([*shapes, (f"{far} one stream down", ["-R"], slow, "≥ 1.0")], pair, args)

    if "echo" in rows:
        for way, there in ("relay", env), ("direct", {**env, "CODER_DISABLE_DIRECT_CONNECTIONS": "false"}):
            measured = [[], []]
            for _ in range(args.rounds):
                for slot, binary in enumerate(pair):
                    measured[slot].append(echo_beside_upload(binary, there, args))
            say("echo", f"one byte there and back, {way}", *(median(it, 0) for it in measured), "ms", "")
            say("", "    beside an upload", *(median(it, 1) for it in measured), "ms", "")
            say("", "    beside ÷ alone", *(median(it, 2) for it in measured), "", "ours < 3")
            say("", "    the upload", *(median(it, 3) for it in measured), "Mbit/s", "")

    if "memory" in rows:
        idle, after = [], []
        for binary in pair:
            with Iperf() as server:
                forward = Forward(binary, args.workspace, env, server.port)
                time.sleep(2)
                idle.append(forward.resident())
                iperf(forward.local, args.seconds, "-P", "10")
                after.append(forward.resident())
                forward.close()
        say("memory", "idle forward", *idle, "MiB", "≤ 0.3")
        say("memory", "forward after ten streams", *after, "MiB", "≤ 0.3")

    if "idle" in rows:
        forwards = [Forward(binary, args.workspace, env, 9) for binary in pair]
        time.sleep(2)
        before = [forward.cpu() for forward in forwards]
        time.sleep(args.idle)
        spent = [100 * (forward.cpu() - b) / args.idle for forward, b in zip(forwards, before)]
        for forward in forwards:
            forward.close()
        say("idle", f"CPU of an idle forward, {args.idle} s", *spent, "% core", "≤ 0.2")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()
