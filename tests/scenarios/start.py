#!/usr/bin/env python3
"""A start: the time from the execution of a server to `/ready` and to an answer, and its memory, in a small and in a large cluster.

Servers take turns for some rounds; the median of each is printed, with the least and the most. The Corefile is
kubeadm's, and the API server the tests', without TLS: what it costs is the same for both.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from common import Server, ask, free_port, servers, table

CLUSTERS = [("small: 20 Services, 40 endpoints", 20, 40), ("10,000 Services, 50,000 endpoints", 10_000, 50_000)]
SETTLED = 3  # seconds after which memory is read


def corefile(port, ready, api):
    return f""".:{port} {{
    bind 127.0.0.1
    errors
    health 127.0.0.1:{free_port()}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint http://127.0.0.1:{api}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus 127.0.0.1:{free_port()}
    forward . 127.0.0.1:{free_port()}
    cache 30
    reload
    loadbalance
}}
"""


def is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def megabytes(pid, field):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def run(program, api, services):
    port, ready = free_port(), free_port()
    begun = time.monotonic()
    server = Server(program, corefile(port, ready, api), port)
    while not is_ready(ready):
        if not server.is_alive() or time.monotonic() - begun > 60:
            server.log.seek(0)
            sys.exit(f"{program} is not ready:\n{server.log.read().decode(errors='replace')}")
        time.sleep(0.002)
    to_ready = time.monotonic() - begun
    # CoreDNS's page says so before the server listens.
    last = f"service-{services - 1}.team-{(services - 1) % 50}.svc.cluster.local"
    while (rcode := ask(port, last, 0.5)) != "NOERROR":
        if time.monotonic() - begun > 60:
            sys.exit(f"{program}: {last} is {rcode} after it is ready")
        time.sleep(0.002)
    to_answer = time.monotonic() - begun
    time.sleep(SETTLED)
    pid = server.process.pid
    cpu = server.cpu()
    rss, peak = megabytes(pid, "VmRSS"), megabytes(pid, "VmHWM")
    server.stop()
    return to_ready, to_answer, cpu, rss, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--api",
        default=os.environ.get("APISERVER", "target/release/examples/apiserver"),
        help="the tests' API server (cargo build --release --example apiserver)",
    )
    arguments = parser.parse_args()
    if not os.access(arguments.api, os.X_OK):
        sys.exit(f"{arguments.api} cannot be executed: cargo build --release --example apiserver")
    rows = []
    for what, services, endpoints in CLUSTERS:
        port = free_port()
        command = [str(Path(arguments.api).resolve()), str(port), str(services), str(endpoints)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as api:
            api.stdout.readline()
            samples = {}
            for _ in range(arguments.rounds):
                for kind, program in servers():
                    samples.setdefault(kind, []).append(run(program, port, services))
            api.kill()
        for kind, taken in samples.items():
            to_ready, to_answer, cpu, rss, peak = zip(*taken)
            seconds = [spread(each, "s", 3) for each in (to_ready, to_answer, cpu)]
            rows.append([what, kind, *seconds, spread(rss, "MB", 1), spread(peak, "MB", 1)])
    table(["cluster", "server", "ready after", "first answer after", "processor time", "RSS", "RSS at its highest"], rows)


def spread(values, unit, digits):
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
