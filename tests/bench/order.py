#!/usr/bin/env python3
"""Lists the functions that a server runs, for the linker to put them beside each other.

    tests/bench/order.py [--target target/dist]

The kernel maps a program's pages by 64 kB around each that is touched, so functions that are run
and strewn among those that are not take several times their size of memory. This builds the program
with the profile dist, runs it under callgrind beside the tests' API server, sends it typical queries,
and writes the prefixes of the names of what has run into `link/hot.ld`. The image and `just bench` give
it to the linker (`-C link-arg=-Tlink/hot.ld`); no other build does.

Names are those of the compiler without its hashes, cut where every function with that prefix has run,
so the list outlives most changes of the program and of its dependencies: a function that is missing
costs memory and nothing else. `just bench` reports how much of the list still matches ([`matching`]).
Needs valgrind, knotd and dig.
"""

import argparse
import bisect
import os
import re
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from servers import Stage, answers, installed

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "link/hot.ld"
# Octets of functions that do not run, taken along to save a line of the list.
LINE = 1000
# Octets of a beginning: some names are those of all the types that a function is made for.
LONGEST = 160
HEAD = """/* Written by tests/bench/order.py: functions that a server runs, by the beginnings of their names.
   It adds to the linker's own script and takes the place of nothing in it. */
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", default="target/dist", help="where the build of the profile dist is")
    target = Path(parser.parse_args().target).resolve()
    for program in ("valgrind", "knotd", "dig"):
        if not installed(program):
            raise SystemExit(f"{program} is needed")
    directory = ["--target-dir", target.parent]
    program = "cargo rustc --profile dist --locked --bin lodestone".split()
    link = ["--", "-C", f"link-arg=-T{SCRIPT}"]
    subprocess.run([*program, *directory, *link], check=True, cwd=ROOT)
    api_server = "cargo build --profile dist --locked --example apiserver".split()
    subprocess.run([*api_server, *directory], check=True, cwd=ROOT)
    with tempfile.TemporaryDirectory(prefix="lodestone-order-") as directory:
        os.chmod(directory, 0o755)
        stage = Stage(Path(directory), target)
        try:
            ran = run(stage)
        finally:
            stage.close()
    patterns = beginnings(*sizes(target / "lodestone", ran))
    lines = "".join(f"    *(.text*{pattern}*)\n" for pattern in patterns)
    # Objects of C are not cut into functions: the allocator's are taken whole.
    lines += "    *libtikv_jemalloc_sys*:*(.text .text.*)\n"
    SCRIPT.write_text(f"{HEAD}SECTIONS {{\n  .text.hot : {{\n{lines}  }}\n}} INSERT BEFORE .text;\n")
    print(f"{SCRIPT}: {len(patterns)} beginnings of names")


def matching(program):
    """How many entries of the list match a function of the program, and how many there are."""
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    names = sorted(line.split()[-1] for line in listed.splitlines() if re.search(r" [tTwW] ", line))
    entries = re.findall(r"\*\(\.text\*(\S+)\*\)", SCRIPT.read_text())

    def matches(entry):
        if "*" in entry:
            pattern = re.compile(".*".join(map(re.escape, entry.split("*"))))
            return any(map(pattern.match, names))
        place = bisect.bisect_left(names, entry)
        return place < len(names) and names[place].startswith(entry)

    return sum(map(matches, entries)), len(entries)


def run(stage):
    """The names of the functions that a server's work has called."""
    stage.api_server(1000, 5000, 0)
    zone = "example. 60 SOA ns.example. x.example. 1 2 3 4 60\nexample. 60 NS ns.example.\n*.example. 60 A 192.0.2.1\n"
    upstream = stage.knot("upstream", {"example": stage.write("example.zone", zone)})
    answers(upstream, "n1.example")
    counts = stage.home / "counts"
    valgrind = f"exec valgrind --tool=callgrind --demangle=no --callgrind-out-file={counts}"
    wrapper = stage.write("lodestone.sh", f'#!/bin/sh\n{valgrind} {stage.target}/lodestone "$@"\n')
    wrapper.chmod(0o755)
    server = stage.cluster_server("ordered", wrapper, upstream.port)
    for number in range(20):
        service, name = f"service-{number}.team-{number}.svc.cluster.local", f"n{number}.example"
        ask(server, service)
        ask(server, service, "AAAA")
        ask(server, f"_http._tcp.{service}", "SRV")
        ask(server, f"{name}.team-{number}.svc.cluster.local")
        ask(server, f"{number}.0.96.10.in-addr.arpa", "PTR")
        ask(server, name)
        ask(server, name)
        ask(server, service, "A", "+tcp")
        ask(server, name, "A", "+tcp")
    stage.tell_api("churn 50 2")
    stage.tell_api("relist", wait=False)
    text = (stage.home / "ordered.Corefile").read_text()
    page = re.search(r"prometheus (\S+)", text)[1]
    for _ in range(2):
        urllib.request.urlopen(f"http://{page}/metrics", timeout=60).read()
    os.killpg(server.pid, signal.SIGINT)
    server.process.wait(120)
    found = re.findall(r"^c?fn=\(\d+\) (\S+)", counts.read_text(errors="replace"), re.M)
    return {re.sub(r"'\d+$", "", name) for name in found}


def ask(server, name, rtype="A", *more):
    command = ["dig", f"-p{server.port}", "@127.0.0.1", name, rtype, "+time=20", *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def stem(symbol):
    """A function's name without what the compiler makes anew each time."""
    legacy = re.match(r"(_ZN.*?17h)[0-9a-f]{16}E", symbol)
    if legacy:
        return legacy[1][:LONGEST]
    return re.sub(r"Cs[0-9A-Za-z]*_", "Cs*_", symbol)[:LONGEST] if symbol.startswith("_R") else None


def sizes(program, ran):
    """Octets of the functions of each name: all of them, and those that have run."""
    listed = subprocess.run(["nm", "-S", program], capture_output=True, text=True, check=True).stdout
    octets, hot, seen = {}, {}, set()
    for line in listed.splitlines():
        fields = line.split(None, 3)
        if len(fields) < 4 or fields[2] not in "tTwW" or fields[0] in seen:
            continue
        seen.add(fields[0])
        name, size = stem(fields[3]), int(fields[1], 16)
        if name:
            octets[name] = octets.get(name, 0) + size
            hot[name] = hot.get(name, 0) + (size if fields[3] in ran else 0)
    return octets, hot


def beginnings(octets, hot):
    """The beginnings of names that take in all that runs, and as little else as is worth it; those
    first of which most runs."""
    names = sorted(octets)

    def best(low, high):
        """What names[low:high] cost, and the beginnings that are meant."""
        runs = sum(hot[name] for name in names[low:high])
        if runs == 0:
            return 0, []
        all_of_it = sum(octets[name] for name in names[low:high])
        begin = os.path.commonprefix([names[low], names[high - 1]])
        together = LINE + all_of_it - runs, [(runs / all_of_it, begin)]
        if low + 1 == high:
            return together
        cost, apart = 0, []
        while low < high:
            next_low = low + 1
            letter = names[low][len(begin) : len(begin) + 1]
            while next_low < high and names[next_low][len(begin)] == letter:
                next_low += 1
            more, patterns = best(low, next_low)
            cost, apart, low = cost + more, apart + patterns, next_low
        return min(together, (cost, apart))

    return [begin for _, begin in sorted(best(0, len(names))[1], reverse=True)]


if __name__ == "__main__":
    main()
