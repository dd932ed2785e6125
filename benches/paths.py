#!/usr/bin/env python3
"""Measures direct paths: coderctl with an agent of its own against a Go pair, and against `ssh -L`.

    benches/paths.py --coder /path/to/coder --workspace dev --ours mine [--rows pair,ssh,ten,beside,echo,first]
    benches/paths.py --ours mine --against /path/to/another/coderctl --theirs another --rows against

CODER_URL and CODER_SESSION_TOKEN name a deployment on this machine. The agent of --workspace is the Go
one, that of --ours is `coderctl agent`; both run on this machine. `ssh -L` goes to an sshd of its own,
with the same cipher as WireGuard (chacha20-poly1305). The row `against` compares two builds of this
program, each with an agent of its own build. What is compared runs in turn (A B A B ...); the
medians' ratios are what counts. Needs `iperf3`, and `sshd` for the rows that name ssh.
"""

import argparse
import contextlib
import os
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from compare import HERE, Forward, Iperf, cpu, echo, free_port, iperf, round_trips, serving

ROWS = "pair ssh ten beside echo first".split()
STREAMS = 10
IDLE = 1000
CIPHER = "chacha20-poly1305@openssh.com"


def say(row, what, ours, theirs, unit, wanted):
    print(f"{row:7} {what:44} {ours:10.3f} {theirs:10.3f} {unit:7} ratio {ours / theirs:6.3f}   ({wanted})", flush=True)


class SshForward:
    """`ssh -L` to an sshd that lives as long."""

    def __init__(self, remote):
        self.directory = tempfile.TemporaryDirectory()
        self.local, port = free_port(), free_port()
        where = self.directory.name
        for key in "host", "user":
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{where}/{key}"], check=True)
        os.rename(f"{where}/user.pub", f"{where}/authorized")
        with open(f"{where}/sshd", "w") as config:
            config.write(
                f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {where}/host\nAuthorizedKeysFile {where}/authorized\n"
                f"Ciphers {CIPHER}\nStrictModes no\nUsePAM no\nPidFile none\n"
            )
        # As root it wants /run/sshd to be there.
        self.server = subprocess.Popen(
            [shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-f", f"{where}/sshd"], stderr=subprocess.DEVNULL
        )
        listening(port, self.server)
        self.child = subprocess.Popen(
            ["ssh", "-N", "-F", "none", "-p", str(port), "-i", f"{where}/user", "-c", CIPHER,
             "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={where}/known", "-o", "ExitOnForwardFailure=yes",
             # Said once the forward listens; to connect to it would be a connection for whoever is behind it.
             "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo up",
             "-L", f"127.0.0.1:{self.local}:127.0.0.1:{remote}", "127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        if not self.child.stdout.readline():
            raise SystemExit("ssh -L does not come up")

    def close(self):
        for child in self.child, self.server:
            child.terminate()
            child.wait()
        self.directory.cleanup()


def listening(port, child):
    """Until somebody listens there."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if child.poll() is not None:
            raise SystemExit(f"{child.args[0]} ended with {child.returncode}")
        time.sleep(0.01)


def greet(stream):
    with contextlib.suppress(OSError), stream:
        stream.sendall(b"!")
        stream.recv(1)


def first_bytes(port, count):
    """From connect to the first byte, the median of so many connections, in milliseconds."""
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as stream:
            assert stream.recv(1) == b"!"
            took.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(took)


def in_turn(rounds, *measures):
    """The medians of measurements that are made in turn."""
    samples = [[] for _ in measures]
    for _ in range(rounds):
        for slot, measure in enumerate(measures):
            samples[slot].append(measure())
    return [statistics.median(sample) for sample in samples]


def throughput(forward, seconds, *options):
    """One run through a forward of its own; the first two seconds, in which the path is found, do not count."""

    def measure():
        with Iperf() as server:
            way = forward(server.port)
            mbits = iperf(way.local, seconds, "-O", "2", *options)
            way.close()
        return mbits

    return measure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coderctl", default=os.path.join(HERE, "..", "target", "release", "coderctl"))
    parser.add_argument("--coder", default="coder", help="the Go client to compare with")
    parser.add_argument("--workspace", default="dev", help="a workspace with the Go agent")
    parser.add_argument("--ours", required=True, help="a workspace whose agent is `coderctl agent`")
    parser.add_argument("--against", help="another build of coderctl, for the row of that name")
    parser.add_argument("--theirs", help="a workspace whose agent is of that build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of one iperf3 run")
    parser.add_argument("--rows", default=",".join(ROWS))
    args = parser.parse_args()
    rows = args.rows.split(",")

    env = {**os.environ, "CODER_DISABLE_DIRECT_CONNECTIONS": "false", "CODER_NO_VERSION_WARNING": "true"}
    coderctl, coder = os.path.abspath(args.coderctl), os.path.abspath(args.coder)

    def ours(*remotes):
        return Forward(coderctl, args.ours, env, *remotes)

    def theirs(remote):
        return Forward(coder, args.workspace, env, remote)

    ways = [("up", []), ("down", ["-R"])]
    if "pair" in rows:
        for way, options in ways:
            medians = in_turn(
                args.rounds, throughput(ours, args.seconds, *options), throughput(theirs, args.seconds, *options)
            )
            say("pair", f"our pair ÷ a Go pair, direct, {way}", *medians, "Mbit/s", "≥ 4")
    if "ssh" in rows:
        for way, options in ways:
            medians = in_turn(
                args.rounds, throughput(ours, args.seconds, *options), throughput(SshForward, args.seconds, *options)
            )
            say("ssh", f"our pair ÷ ssh -L, {way}", *medians, "Mbit/s", "≥ 1.0")
    if "ten" in rows:
        for way, options in ways:
            ten = throughput(ours, args.seconds, "-P", str(STREAMS), *options)
            medians = in_turn(args.rounds, ten, throughput(ours, args.seconds, *options))
            say("ten", f"ten streams ÷ one, {way}", *medians, "Mbit/s", "≥ 0.8")
    if "beside" in rows:
        for way, options in ways:
            medians = in_turn(args.rounds, *beside(ours, args.seconds, *options))
            say("beside", f"one stream beside 1,000 idle ÷ alone, {way}", *medians, "Mbit/s", "≥ 0.9")
    if "against" in rows:
        pairs = [(coderctl, args.ours), (os.path.abspath(args.against), args.theirs)]
        for way, options in ways:
            for what, streams, idle in ("one stream", 1, 0), (f"{STREAMS} streams", STREAMS, 0), (f"beside {IDLE} idle", 1, IDLE):
                rates, costs = against(pairs, args, env, "-P", str(streams), *options, idle=idle)
                say("against", f"{what}, direct, {way}", *rates, "Mbit/s", "≥ 1.0")
                say("", "    CPU, both ends", *costs, "s/Gbit", "≤ 1.0")
    for row, answer, measure in ("echo", echo, round_trips), ("first", greet, first_bytes):
        if row in rows:
            with serving(answer) as port:
                forwards = [ours(port), SshForward(port)]
                # The direct path is there, and everything warm.
                for forward in forwards:
                    measure(forward.local, 1000)
                medians = in_turn(args.rounds, *(lambda f=f: measure(f.local, 500) for f in forwards))
                for forward in forwards:
                    forward.close()
            say(row, f"{measure.__name__.replace('_', ' ')}, median, ÷ ssh -L", *medians, "ms", "≤ 1.0")


def agent_of(binary, workspace, env):
    """The process of a workspace's agent: the parent of what it runs."""
    command = [binary, "ssh", workspace, "--", "echo $PPID"]
    return int(subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout)


def against(pairs, args, env, *options, idle=0):
    """Medians of each build with its agent: Mbit/s, and seconds of both ends' CPU for each Gbit."""
    agents = [agent_of(binary, workspace, env) for binary, workspace in pairs]
    rates, costs = [[], []], [[], []]
    for _ in range(args.rounds):
        for slot, (binary, workspace) in enumerate(pairs):
            with Iperf() as server, serving(echo) as quiet:
                forward = Forward(binary, workspace, env, server.port, quiet)
                with crowd(forward.locals[1], idle):
                    before = cpu(agents[slot]) + forward.cpu()
                    mbits = iperf(forward.local, args.seconds, "-O", "2", *options)
                    spent = cpu(agents[slot]) + forward.cpu() - before
                rates[slot].append(mbits)
                # What was carried before the measurement counts has cost as much.
                costs[slot].append(spent / (mbits * (args.seconds + 2) / 1e3))
                forward.close()
    return [[statistics.median(sample) for sample in samples] for samples in (rates, costs)]


@contextlib.contextmanager
def crowd(port, count):
    """So many idle connections that are through, not only accepted on this side."""
    with contextlib.ExitStack() as idle:
        for _ in range(count):
            stream = idle.enter_context(socket.create_connection(("127.0.0.1", port)))
            stream.sendall(b"?")
            assert stream.recv(1) == b"?"
        yield


def beside(forward, seconds, *options):
    """Two measurements: one stream beside a thousand idle connections, and one alone."""

    def crowded():
        with Iperf() as server, serving(echo) as quiet:
            way = forward(server.port, quiet)
            with crowd(way.locals[1], IDLE):
                mbits = iperf(way.local, seconds, "-O", "2", *options)
            way.close()
        return mbits

    return crowded, throughput(forward, seconds, *options)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()
