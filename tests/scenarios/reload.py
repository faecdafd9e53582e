#!/usr/bin/env python3
"""Ten reloads of the Corefile by SIGUSR1 at 5,000 queries a second, and SIGTERM in the middle of one.

Each reload changes the address of a name. One adds a listener and a later one removes it; one has an unknown plugin,
one a port that another process holds for queries, and one such a port for a page: these three must change nothing.
After that, in another process, the listener moves to another address and back.

Queries come over UDP from 50 sockets, over TCP from connections that stay open and from new ones, and for names that
a slow upstream answers, so that some are pending at each reload. `/health` and `/ready` are read all the time.
"""

import argparse
import asyncio
import os
import select
import signal
import socket
import struct
import threading
import time
from pathlib import Path

from common import LOCAL, Server, free_port, query, servers, table
from fake_upstreams import Upstream
from fake_upstreams import ask as ask_patiently

SOCKETS, RATE, BETWEEN = 50, 5000, 1.5
STREAMS, STREAM_RATE, SLOW_RATE, ADDED_RATE, PAGE_RATE = 10, 100, 50, 50, 50
# Processes that get SIGTERM soon after SIGUSR1, 2 ms later for each.
ENDS = 20
# How long after a change a reply may still be an old one: it was on its way.
MOMENT = 0.1


# The reloads that add a listener and remove it.
ADDS, REMOVES = 2, 6
BESIDE = ("kept connections", "new connections", "slow names", "added listener", "/health", "/ready")


class Ports:
    def __init__(self, upstream):
        self.main, self.added, self.health, self.ready = (free_port() for _ in range(4))
        self.upstream = upstream
        # Held without SO_REUSEPORT, so that nobody shares them.
        self.taken = free_port()
        self.holders = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM)]
        for holder in self.holders:
            holder.bind(("127.0.0.1", self.taken))
        self.holders[0].listen()


def corefile(ports, version, listener=None, extra="", health=None, lameduck="1s", bind="127.0.0.1"):
    text = f""".:{ports.main} {{
    bind {bind}
    health 127.0.0.1:{health or ports.health} {{
        lameduck {lameduck}
    }}
    ready 127.0.0.1:{ports.ready}
    {extra}
    hosts {{
        192.0.2.{version} {LOCAL}
        fallthrough
    }}
    forward . 127.0.0.1:{ports.upstream}
}}
"""
    if listener is not None:
        text += f""".:{listener} {{
    bind 127.0.0.1
    hosts {{
        192.0.2.{version} {LOCAL}
    }}
}}
"""
    return text


def reloads(ports):
    """What changes, the Corefile, and whether it must take effect, in the order of the reloads. The number in the
    address is that of the reload."""
    def one(version, **parts):
        return corefile(ports, version, **parts)

    return [
        ("an address", one(1), True),
        ("adds a listener", one(2, listener=ports.added), True),
        ("an unknown plugin", one(3, listener=ports.added, extra="nonesuch"), False),
        ("adds `cache`", one(4, listener=ports.added, extra="cache 30"), True),
        ("a port that is taken, for queries", one(5, listener=ports.taken), False),
        ("removes the listener", one(6), True),
        ("a port that is taken, for `/health`", one(7, health=ports.taken), False),
        ("an address", one(8), True),
        ("removes `cache`, adds `errors`", one(9, extra="errors"), True),
        ("an address", one(10), True),
    ]


def moves(ports):
    """A listener whose address changes, and changes back."""
    return [
        ("`bind 0.0.0.0`", corefile(ports, 1, bind="0.0.0.0"), True),
        ("`bind 127.0.0.1`", corefile(ports, 2), True),
    ]


def version_of(message):
    """The last byte of the address in a reply; None if there is no address."""
    if message[3] & 15 or message[6:8] != b"\0\1" or message[-4:-1] != b"\xc0\0\x02":
        return None
    return message[-1]


class Expected:
    """Which versions may be seen when."""

    def __init__(self):
        self.spans = [[0, 0.0, float("inf")]]

    def signal(self, version):
        self.spans.append([version, time.monotonic(), float("inf")])

    def took_effect(self):
        # The reload before ends, and those that were refused.
        for span in self.spans[:-1]:
            span[2] = min(span[2], time.monotonic() + MOMENT)

    def refused(self):
        self.spans.pop()

    def allows(self, version, sent, received):
        return any(
            number == version and begin <= received and sent <= end
            for number, begin, end in self.spans
        )


class Load:
    """Queries over UDP at a constant rate; each has its own id, so that lost ones are known."""

    def __init__(self, port, expected):
        self.expected = expected
        self.sockets = []
        for _ in range(SOCKETS):
            one = socket.socket(type=socket.SOCK_DGRAM)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            one.connect(("127.0.0.1", port))
            self.sockets.append(one)
        self.sent = self.received = self.wrong = self.refused = 0
        self.times = [None] * 65536
        self.seen = None
        self.begun = time.monotonic()

    def until(self, end):
        while time.monotonic() < end:
            due = int((time.monotonic() - self.begun) * RATE) - self.sent
            for _ in range(max(0, min(due, 200))):
                number = self.sent & 0xFFFF
                self.times[number] = time.monotonic()
                try:
                    self.sockets[self.sent % SOCKETS].send(query(number, LOCAL))
                except OSError:
                    self.refused += 1
                self.sent += 1
            self.read(0.001)

    def read(self, patience):
        for one in select.select(self.sockets, [], [], patience)[0]:
            while True:
                try:
                    reply = one.recv(512)
                except BlockingIOError:
                    break
                except OSError:
                    self.refused += 1
                    break
                sent = self.times[struct.unpack("!H", reply[:2])[0]]
                self.received += 1
                self.seen = version_of(reply)
                self.wrong += not self.expected.allows(self.seen, sent, time.monotonic())

    def end(self):
        end = time.monotonic() + 2
        while time.monotonic() < end and self.received < self.sent:
            self.read(0.05)


class Beside(threading.Thread):
    """Everything that is not the stream of datagrams: TCP, slow names, pages."""

    def __init__(self, ports, expected):
        super().__init__()
        self.ports, self.expected, self.stopped = ports, expected, threading.Event()
        self.counts = {}
        self.failures = {}
        # Kept connections that the server closed between two queries.
        self.closed = 0
        # Set while there is the listener that a reload adds.
        self.has_added = threading.Event()
        self.start()

    def run(self):
        asyncio.run(self.all())

    async def all(self):
        await asyncio.gather(
            *(self.at(STREAM_RATE / STREAMS, self.kept_connection()) for _ in range(STREAMS)),
            self.at(STREAM_RATE, self.new_connection),
            self.at(SLOW_RATE, self.slow),
            self.at(ADDED_RATE, self.added),
            self.at(PAGE_RATE, self.page("/health", self.ports.health)),
            self.at(PAGE_RATE, self.page("/ready", self.ports.ready)),
        )

    async def at(self, rate, work):
        tasks, number = set(), 0
        begun = time.monotonic()
        while not self.stopped.is_set():
            task = asyncio.ensure_future(work(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        await asyncio.gather(*tasks)

    def note(self, what, failure=None):
        self.counts[what] = self.counts.get(what, 0) + 1
        if failure is not None:
            self.failures.setdefault(what, []).append(failure)

    async def exchange(self, reader, writer, number):
        message = query(number & 0xFFFF, LOCAL)
        sent = time.monotonic()
        writer.write(struct.pack("!H", len(message)) + message)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        version = version_of(await reader.readexactly(length))
        right = self.expected.allows(version, sent, time.monotonic())
        return None if right else "wrong"

    async def added(self, number):
        """The listener that a reload adds and a later one removes, over UDP and TCP in turn."""
        if self.has_added.is_set():
            transport = "tcp" if number % 2 else "udp"
            answer = await ask_patiently(self.ports.added, LOCAL, number & 0xFFFF, transport)
            # The address is not that of an upstream: anything but a failure is right here.
            self.note("added listener", None if answer.failure == "NOERROR" else answer.failure)

    def kept_connection(self):
        """Queries one after the other over one connection, with a new one after it is closed."""
        connection, lock = None, asyncio.Lock()

        async def work(number):
            nonlocal connection
            async with lock:
                failure = None
                try:
                    if connection is not None and connection[0].at_eof():
                        # Closed while it was idle, which a client notices (RFC 7766 section 6.2.4).
                        self.closed += 1
                        connection[1].close()
                        connection = None
                    if connection is None:
                        connection = await asyncio.open_connection("127.0.0.1", self.ports.main)
                    failure = await asyncio.wait_for(self.exchange(*connection, number), 5)
                except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                    failure = type(error).__name__
                    if connection is not None:
                        connection[1].close()
                        connection = None
                self.note("kept connections", failure)

        return work

    async def new_connection(self, number):
        failure, writer = None, None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ports.main)
            failure = await asyncio.wait_for(self.exchange(reader, writer, number), 5)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            failure = type(error).__name__
        if writer is not None:
            writer.close()
        self.note("new connections", failure)

    async def slow(self, number):
        answer = await ask_patiently(self.ports.main, f"n{number}-{time.monotonic_ns()}.slow.test", number & 0xFFFF)
        self.note("slow names", answer.failure)

    def page(self, path, port):
        async def work(_):
            failure, writer = None, None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                line = await asyncio.wait_for(reader.readline(), 2)
                status = line.split(b" ")[1].decode() if line else "closed"
                failure = None if status == "200" else status
            except (OSError, asyncio.TimeoutError) as error:
                failure = type(error).__name__
            if writer is not None:
                writer.close()
            self.note(path, failure)

        return work

    def end(self):
        self.stopped.set()
        self.join()

    def cell(self, what):
        failures = self.failures.get(what, [])
        text = f"{len(failures)} of {self.counts.get(what, 0)}"
        details = sorted(set(failures))
        if what == BESIDE[0] and self.closed:
            details.append(f"{self.closed} closed while idle")
        return f"{text} ({', '.join(details)})" if details else text


class SlowUpstream(threading.Thread):
    """An upstream that answers after 300 ms, in a loop of its own."""

    def __init__(self):
        super().__init__(daemon=True)
        self.port, self.ready = None, threading.Event()
        self.start()
        self.ready.wait()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        upstream = await Upstream(lambda one: [(0 if one.is_check else 0.3, one.reply())]).start()
        self.port = upstream.port
        self.ready.set()
        await asyncio.Event().wait()


def write(server, text):
    (Path(server.home.name) / "Corefile").write_text(text)


def run(kind, program, upstream, reloads_of):
    ports, expected = Ports(upstream), Expected()
    server = Server(program, corefile(ports, 0), ports.main).wait_until_served()
    beside, load = Beside(ports, expected), Load(ports.main, expected)
    load.until(time.monotonic() + BETWEEN)
    effects, has_added = [], reloads_of is reloads
    for number, (what, text, is_valid) in enumerate(reloads_of(ports), 1):
        write(server, text)
        expected.signal(number)
        begun = time.monotonic()
        os.kill(server.process.pid, signal.SIGUSR1)
        while load.seen != number and time.monotonic() < begun + (5 if is_valid else 1):
            load.until(time.monotonic() + 0.005)
        took = time.monotonic() - begun if load.seen == number else None
        if took is None:
            expected.refused()
        else:
            expected.took_effect()
        verdict = "not in effect" if took is None else f"{took * 1000:.0f} ms"
        if (took is not None) != is_valid:
            effects.append(f"reload {number} ({what}): {verdict}")
        if has_added and number == ADDS:
            beside.has_added.set()
        load.until(time.monotonic() + BETWEEN)
        if has_added and number + 1 == REMOVES:
            beside.has_added.clear()
            load.until(time.monotonic() + 0.2)
    load.end()
    beside.end()
    alive = server.is_alive()
    server.stop()
    for holder in ports.holders:
        holder.close()
    return [
        kind,
        f"{load.sent - load.received} of {load.sent}",
        load.wrong,
        *(beside.cell(what) for what in BESIDE),
        "; ".join(effects) or "as expected",
        "yes" if alive else "no",
    ]


def run_end(kind, program, upstream):
    """SIGTERM in a reload that waits for an API server that does not answer."""
    ports, expected = Ports(upstream), Expected()
    api = socket.socket()
    api.bind(("127.0.0.1", 0))
    api.listen()
    server = Server(program, corefile(ports, 0), ports.main).wait_until_served()
    kubernetes = f"kubernetes cluster.local {{\n endpoint http://127.0.0.1:{api.getsockname()[1]}\n }}"
    write(server, corefile(ports, 1, extra=kubernetes))
    load = Load(ports.main, expected)
    load.until(time.monotonic() + 1)
    expected.signal(1)
    os.kill(server.process.pid, signal.SIGUSR1)
    load.until(time.monotonic() + 0.5)
    begun = time.monotonic()
    os.kill(server.process.pid, signal.SIGTERM)
    # Within `lameduck`: all are to be answered.
    load.until(begun + 0.9)
    load.end()
    while server.is_alive() and time.monotonic() < begun + 30:
        time.sleep(0.02)
    took = time.monotonic() - begun
    ended = f"{took:.1f} s" if not server.is_alive() else "not in 30 s"
    server.stop()
    for one in (api, *ports.holders):
        one.close()
    return [kind, f"{load.sent - load.received} of {load.sent}", load.wrong, ended]


def run_ends(kind, program, upstream):
    """SIGTERM soon after SIGUSR1, at another moment for each process, without a lame duck time."""
    times = []
    for number in range(ENDS):
        ports = Ports(upstream)
        server = Server(program, corefile(ports, 0, lameduck="0s"), ports.main).wait_until_served()
        write(server, corefile(ports, 1, listener=ports.added, lameduck="0s"))
        os.kill(server.process.pid, signal.SIGUSR1)
        time.sleep(number * 0.002)
        os.kill(server.process.pid, signal.SIGTERM)
        begun = time.monotonic()
        while server.is_alive() and time.monotonic() < begun + 10:
            time.sleep(0.005)
        if not server.is_alive():
            times.append(time.monotonic() - begun)
        server.stop()
        for holder in ports.holders:
            holder.close()
    return [kind, f"{len(times)} of {ENDS}", f"{max(times, default=0):.2f} s"]


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    upstream = SlowUpstream().port
    rows = [run(kind, program, upstream, reloads) for kind, program in servers()]
    moved = [run(kind, program, upstream, moves) for kind, program in servers()]
    waits = [run_end(kind, program, upstream) for kind, program in servers()]
    ends = [run_ends(kind, program, upstream) for kind, program in servers()]
    head = [
        "server",
        "UDP lost",
        "UDP wrong",
        "failed: kept TCP connections",
        "new TCP connections",
        "slow names",
        "added listener",
        "`/health`",
        "`/ready`",
        "reloads",
        "alive",
    ]
    print("Ten reloads")
    table(head, rows)
    print("\nThe listener moves to 0.0.0.0 and back")
    table(head, moved)
    print("\nSIGTERM in a reload that waits for an API server")
    table(["server", "UDP lost", "UDP wrong", "ends after"], waits)
    print(f"\nSIGTERM 0 to {2 * (ENDS - 1)} ms after SIGUSR1")
    table(["server", "processes that ended", "after at most"], ends)


if __name__ == "__main__":
    main()
