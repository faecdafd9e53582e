#!/usr/bin/env python3
"""One pod floods the server: what another pod sees.

A quiet client at 127.0.0.3 sends local names (from `hosts`, as the cluster's would be served) and outside names at
a low rate, over UDP. A loud one at 127.0.0.2 sends as much as is asked for, over UDP or TCP: local names, or different
outside names, which an upstream answers or leaves unanswered. The quiet client's times and losses are compared with
those without the loud one.

The server has one core. The clients and the upstream stand for other machines and share another core: the quiet
client first, then the upstream, then the loud one.
"""

import argparse
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from common import LOCAL, OUTSIDE, RCODES, Server, free_port, query, servers, table

LOUD, QUIET = "127.0.0.2", "127.0.0.3"
SOCKETS = 20
CORES = sorted(os.sched_getaffinity(0))
# Names and transport of the flood, and what else is special.
LOADS = [
    (None, None, None),
    ("local", "udp", None),
    ("local", "tcp", None),
    ("outside", "udp", None),
    ("outside", "tcp", None),
    ("outside", "udp", "silent upstream"),
]
REPLY_TIMEOUT = 2.0


def corefile(port, upstream, metrics):
    return f""".:{port} {{
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    hosts {{
        192.0.2.1 {LOCAL}
        fallthrough
    }}
    cache 30
    forward . 127.0.0.1:{upstream}
}}
"""


def upstream_corefile(port):
    return f""".:{port} {{
    bind 127.0.0.1
    hosts {{
        192.0.2.1 {LOCAL}
        fallthrough
    }}
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.2"
    }}
}}
"""


def served_core():
    """This process runs on the server's core."""
    os.sched_setaffinity(0, {CORES[0]})


def loud_priority():
    """This process gets the time that the upstream and the quiet client leave."""
    os.nice(19)


class Flood:
    """dnsperf from the loud client's address."""

    def __init__(self, port, names, rate, seconds, transport):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".queries")
        self.file.write("".join(f"{name} A\n" for name in names))
        self.file.flush()
        command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-a", LOUD, "-d", self.file.name]
        command += ["-l", str(seconds), "-Q", str(rate), "-c", "20", "-q", "60000", "-t", "1", "-m", transport]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=loud_priority
        )

    def result(self):
        """Queries sent in a second, and the share of NOERROR replies."""
        text = self.process.communicate()[0]
        sent = int(re.search(r"Queries sent:\s+(\d+)", text)[1])
        elapsed = float(re.search(r"Run time \(s\):\s+([\d.]+)", text)[1])
        good = re.search(r"NOERROR (\d+)", text)
        return sent / elapsed, int(good[1] if good else 0) / max(sent, 1)


class Quiet:
    """Sends at a low rate, and keeps the time of each reply by the kind of its name."""

    def __init__(self, port, rate):
        self.rate, self.selector, self.pending = rate, selectors.DefaultSelector(), {}
        self.times = {"local": [], "outside": []}
        self.sent = {"local": 0, "outside": 0}
        self.failed = {"local": 0, "outside": 0}
        self.sockets = []
        for _ in range(SOCKETS):
            one = socket.socket(type=socket.SOCK_DGRAM)
            one.setblocking(False)
            one.bind((QUIET, 0))
            one.connect(("127.0.0.1", port))
            self.selector.register(one, selectors.EVENT_READ)
            self.sockets.append(one)

    def run(self, seconds, has_outside):
        begun, number = time.monotonic(), 0
        while number < seconds * self.rate or self.pending:
            due = begun + number / self.rate
            now = time.monotonic()
            if number < seconds * self.rate and now >= due:
                # Every tenth is an outside name.
                kind = "outside" if has_outside and number % 10 == 9 else "local"
                name = LOCAL if kind == "local" else f"q{number}.{OUTSIDE}"
                self.sent[kind] += 1
                self.pending[number & 0xFFFF] = (kind, time.monotonic())
                self.sockets[number % SOCKETS].send(query(number & 0xFFFF, name))
                number += 1
                continue
            wait = due - now if number < seconds * self.rate else 0.1
            self.receive(max(0, wait))

    def receive(self, timeout):
        for key, _ in self.selector.select(timeout):
            reply = key.fileobj.recv(4096)
            kind, sent = self.pending.pop(int.from_bytes(reply[:2], "big"), (None, 0))
            if kind is None:
                continue
            if RCODES.get(reply[3] & 15) == "NOERROR":
                self.times[kind].append(time.monotonic() - sent)
            else:
                self.failed[kind] += 1
        now = time.monotonic()
        for number, (_, sent) in list(self.pending.items()):
            if now - sent < REPLY_TIMEOUT:
                break
            self.pending.pop(number)

    def percentile(self, kind, part):
        times = sorted(self.times[kind])
        return times[min(len(times) - 1, int(len(times) * part))] if times else float("nan")

    def answered(self, kind):
        return len(self.times[kind]) / max(self.sent[kind], 1)


def with_priority():
    """The quiet client waits for replies, and not for a processor that the flood or the server has."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        print("not root: the times have the quiet client's own waits for a processor", file=sys.stderr)


def shed(port):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    counts = re.findall(r'^lodestone_overload_shed_total\{class="(\w+)"\} (\d+)', text, re.M)
    return ", ".join(f"{int(count)} {name}" for name, count in counts if count != "0") or "-"


def run(program, load, chosen):
    names, transport, at = load
    upstream_port, port, metrics = free_port(), free_port(), free_port()
    silent = socket.socket(type=socket.SOCK_DGRAM)
    upstream, flood = None, None
    if at == "silent upstream":
        silent.bind(("127.0.0.1", upstream_port))
    else:
        lodestone = servers()[0][1]
        upstream = Server(lodestone, upstream_corefile(upstream_port), upstream_port).wait_until_served()
    server = Server(program, corefile(port, upstream_port, metrics), port, before=served_core).wait_until_served()
    if names is not None:
        outside = (f"f{number}.{OUTSIDE}" for number in range(1_000_000))
        names = [LOCAL] if names == "local" else outside
        flood = Flood(port, names, chosen.rate, chosen.seconds + 2, transport)
        time.sleep(1)
    with_priority()
    quiet = Quiet(port, chosen.quiet)
    quiet.run(chosen.seconds, upstream is not None)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    rate, good = flood.result() if flood else (0, 1)
    row = [f"{rate:,.0f}", f"{good:.0%}", f"{quiet.answered('local'):.2%}"]
    row += [f"{1000 * quiet.percentile('local', part):.2f} ms" for part in (0.5, 0.99)]
    if upstream is not None:
        row += [f"{quiet.answered('outside'):.1%}", f"{1000 * quiet.percentile('outside', 0.99):.1f} ms"]
    else:
        row += ["-", "-"]
    row += [shed(metrics)]
    for one in (server, upstream):
        if one is not None:
            one.stop()
    silent.close()
    return row, quiet.percentile("local", 0.99)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=100_000, help="queries a second of the loud client (default: 100000)")
    options.add_argument("--quiet", type=int, default=500, help="queries a second of the quiet one (default: 500)")
    options.add_argument("--seconds", type=int, default=10, help="for each load (default: 10)")
    chosen = options.parse_args()
    if shutil.which("dnsperf") is None:
        sys.exit("dnsperf is not installed; Debian's package is dnsperf")
    if len(CORES) < 2:
        sys.exit("two cores are needed")
    os.sched_setaffinity(0, {CORES[1]})
    rows = []
    for name, program in servers():
        usual = None
        for load in LOADS:
            row, p99 = run(program, load, chosen)
            usual = usual or p99
            rows.append((*(it or "-" for it in load), name, *row, f"{p99 / usual:.1f}"))
    print(f"quiet client: {chosen.quiet} queries/s, a tenth for outside names; one core for the server")
    head = ("flood of names", "over", "at", "server", "flood, queries/s", "of it NOERROR", "quiet: local answered", "p50", "p99")
    head += ("outside answered", "p99", "shed", "p99 of local, times that without flood")
    table(head, rows)


if __name__ == "__main__":
    main()
