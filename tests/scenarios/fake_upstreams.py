"""Upstream servers that misbehave, for `upstreams.py`, and the stub resolver that looks at the result."""

import asyncio
import re
import socket
import struct
import time

from common import RCODES, query

GOOD = "192.0.2.53"
# Upstreams that forge put this address into their replies: no client may see it.
FORGED = "198.51.100.66"
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
TC = 0x0200
HEADER = struct.Struct("!6H")
# As long as the stub resolvers of glibc, musl and Go wait for one reply.
PATIENCE = 5.0


class Query:
    """A query as an upstream gets it."""

    def __init__(self, message, transport, elapsed):
        self.message, self.transport, self.elapsed = message, transport, elapsed
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1 : at + 1 + message[at]].decode())
            at += 1 + message[at]
        self.name = ".".join(labels).lower()
        self.question = message[12 : at + 5]
        self.rtype = struct.unpack("!H", message[at + 1 : at + 3])[0]
        # What both servers send as a health check: NS of the root.
        self.is_check = self.name == "" and self.rtype == 2

    def reply(self, rcode=0, address=GOOD, flags=0, wrong_id=False, question=None, ttl=60, soa=False):
        """A reply; NOERROR comes with an A record. `soa`: with an SOA record of the root, minimum 1 s."""
        number = struct.unpack("!H", self.message[:2])[0] ^ (0x5555 if wrong_id else 0)
        has_answer = rcode == 0 and not flags & TC and not self.is_check
        header = HEADER.pack(number, 0x8180 | flags | rcode, 1, int(has_answer), int(soa), 0)
        question = self.question if question is None else question
        answer = struct.pack("!3HIH", 0xC00C, 1, 1, ttl, 4) + socket.inet_aton(address)
        authority = struct.pack("!BHHIHBB5I", 0, 6, 1, 1, 22, 0, 0, 1, 1800, 900, 86400, 1)
        return header + question + (answer if has_answer else b"") + (authority if soa else b"")


class Upstream:
    """An upstream on a port of 127.0.0.1. `behaviour` gets a query and returns pairs of a delay in seconds and a
    message. `tcp`: `answers`, `silent` (accepts and says nothing), or `closed`."""

    def __init__(self, behaviour, tcp="answers", udp=True):
        self.behaviour, self.tcp, self.udp = behaviour, tcp, udp
        self.queries = self.checks = 0
        self.begun = time.monotonic()
        self.tasks = set()

    async def start(self):
        loop = asyncio.get_running_loop()
        stream = socket.socket()
        stream.bind(("127.0.0.1", 0))
        self.port = stream.getsockname()[1]
        self.server = self.datagrams = None
        if self.tcp == "closed":
            stream.close()
        else:
            self.server = await asyncio.start_server(self.accept, sock=stream)
        if self.udp:
            self.datagrams, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=("127.0.0.1", self.port)
            )
        return self

    def replies(self, message, transport):
        one = Query(message, transport, time.monotonic() - self.begun)
        if one.is_check:
            self.checks += 1
        else:
            self.queries += 1
        return self.behaviour(one)

    def spawn(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def accept(self, reader, writer):
        async def respond(delay, message):
            await asyncio.sleep(delay)
            writer.write(struct.pack("!H", len(message)) + message)

        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                message = await reader.readexactly(length)
                replies = self.replies(message, "tcp")
                if self.tcp != "silent":
                    for reply in replies:
                        self.spawn(respond(*reply))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()

    def stop(self):
        if self.server is not None:
            self.server.close()
        if self.datagrams is not None:
            self.datagrams.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, upstream):
        self.upstream = upstream

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, message, client):
        loop = asyncio.get_running_loop()
        for delay, reply in self.upstream.replies(message, "udp"):
            loop.call_later(delay, self.send, reply, client)

    def send(self, reply, client):
        if not self.transport.is_closing():
            self.transport.sendto(reply, client)


class _Client(asyncio.DatagramProtocol):
    def __init__(self, number, reply):
        self.number, self.reply = number, reply

    def datagram_received(self, message, _):
        if message[:2] == struct.pack("!H", self.number) and not self.reply.done():
            self.reply.set_result(message)

    def error_received(self, error):
        if not self.reply.done():
            self.reply.set_exception(error)


class Answer:
    """What a client saw: seconds until the reply, whether it is the right answer, the failure in words."""

    def __init__(self, took, message, error=None):
        self.took = took
        rcode = None if message is None else message[3] & 15
        self.wrong = message is not None and socket.inet_aton(FORGED) in message
        self.right = rcode == 0 and not self.wrong and socket.inet_aton(GOOD) in message
        self.failure = None
        if self.right:
            return
        if message is None:
            self.failure = error or "no reply"
        else:
            word = {**RCODES, 1: "FORMERR"}.get(rcode, str(rcode))
            self.failure = word + _extended_error(message)


def _extended_error(message):
    """Code and text of the extended error of a reply without answer records, or nothing."""
    at = 12
    while message[at]:
        at += 1 + message[at]
    at += 5
    counts = HEADER.unpack(message[:12])[3:]
    if counts != (0, 0, 1) or message[at : at + 3] != b"\0\0\x29":
        return ""
    end = at + 11 + struct.unpack("!H", message[at + 9 : at + 11])[0]
    at += 11
    while at < end:
        code, length = struct.unpack("!HH", message[at : at + 4])
        if code == 15:
            (number,) = struct.unpack("!H", message[at + 4 : at + 6])
            text = message[at + 6 : at + 4 + length].decode(errors="replace")
            return f", {number}: {text}" if text else f", {number}"
        at += 4 + length
    return ""


def with_edns(message):
    """The query with an OPT record, for extended errors."""
    return message[:10] + b"\0\1" + message[12:] + struct.pack("!BHHIH", 0, 41, 1232, 0, 0)


async def ask(port, name, number, transport="udp"):
    """Queries as a patient stub resolver: one query over UDP, again over TCP if the reply is truncated."""
    message, begun, error = with_edns(query(number, name)), time.monotonic(), None
    reply = None
    try:
        if transport == "udp":
            reply = await asyncio.wait_for(_by_datagram(port, message, number), PATIENCE)
        if reply is None or reply[2] & 2:
            reply = None
            reply = await asyncio.wait_for(_by_stream(port, message), PATIENCE)
    except asyncio.TimeoutError:
        pass
    except (OSError, asyncio.IncompleteReadError) as failed:
        error = type(failed).__name__
    return Answer(time.monotonic() - begun, reply, error)


async def _by_datagram(port, message, number):
    loop = asyncio.get_running_loop()
    reply = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Client(number, reply), remote_addr=("127.0.0.1", port)
    )
    try:
        transport.sendto(message)
        return await reply
    finally:
        transport.close()


async def _by_stream(port, message):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack("!H", len(message)) + message)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()


def without_ports(text):
    """A text without what differs from run to run."""
    return re.sub(r"127\.0\.0\.1:\d+", "UPSTREAM", text)
