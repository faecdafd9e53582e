#!/usr/bin/env python3
"""Lodestone beside other servers, on the same names, in turns: what a query costs each of them.

    just bench [--rounds N] [--seconds N] [--rows a,nx,...]

Knot and NSD serve the cluster's zone as Lodestone transfers it, Unbound and dnsdist forward to the
same upstream, CoreDNS watches the same API server. What is not installed is left out; CoreDNS is
the program that COREDNS names, or `coredns` on PATH. In each round all servers of a row are asked
one after the other, so that a ratio compares what was measured within seconds; the table tells the
median of the rounds. CPU is the server's alone, user and system, over the answered queries.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

import load
import order
from servers import CORES, Stage, answers, installed

SERVICES, ENDPOINTS, PODS, HEADLESS, OUTSIDE = 10_000, 50_000, 150_000, 1_000, 1_000
FEWEST = 2_000  # answers of a turn that says anything
PROBES = 2_000  # queries a second whose delays are measured among many others
RATE = 10_000  # queries a second where delays are measured: far from what any of them can do

# What a row asks, of whom, and what must come. The first two servers make the row's ratios.
ROWS = {
    "a": ("A of a ClusterIP Service", ["knot", "nsd", "coredns"], "NOERROR", []),
    "nx": ("NXDOMAIN in the cluster's zone", ["knot", "nsd", "coredns"], "NXDOMAIN", []),
    "nx-edns": ("NXDOMAIN with EDNS: with the reason", ["knot", "nsd", "coredns"], "NXDOMAIN", ["-e"]),
    "srv": ("SRV of a headless Service, 3 endpoints", ["knot", "nsd", "coredns"], "NOERROR", []),
    "cached": ("cached outside name", ["unbound", "coredns"], "NOERROR", []),
    "miss": ("forwarded, in no cache", ["dnsdist", "coredns"], "NOERROR", []),
    "log": ("A, every query logged to a pipe", ["unlogged"], "NOERROR", []),
    "tcp": ("A by TCP, 16 connections, pipelined", ["knot", "nsd", "coredns"], "NOERROR", ["-m", "tcp"]),
    "hickory": ("A, beside hickory-server's loop", ["hickory"], "NOERROR", []),
    "hickory-tcp": ("A by TCP, beside hickory-server's loop", ["hickory"], "NOERROR", ["-m", "tcp"]),
}
# Endpoints of headless Services. Over UDP they are asked with EDNS, as most clients do; over TCP by a
# client of our own, since dnsperf cannot read replies of nearly 65,535 bytes.
SIZES = (1, 100, 1_000, 5_000)
TRANSPORTS = {"UDP": load.flood_with_edns, "TCP": load.ask_by_tcp}
TARGETS = {
    ("a", "knot"): 1.0, ("nx", "knot"): 1.0, ("nx-edns", "knot"): 1.0, ("srv", "knot"): 1.2, ("cached", "unbound"): 0.9,
    ("miss", "dnsdist"): 1.0, ("miss", "coredns"): 0.4, ("log", "unlogged"): 2.0, ("tcp", "knot"): 1.2,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", default="target/dist", help="where the build of the profile dist is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each server's turn")
    parser.add_argument("--rows", default=",".join([*ROWS, "sizes", "memory", "start", "churn"]))
    options = parser.parse_args()
    rows = options.rows.split(",")
    with tempfile.TemporaryDirectory(prefix="lodestone-bench-") as directory:
        os.chmod(directory, 0o755)
        stage = Stage(Path(directory), Path(options.target).resolve())
        bench = Bench(stage, options.rounds, options.seconds)
        try:
            bench.prepare(rows)
            bench.machine()
            if "start" in rows:
                bench.start()
            if "memory" in rows:
                bench.memory(rows)
            bench.open(rows)
            for row in ROWS:
                if row in rows:
                    bench.row(row)
            if "log" in rows:
                bench.count_lines()
            if "sizes" in rows:
                bench.sizes()
            bench.weigh()
            if "churn" in rows:
                bench.churn()
            print("\n" + bench.page())
        finally:
            stage.close()


class Bench:
    def __init__(self, stage, rounds, seconds):
        self.stage, self.rounds, self.seconds = stage, rounds, seconds
        self.servers, self.samples, self.waits, self.facts = {}, {}, {}, []
        self.by_size = {}
        self.lodestone = stage.target / "lodestone"
        self.coredns = os.environ.get("COREDNS", "coredns")
        self.note_other_coredns()

    def note_other_coredns(self):
        """Says so where CoreDNS is not of the version that src/lib.rs names."""
        source = (Path(__file__).parents[2] / "src/lib.rs").read_text()
        wanted = re.search(r'pub const COREDNS: &str = "([^"]+)"', source).group(1)
        if not installed(self.coredns):
            return
        said = subprocess.run([self.coredns, "-version"], capture_output=True, text=True).stdout
        if f"CoreDNS-{wanted}" not in said:
            print(f"CoreDNS here is not {wanted}: {said.splitlines()[-3:]}", flush=True)

    def fact(self, what, measured, target=""):
        self.facts.append((what, measured, target))
        print(f"{what}: {measured} (target: {target})", flush=True)

    # What is asked and what answers

    def prepare(self, rows):
        if not installed("dnsperf") or not installed("dig"):
            raise SystemExit("dnsperf and dig are needed: packages dnsperf and bind9-dnsutils")
        stage = self.stage
        stage.api_server(SERVICES, ENDPOINTS, PODS if {"memory"} & set(rows) else 0)
        outside = [f"n{number}.example." for number in range(OUTSIDE)]
        zone = ["example. 3600 SOA ns.example. x.example. 1 2 3 4 60", "example. 3600 NS ns.example."]
        zone += ["ns.example. 3600 A 192.0.2.1", "*.miss.example. 3600 A 192.0.2.2"]
        zone += [f"{name} 3600 A 192.0.2.{number % 250 + 1}" for number, name in enumerate(outside)]
        file = stage.write("example.zone", "\n".join(zone) + "\n")
        if not installed("knotd"):
            raise SystemExit("knotd is needed, if only as the upstream: package knot")
        self.upstream = stage.knot("upstream", {"example": file})
        answers(self.upstream, "n0.example")
        self.names = {"cached": self.write_names("cached", [f"{name} A" for name in outside])}

    def open(self, rows):
        """Starts all that is compared, on names that are the same for all."""
        stage, upstream, servers = self.stage, self.upstream.port, self.servers
        objects = headless() + ([it for size in SIZES for it in sized(size)] if "sizes" in rows else [])
        stage.write("headless.json", json.dumps(objects))
        print(stage.tell_api(f"apply {stage.home}/headless.json").decode().strip(), flush=True)
        source = stage.cluster_server("source", self.lodestone, upstream, extra="transfer {\n to *\n }")
        wanted = {name for row in rows if row in ROWS for name in ROWS[row][1]}
        if "sizes" in rows:
            wanted.add("coredns")
        zone = stage.zone_of(source, "cluster.local")
        stage.stop(source)
        servers["lodestone"] = stage.cluster_server("lodestone", self.lodestone, upstream)
        if "hickory" in wanted:
            servers["hickory"] = stage.cluster_server("hickory", self.lodestone, upstream, flags=["-hickory"])
        if "unlogged" in wanted:
            pipe = subprocess.PIPE
            self.reader = subprocess.Popen(["wc", "-l"], stdin=pipe, stdout=pipe, text=True)
            servers["logged"] = stage.cluster_server(
                "logged", self.lodestone, upstream, extra="log", stdout=self.reader.stdin
            )
            self.reader.stdin.close()
        if "knot" in wanted:
            servers["knot"] = stage.knot("knot", {"cluster.local": zone})
        if "nsd" in wanted and installed("nsd"):
            servers["nsd"] = stage.nsd({"cluster.local": zone})
        if "unbound" in wanted and installed("unbound"):
            servers["unbound"] = stage.unbound(upstream)
        if "dnsdist" in wanted and installed("dnsdist"):
            servers["dnsdist"] = stage.dnsdist(upstream)
        if "coredns" in wanted and installed(self.coredns):
            servers["coredns"] = stage.cluster_server("coredns", self.coredns, upstream)
        for name, server in servers.items():
            answers(server, "n1.example" if name in ("unbound", "dnsdist") else "service-1.team-1.svc.cluster.local")
        numbers = random.Random(1).sample(range(SERVICES), SERVICES)
        self.names["a"] = self.write_names("a", [f"{service(it)} A" for it in numbers])
        for row in ("log", "tcp", "hickory", "hickory-tcp"):
            self.names[row] = self.names["a"]
        walk = ["team-%d.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        nowhere = (f"www.shop-{it}.example.{walk[it % 3].replace('%d', str(it % 50))} A" for it in numbers)
        self.names["nx"] = self.names["nx-edns"] = self.write_names("nx", nowhere)
        ports = (f"_http._tcp.{headless_name(it % HEADLESS)} SRV" for it in numbers)
        self.names["srv"] = self.write_names("srv", ports)

    def write_names(self, name, lines):
        return self.stage.write(f"{name}.names", "\n".join(lines) + "\n")

    # Rows of the table

    def row(self, row):
        what, against, code, options = ROWS[row]
        names = ["logged" if row == "log" else "lodestone"]
        names += ["lodestone" if name == "unlogged" else name for name in against]
        names = [name for name in names if name in self.servers]
        for turn in range(self.rounds):
            for name in names if turn % 2 == 0 else names[::-1]:
                server = self.servers[name]
                asked = self.names.get(row) or self.misses(turn)
                if row == "cached":
                    load.flood(server, asked, 0.5)
                sample = load.flood(server, asked, self.seconds, *options)
                if sample.answered < FEWEST:
                    # The machine was elsewhere, and a server's patience with a stream has ended.
                    sample = load.flood(server, asked, self.seconds, *options)
                sample.expect(name, row, code)
                self.samples.setdefault((row, name), []).append(sample)
                if row not in ("log", "tcp", "miss", "hickory-tcp"):
                    self.waits.setdefault((row, name), []).append(load.delays(server, asked, 1, RATE))
            told = ", ".join(f"{name} {self.samples[row, name][-1].micros:.2f}" for name in names)
            print(f"{row}, round {turn + 1}: us of CPU a query: {told}", flush=True)

    def misses(self, turn):
        """Names that nobody has asked for; one file at a time, for it is large."""
        self.asked_for = getattr(self, "asked_for", 0) + 1
        return self.write_names(
            "misses", (f"x{it}-{self.asked_for}-{turn}.miss.example A" for it in range(400_000))
        )

    def ratio(self, row, name):
        mine = self.samples[row, "logged" if row == "log" else "lodestone"]
        theirs = self.samples.get((row, "lodestone" if name == "unlogged" else name))
        if theirs:
            pairs = [(a.micros, b.micros) for a, b in zip(mine, theirs) if b.answered >= FEWEST]
            return load.median(a / b for a, b in pairs) if pairs else float("nan")
        return None

    def sizes(self):
        """What a query costs by the endpoints of its Service: it should follow from what is sent, so
        that over UDP it stands still where a datagram is full."""
        who = [name for name in ("lodestone", "coredns") if name in self.servers]
        for rtype in ("A", "SRV"):
            for transport, ask in TRANSPORTS.items():
                for size in SIZES:
                    asked = self.write_names(f"size-{size}-{rtype}", [f"{sized_name(size)} {rtype}"])
                    for turn in range(self.rounds):
                        for name in who if turn % 2 == 0 else who[::-1]:
                            sample = ask(self.servers[name], asked, self.seconds)
                            sample.expect(name, f"{rtype} of {size}", "NOERROR")
                            key = (rtype, transport, name)
                            self.by_size.setdefault(key, {}).setdefault(size, []).append(sample.micros)
                told = ", ".join(f"{name} {self.medians(rtype, transport, name)}" for name in who)
                print(f"{rtype} by {transport}: us of CPU a query: {told}", flush=True)

    def medians(self, *key):
        return [round(load.median(self.by_size[key][size]), 1) for size in SIZES]

    def churn(self):
        """Delays at half of what it can do, and the same while slices change. Half of what it can do
        beside its client keeps two cores busy, and how long whoever is ready waits for one is chance:
        so a quarter of it is measured as well."""
        server = self.servers["lodestone"]
        # Whoever else follows the same API server would work at each change, on the same two cores.
        for other in [name for name in self.servers if name != "lodestone"]:
            self.stage.stop(self.servers.pop(other))
        most = load.median(load.flood(server, self.names["a"], 1).per_second for _ in range(3))
        for share, what, target in [(2, "half", "<= 1.5"), (4, "a quarter of the", "")]:
            rate = int(most / share)
            quiet, busy = [], []
            for _ in range(self.rounds):
                quiet.append(self.p99(server, rate))
                self.stage.tell_api("churn 1000 5", wait=False)
                time.sleep(1)
                busy.append(self.p99(server, rate))
                self.stage.api.process.stdout.readline()
            print(f"p99 at {rate} queries a second: {quiet}, with changes {busy}", flush=True)
            ratio = load.median(b / a for a, b in zip(quiet, busy))
            text = f"{load.median(quiet):.2f} ms, with changes {load.median(busy):.2f} ms: {ratio:.2f} times"
            self.fact(f"p99 at {what} load ({rate} queries a second), 1,000 slices a second", text, target)

    def p99(self, server, rate):
        return load.at(load.delays_under(server, self.names["a"], 3, rate, PROBES), 0.99)

    def start(self):
        """From the start of the process to ready, beside the same lists read and decoded alone."""
        ours, alone, theirs = [], [], []
        for _ in range(self.rounds):
            command = [self.stage.target / "examples/watch-cost", self.stage.url, "0", "decode"]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            alone.append(float(re.search(r"decoded after ([\d.]+) ms", text)[1]) / 1000)
            server = self.stage.cluster_server("first", self.lodestone, self.upstream.port)
            ours.append(server.took)
            self.stage.stop(server)
        if installed(self.coredns):
            server = self.stage.cluster_server("first", self.coredns, self.upstream.port)
            theirs = f"; CoreDNS {server.took:.2f} s"
            self.stage.stop(server)
        ratio = load.median(a / b for a, b in zip(ours, alone))
        text = f"{load.median(ours):.3f} s, the lists alone {load.median(alone):.3f} s: {ratio:.2f} times"
        self.fact("start to ready, 10,000 Services and 50,000 endpoints", text + (theirs or ""), "<= 1.5")

    def memory(self, rows):
        matching, entries = order.matching(self.lodestone)
        self.fact("entries of link/hot.ld that match", f"{matching} of {entries}", f">= {entries * 9 // 10}")
        for pods, what, target in [
            ("insecure", "10,000 Services, 50,000 endpoints", "<= 25 MB, re-list <= +10 %"),
            ("verified", "the same, and 150,000 pods verified", "<= 60 MB"),
        ]:
            binaries = [("Lodestone", self.lodestone)]
            if pods == "insecure" and installed(self.coredns):
                binaries.append(("CoreDNS", self.coredns))
            for who, binary in binaries:
                server = self.stage.cluster_server("memory", binary, self.upstream.port, pods)
                time.sleep(3)
                before, peak = load.megabytes(server.pid), load.megabytes(server.pid, "VmHWM")
                load.forget_peak(server.pid)
                self.stage.tell_api("relist", wait=False)
                time.sleep(6 if pods == "insecure" else 15)
                again = load.megabytes(server.pid, "VmHWM")
                text = f"{before:.1f} MB ({peak:.1f} at its highest); during a re-list {again:.1f} MB"
                text += f", {(again / before - 1) * 100:+.0f} %"
                self.fact(f"RSS of {who}: {what}", text, target if who == "Lodestone" else "")
                self.stage.stop(server)

    # The page

    def machine(self):
        cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        kernel = platform.release()
        self.where = f"{cpu[1] if cpu else platform.machine()}, {CORES} cores, Linux {kernel}"
        self.load_at_start = os.getloadavg()[0]

    def count_lines(self):
        """A log that drops its lines costs little."""
        asked = sum(sample.answered for sample in self.samples["log", "logged"])
        self.stage.stop(self.servers.pop("logged"))
        share = int(self.reader.stdout.read()) / asked * 100
        self.fact("lines of the log that came through the pipe", f"{share:.0f} %", "100 %")

    def weigh(self):
        sizes = (f"{name} {load.megabytes(server.pid):.0f}" for name, server in self.servers.items())
        self.fact("RSS after all of the rows, in MB", ", ".join(sizes))

    def page(self):
        lines = [
            f"{self.where}; load of other programs at the start {self.load_at_start:.1f}; "
            f"{self.rounds} rounds of {self.seconds} s.",
            "",
            "| work | server | CPU/query | queries/s | p50 | p99 | Lodestone's CPU to it | target |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row, (what, against, _, _) in ROWS.items():
            mine = "logged" if row == "log" else "lodestone"
            for name in [mine, *against]:
                key = (row, "lodestone" if name == "unlogged" else name)
                if key not in self.samples:
                    continue
                cells = self.cells(key)
                ratio = "" if name == mine else f"{self.ratio(row, name):.2f}"
                target = TARGETS.get((row, name))
                cells += [ratio, f"<= {target}" if target else ""]
                lines.append(f"| {what} | {name} | {' | '.join(cells)} |")
        if self.by_size:
            sizes = " | ".join(f"{size:,}" for size in SIZES)
            lines += ["", f"| CPU/query in us, by endpoints | server | {sizes} |", "|---|---|" + "---|" * len(SIZES)]
            for rtype, transport, name in self.by_size:
                cells = " | ".join(map(str, self.medians(rtype, transport, name)))
                lines.append(f"| {rtype} by {transport} | {name} | {cells} |")
        if self.facts:
            lines += ["", "| what | measured | target |", "|---|---|---|"]
            lines += [f"| {' | '.join(fact)} |" for fact in self.facts]
        return "\n".join(lines)

    def cells(self, key):
        samples = self.samples[key]
        cells = [f"{load.median(it.micros for it in samples):.2f} us"]
        cells.append(f"{load.median(it.per_second for it in samples):,.0f}")
        for share in (0.5, 0.99):
            waits = self.waits.get(key)
            cells.append(f"{load.median(load.at(it, share) for it in waits):.2f} ms" if waits else "")
        return cells


def service(number):
    return f"service-{number}.team-{number % 50}.svc.cluster.local"


def headless_name(number):
    return f"headless-{number}.team-{number % 50}.svc.cluster.local"


def headless():
    """Headless Services with three endpoints each, that have hostnames as a StatefulSet's do."""
    objects = []
    for number in range(HEADLESS):
        name, namespace = f"headless-{number}", f"team-{number % 50}"
        spec = {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "http", "port": 80}]}
        metadata = {"name": name, "namespace": namespace}
        objects.append({"kind": "Service", "metadata": metadata, "spec": spec})
        endpoints = [
            {"addresses": [f"10.64.{number // 64}.{number % 64 * 4 + it}"], "hostname": f"{name}-{it}"}
            for it in range(3)
        ]
        labels = {"kubernetes.io/service-name": name}
        objects.append(
            {
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-x", "namespace": namespace, "labels": labels},
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            }
        )
    return objects


def sized_name(size):
    return f"size-{size}.team-0.svc.cluster.local"


def sized(size):
    """A headless Service with so many endpoints, a hundred a slice as the controller makes them."""
    name, labels = f"size-{size}", {"kubernetes.io/service-name": f"size-{size}"}
    spec = {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "http", "port": 80}]}
    objects = [{"kind": "Service", "metadata": {"name": name, "namespace": "team-0"}, "spec": spec}]
    for slice in range(0, size, 100):
        numbers = range(slice, min(slice + 100, size))
        objects.append(
            {
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-{slice}", "namespace": "team-0", "labels": labels},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [f"10.{80 + SIZES.index(size)}.{it // 250}.{it % 250}"]} for it in numbers],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            }
        )
    return objects


if __name__ == "__main__":
    main()
