#!/usr/bin/env python3
"""Exhausted resources: file descriptors, disks, a log that is not read, connections, malformed datagrams, memory.

In each case local names (from `hosts`, or of Services of the tests' API server) are queried from one socket while a
resource is short. Afterwards a row tells whether the process lives, how many of these names were answered, and the
highest memory beside the bound that Lodestone prints at its start.
"""

import argparse
import contextlib
import ctypes
import multiprocessing
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from common import LOCAL, OUTSIDE, ApiServer, Server, api_option, api_program, ask, free_port, name, query, servers
from common import table, wait

LIBC = ctypes.CDLL(None, use_errno=True)


# Senders: processes of their own, so that they do not delay the probe.


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_len", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_len", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_len", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("message", Message), ("sent", ctypes.c_uint32)]


class Datagrams:
    """Datagrams in one buffer, sent many at a time by sendmmsg(2)."""

    BATCH = 256

    def __init__(self, messages):
        self.count = len(messages)
        joined = b"".join(messages)
        self.buffer = bytearray(joined)
        self.iovecs, self.headers = (Iovec * self.count)(), (Header * self.count)()
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        vectors, at = ctypes.addressof(self.iovecs), 0
        for number, message in enumerate(messages):
            self.iovecs[number] = Iovec(base + at, len(message))
            self.headers[number].message.iov = vectors + number * ctypes.sizeof(Iovec)
            self.headers[number].message.iov_len = 1
            at += len(message)

    def send(self, sockets):
        """Sends all, each batch from another socket. Returns their number."""
        at = failures = 0
        while at < self.count:
            one = random.choice(sockets)
            batch = min(self.BATCH, self.count - at)
            sent = LIBC.sendmmsg(one.fileno(), ctypes.byref(self.headers, at * ctypes.sizeof(Header)), batch, 0)
            # An error may be of a former datagram: an ICMP message. The call takes it.
            failures = 0 if sent > 0 else failures + 1
            if failures > 1000:
                sys.exit(f"sendmmsg: {os.strerror(ctypes.get_errno())}")
            at += max(sent, 0)
        return at


def connected(port, count):
    found = []
    for _ in range(count):
        one = socket.socket(type=socket.SOCK_DGRAM)
        # Replies are not read: the kernel drops them.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # As another pod than the probe: clients are told apart by address.
        one.bind(("127.0.0.2", 0))
        one.connect(("127.0.0.1", port))
        found.append(one)
    return found


def mutants(seed, count):
    """Messages made of valid queries by up to four changes."""
    rng = random.Random(seed)
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08" + bytes(range(8))
    names = (LOCAL, f"a.{OUTSIDE}", "x" * 60 + "." + LOCAL)
    valid = [query(1, of, rtype) for of in names for rtype in (1, 28, 33, 255)]
    valid += [it[:11] + b"\1" + it[12:] + opt for it in valid]
    valid += [it[:2] + b"\x29\0" + it[4:] for it in valid[:2]] + [it[:2] + b"\x21\0" + it[4:] for it in valid[:2]]
    found = []
    for _ in range(count):
        message = bytearray(rng.choice(valid))
        for _ in range(rng.randint(1, 4)):
            kind, at = rng.randrange(6), rng.randrange(len(message))
            if kind == 0:
                message[at] = rng.randrange(256)
            elif kind == 1:
                message[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del message[max(at, 1) :]
            elif kind == 3:
                message[at:at] = rng.randbytes(rng.randint(1, 12))
            elif kind == 4:
                # A compression pointer.
                message[at : at + 2] = struct.pack("!H", 0xC000 | rng.randrange(len(message) + 2))
            else:
                message += message[at:]
        found.append(bytes(message[:1400]))
    return found


def send_mutants(port, seed, total, sent):
    rng = random.Random(seed)
    datagrams, sockets = Datagrams(mutants(seed, min(total, 20_000))), connected(port, 64)
    pristine = bytes(datagrams.buffer)
    while sent.value < total:
        sent.value += datagrams.send(sockets)
        # Other bytes are changed in each round.
        begin, step = rng.randrange(64), rng.choice((37, 41, 43, 47))
        count = len(range(begin, len(pristine), step))
        datagrams.buffer[:] = pristine
        datagrams.buffer[begin::step] = rng.randbytes(count)


def send_outside(port, seed, sent):
    """Queries for outside names, all of them different."""
    # The number of the round is in eight letters at the same place of each message.
    messages = [query(number, f"a{number:04}-{seed:02}-00000000.{OUTSIDE}") for number in range(4096)]
    datagrams, sockets = Datagrams(messages), connected(port, 64)
    at, length, number = messages[0].index(b"00000000"), len(messages[0]), 0
    while True:
        sent.value += datagrams.send(sockets)
        number += 1
        for offset, digit in enumerate(f"{number:08}".encode()):
            datagrams.buffer[at + offset :: length] = bytes([digit]) * datagrams.count


def hold_connections(port, count, counts):
    """Keeps connections open without a query; opens another one for each that is closed."""
    poll, sockets, addresses = select.epoll(), {}, 0
    while True:
        while len(sockets) < count:
            one = socket.socket()
            one.setblocking(False)
            # Without TIME_WAIT of this side, and from several addresses: ports do not run out.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            addresses += 1
            try:
                one.bind((f"127.77.{addresses // 250 % 4}.{addresses % 250 + 1}", 0))
                one.connect_ex(("127.0.0.1", port))
            except OSError:
                one.close()
                break
            sockets[one.fileno()] = one
            poll.register(one.fileno(), select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
            counts[0] += 1
            if counts[0] % 100 == 0:
                break
        counts[1] = len(sockets)
        for number, _ in poll.poll(0.01):
            poll.unregister(number)
            sockets.pop(number).close()


@contextlib.contextmanager
def process(target, *arguments):
    one = multiprocessing.Process(target=target, args=arguments, daemon=True)
    one.start()
    try:
        yield one
    finally:
        one.terminate()
        one.join()


# What is measured.


class Probe(threading.Thread):
    """Asks local names one after the other: over UDP from one socket, or each over a new TCP connection."""

    def __init__(self, port, names, pause=0.01, tcp=False):
        super().__init__(daemon=True)
        self.port, self.names, self.pause, self.tcp = port, names, pause, tcp
        self.over, self.times, self.asked, self.wrong = threading.Event(), [], 0, 0
        if not tcp:
            self.socket = socket.socket(type=socket.SOCK_DGRAM)
            self.socket.settimeout(1)
            self.socket.connect(("127.0.0.1", port))

    def run(self):
        while not self.over.wait(self.pause):
            self.once(self.names[self.asked % len(self.names)])

    def once(self, of):
        number = self.asked & 0xFFFF
        self.asked += 1
        begun = time.monotonic()
        reply = self.over_tcp(number, of) if self.tcp else self.over_udp(number, of)
        if reply is not None:
            self.times.append(time.monotonic() - begun)
            self.wrong += reply[3] & 15 != 0 or reply[6:8] != b"\0\1"

    def over_udp(self, number, of):
        try:
            self.socket.send(query(number, of))
            while True:
                reply = self.socket.recv(4096)
                if reply[:2] == struct.pack("!H", number):
                    return reply
        except OSError:
            return None

    def over_tcp(self, number, of):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as one:
                one.settimeout(1)
                message = query(number, of)
                one.sendall(struct.pack("!H", len(message)) + message)
                return one.recv(4096)[2:] or None
        except OSError:
            return None

    def end(self):
        self.over.set()
        self.join()
        return self

    def __str__(self):
        answered = len(self.times)
        if not answered:
            return f"0 of {self.asked}"
        wrong = f", {self.wrong} wrong" if self.wrong else ""
        half, most = (1000 * self.quantile(share) for share in (0.5, 0.99))
        return f"{answered} of {self.asked}{wrong}; {half:.1f}, {most:.0f} ms"

    def quantile(self, share):
        """Of the answered ones."""
        return sorted(self.times)[int(share * (len(self.times) - 1))]


class Watcher(threading.Thread):
    """The highest memory and number of descriptors of a process."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.rss, self.fds, self.over = pid, 0, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            try:
                status = Path(f"/proc/{self.pid}/status").read_text()
                self.rss = max(self.rss, int(re.search(r"VmHWM:\s+(\d+)", status)[1]))
                self.fds = max(self.fds, len(os.listdir(f"/proc/{self.pid}/fd")))
            except (OSError, TypeError):
                pass


class Case:
    """One server in one case, and its row."""

    def __init__(self, kind, program, options):
        self.kind, self.program, self.options = kind, program, options
        self.port, self.pages = free_port(), free_port()
        self.server = self.watcher = None
        self.notes = []

    def corefile(self, plugins, around=""):
        return f""".:{self.port} {{
    bind 127.0.0.1
    prometheus 127.0.0.1:{self.pages}
    {plugins}
}}
{around}"""

    def start(self, plugins, of=LOCAL, **options):
        self.server = Server(self.program, self.corefile(plugins), self.port, **options)
        self.watcher = Watcher(self.server.process.pid)
        deadline = time.monotonic() + 30
        while ask(self.port, of, 0.2) != "NOERROR":
            if not self.server.is_alive() or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return self.server

    def metric(self, of):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.pages}/metrics", timeout=2) as page:
                text = page.read().decode()
        except OSError:
            return None
        values = re.findall(rf"^{of}(?:{{[^}}]*}})? (\S+)$", text, re.M)
        return int(sum(map(float, values))) if values else None

    def log(self):
        self.server.log.flush()
        return Path(self.server.log.name).read_text(errors="replace")

    def row(self, *probes, log="", planned=None):
        alive = self.server.is_alive()
        self.watcher.over.set()
        if self.kind == "lodestone":
            found = re.search(r"Memory: at most (\d+) MiB", log or self.log())
            planned = found[1] if found else "?"
            if panics := self.metric("coredns_panics_total"):
                self.notes.append(f"{panics} panics")
        memory = f"{self.watcher.rss / 1024:.0f} MiB" + (f" (at most {planned})" if planned else "")
        if not alive and "out of memory" not in " ".join(self.notes):
            self.notes.append(f"status {self.server.process.returncode}")
        if self.options.logs:
            print(log or self.log(), file=sys.stderr)
        self.server.stop()
        state = "lives" if alive else "has ended"
        return [self.kind, state, " / ".join(map(str, probes)), memory, self.watcher.fds, "; ".join(self.notes)]


def hosts(*before, outside=None):
    lines = [*before, f"hosts {{\n        192.0.2.1 {LOCAL}\n        fallthrough\n    }}"]
    if outside is not None:
        lines += ["cache", f"forward . 127.0.0.1:{outside}"]
    return "\n    ".join(lines)


@contextlib.contextmanager
def silent_upstream():
    """An upstream that never answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


@contextlib.contextmanager
def small_disk(kibibytes):
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "scenario", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


def fill(directory):
    """Fills a disk with a file that can be removed."""
    ballast = directory / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
    return ballast


# The cases.


def descriptors(case):
    """`ulimit -n 64`: 500 clients over TCP that keep their connection, and 500 over UDP, for outside names too"""

    def before():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with silent_upstream() as upstream:
        case.start(hosts(outside=upstream), before=before)
        probes = [Probe(case.port, [LOCAL]), Probe(case.port, [LOCAL], tcp=True)]
        for one in probes:
            one.start()
        kept, answered = [], 0
        datagrams = [Probe(case.port, [LOCAL]) for _ in range(500)]
        for number in range(500):
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", case.port), 1)
                kept.append(one)
                one.settimeout(1)
                message = query(number, LOCAL)
                one.sendall(struct.pack("!H", len(message)) + message)
                answered += len(one.recv(4096)) > 2
            datagrams[number].socket.send(query(number, f"n{number}.{OUTSIDE}"))
            datagrams[number].once(LOCAL)
        served = sum(len(one.times) for one in datagrams)
        case.notes.append(f"of 500 clients answered: TCP {answered}, UDP {served}")
        for one in probes:
            one.end()
        for one in kept:
            one.close()
    return case.row(*probes)


def ask_at_once(case, probe, count):
    """Queries without a pause."""
    for _ in range(count):
        probe.once(probe.names[probe.asked % len(probe.names)])
        if not case.server.is_alive():
            break
    return probe


def count_lines(text):
    return sum(LOCAL in line for line in text.splitlines())


def log_disk(case):
    """the log is on a full disk, 20,000 queries with `log`; then there is room again, and 1,000 more"""
    with small_disk(1024) as disk:
        path = disk / "log"
        with open(path, "ab", buffering=0) as out:
            case.start(hosts("log"), stdout=out)
            ballast = fill(disk)
            probe = ask_at_once(case, Probe(case.port, [LOCAL]), 20_000)
            time.sleep(0.5)
            ballast.unlink()
            subprocess.run(["mount", "-o", "remount,size=16384k", disk], check=True)
            probe = ask_at_once(case, probe, 1000)
            time.sleep(0.5)
            text = path.read_text(errors="replace")
            lost = probe.asked + 1 - count_lines(text)
            told = [line for line in text.splitlines() if "log lines" in line]
            case.notes.append(f"lines lost: {lost}, counted: {dropped(case)}")
            case.notes.append("; ".join(told) or "the log does not tell")
            return case.row(probe, log=text)


def dropped(case):
    return case.metric("lodestone_log_lines_dropped_total") or 0


def log_pipe(case):
    """the log is a pipe that is not read, 20,000 queries with `log`; then it is read"""
    reader, writer = os.pipe()
    case.start(hosts("log"), stdout=writer)
    probe = Probe(case.port, [LOCAL])
    deadline = time.monotonic() + 60
    while probe.asked < 20_000 and time.monotonic() < deadline:
        probe.once(LOCAL)
    os.set_blocking(reader, False)
    os.close(writer)
    text, quiet = b"", 0
    while quiet < 20:
        try:
            part = os.read(reader, 1 << 16)
        except BlockingIOError:
            part = None
        if not part:
            time.sleep(0.05)
        text, quiet = text + (part or b""), 0 if part else quiet + 1
    text = text.decode(errors="replace")
    lost = probe.asked + 1 - count_lines(text)
    told = [line for line in text.splitlines() if "log lines" in line]
    case.notes.append(f"lines lost: {lost}, counted: {dropped(case)}")
    case.notes.append("; ".join(told) or "the log does not tell")
    found = case.row(probe, log=text)
    os.close(reader)
    return found


def snapshot_disk(case):
    """the directory of the snapshot is on a full disk, 2,000 Services that change; then there is room again"""
    if case.kind != "lodestone":
        return None
    with small_disk(1024) as disk, api(case, 2000, 4000) as (port, server):
        ballast = fill(disk)
        plugins = f"kubernetes cluster.local {{\n endpoint http://127.0.0.1:{port}\n snapshot {disk} 1s\n }}"
        case.start(plugins, name(1999))
        probe = Probe(case.port, [name(number) for number in range(2000)])
        probe.start()
        server.tell("churn 200 10")
        time.sleep(10)
        failures = case.metric("lodestone_snapshot_failures_total")
        if list(disk.glob("*.snapshot")):
            sys.exit("a snapshot was written on a full disk")
        ballast.unlink()
        begun = time.monotonic()
        wait("a snapshot", lambda: list(disk.glob("*.snapshot")))
        case.notes.append(f"{failures} failed writes, written {time.monotonic() - begun:.1f} s after there was room")
        time.sleep(1)
        told = sum("cannot write the snapshot" in line for line in case.log().splitlines())
        case.notes.append(f"{told} log line")
        return case.row(probe.end())


def connections(case):
    """10,000 idle TCP connections, replaced when the server closes them, for 20 s"""
    case.start(hosts())
    counts = multiprocessing.Array("q", 2)
    with process(hold_connections, case.port, 10_000, counts):
        time.sleep(3)
        probes = [Probe(case.port, [LOCAL]), Probe(case.port, [LOCAL], tcp=True)]
        for one in probes:
            one.start()
        time.sleep(20)
        for one in probes:
            one.end()
        case.notes.append(f"{counts[0]} connections in all")
    return case.row(*probes)


def kernel_drops(port):
    """Datagrams that the sockets of a port had no room for."""
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(line[12]) for line in lines if line[1].endswith(f":{port:04X}"))


def malformed(case):
    """{datagrams:,} malformed datagrams, mutants of valid queries, as fast as two processes send them"""
    total = case.options.datagrams // 2
    with silent_upstream() as upstream:
        case.start(hosts(outside=upstream))
        probe = Probe(case.port, [LOCAL])
        counts = [multiprocessing.Value("q", 0) for _ in range(2)]
        before, begun = kernel_drops(case.port), time.monotonic()
        with contextlib.ExitStack() as stack:
            senders = [
                stack.enter_context(process(send_mutants, case.port, seed, total, counts[seed])) for seed in range(2)
            ]
            probe.start()
            while any(one.is_alive() for one in senders) and case.server.is_alive():
                time.sleep(0.1)
        took = time.monotonic() - begun
        probe.end()
        sent = sum(one.value for one in counts)
        share = 100 * (1 - (kernel_drops(case.port) - before) / max(sent, 1)) if case.server.is_alive() else 0
        case.notes.append(f"{sent / took / 1000:.0f},000/s, of which it read {share:.0f} %")
        after = Probe(case.port, [LOCAL])
        ask_at_once(case, after, 100)
        case.notes.append(f"{len(after.times)} of 100 afterwards")
    return case.row(probe)


class Group:
    """A memory cgroup, of version 1 or 2."""

    def __init__(self, mebibytes):
        first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
        self.is_first = (first / "memory.limit_in_bytes").exists()
        top = first if self.is_first else second
        self.path = top / f"lodestone-scenario-{os.getpid()}"
        if not self.is_first:
            (second / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        limit = "memory.limit_in_bytes" if self.is_first else "memory.max"
        (self.path / limit).write_text(str(mebibytes << 20))

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def killed(self):
        text = (self.path / ("memory.oom_control" if self.is_first else "memory.events")).read_text()
        return int(re.search(r"oom_kill (\d+)", text)[1]) > 0

    def peak(self):
        """With the kernel's buffers and the files that are cached, which it can drop."""
        try:
            return int((self.path / ("memory.max_usage_in_bytes" if self.is_first else "memory.peak")).read_text())
        except OSError:
            return 0

    def remove(self):
        deadline = time.monotonic() + 5
        while True:
            try:
                return self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def api(case, services, endpoints):
    port = free_port()
    server = ApiServer(case.options.api, port, services, endpoints)
    try:
        yield port, server
    finally:
        server.stop()


def memory(mebibytes, services, endpoints):
    def run(case):
        group = Group(mebibytes)
        try:
            return within(case, group)
        finally:
            group.remove()

    def within(case, group):
        with silent_upstream() as upstream, api(case, services, endpoints) as (port, server):
            plugins = f"kubernetes cluster.local {{\n endpoint http://127.0.0.1:{port}\n }}\n cache\n"
            case.start(f"{plugins} forward . 127.0.0.1:{upstream}", name(services - 1), before=group.enter)
            names = [name(number * 7919 % services) for number in range(services)]
            probe = Probe(case.port, names)
            probe.start()
            counts, sent = multiprocessing.Array("q", 2), multiprocessing.Value("q", 0)
            with process(hold_connections, case.port, 10_000, counts), process(send_outside, case.port, 1, sent):
                for _ in range(4):
                    time.sleep(5)
                    server.tell("relist")
                time.sleep(5)
            probe.end()
            time.sleep(1)
            after = ask_at_once(case, Probe(case.port, names), 100)
            case.notes.append(f"{sent.value / 25 / 1000:.0f},000 outside queries/s, {counts[0]} connections")
            case.notes.append(f"{len(after.times)} of 100 afterwards; the group had {group.peak() >> 20} MiB")
            if group.killed():
                case.notes.append("out of memory")
            return case.row(probe)

    run.__doc__ = (
        f"{mebibytes} MiB, {services:,} Services with {endpoints:,} endpoints: a flood of outside names whose upstream"
        " is silent, 10,000 connections and four new lists of all objects, in 25 s"
    )
    return run


CASES = {
    "descriptors": descriptors,
    "log-disk": log_disk,
    "snapshot-disk": snapshot_disk,
    "log-pipe": log_pipe,
    "connections": connections,
    "malformed": malformed,
    "memory-32": memory(32, 1000, 5000),
    "memory-64": memory(64, 2000, 10_000),
    "memory-100": memory(100, 10_000, 50_000),
}
NEED_ROOT = ("log-disk", "snapshot-disk", "memory-32", "memory-64", "memory-100")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=CASES, action="append", help="these cases only")
    options.add_argument("--datagrams", type=int, default=10_000_000, help="malformed ones (default: 10,000,000)")
    options.add_argument("--logs", action="store_true", help="print the servers' logs on standard error")
    api_option(options)
    chosen = options.parse_args()
    chosen.api = api_program(chosen)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    rows = []
    for key, case in CASES.items():
        if chosen.only and key not in chosen.only:
            continue
        if key in NEED_ROOT and os.geteuid() != 0:
            print(f"{key}: left out, it needs root", file=sys.stderr)
            continue
        for kind, program in servers():
            row = case(Case(kind, program, chosen))
            if row is not None:
                rows.append([case.__doc__.format(datagrams=chosen.datagrams), *row])
                print(key, *row, sep=" | ", file=sys.stderr)
    head = ("case", "server", "process", "local names answered; p50, p99", "highest RSS", "descriptors", "notes")
    table(head, rows)


if __name__ == "__main__":
    main()
