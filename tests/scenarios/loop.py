#!/usr/bin/env python3
"""Forwarding loops: whether the process lives, still answers its own names, and what a loop costs.

Local names stand for those of the cluster: they are served from `hosts`, so that no API server is needed.
In each set-up, local and outside names are queried for some seconds.
"""

import argparse
import socket
import threading
import time

from common import LOCAL, OUTSIDE, Server, ask, free_port, query, servers, table


def corefile(port, forward, loop=True):
    word = "loop" if loop else ""
    return f""".:{port} {{
    bind 127.0.0.1
    {word}
    hosts {{
        192.0.2.1 {LOCAL}
        fallthrough
    }}
    forward . 127.0.0.1:{forward}
}}
"""


class Stub:
    """A resolver that answers, and from `loops` on forwards to a server."""

    def __init__(self):
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.back = socket.socket(type=socket.SOCK_DGRAM)
        self.back.bind(("127.0.0.1", 0))
        self.port, self.target, self.clients = self.socket.getsockname()[1], None, {}
        for run in (self.forward, self.reply):
            threading.Thread(target=run, daemon=True).start()

    def forward(self):
        while True:
            message, client = self.socket.recvfrom(4096)
            if self.target is None:
                # NOERROR without records.
                self.socket.sendto(message[:2] + b"\x81\x80" + message[4:], client)
            else:
                self.clients[message[:2]] = client
                self.back.sendto(message, ("127.0.0.1", self.target))

    def reply(self):
        while True:
            try:
                message, _ = self.back.recvfrom(4096)
            except OSError:
                continue
            client = self.clients.get(message[:2])
            if client is not None:
                self.socket.sendto(message, client)


def itself(program, loop):
    port = free_port()
    return [Server(program, corefile(port, port, loop), port)], None


def each_other(program, loop):
    ports = free_port(), free_port()
    pairs = (ports, ports[::-1])
    return [Server(program, corefile(one, other, loop), one) for one, other in pairs], None


def later(program, loop):
    stub, port = Stub(), free_port()
    return [Server(program, corefile(port, stub.port, loop), port)], stub


def measure(program, build, loop, seconds):
    started, stub = build(program, loop)
    begun = time.monotonic()
    if stub is not None:
        # Longer than the probes at the start of CoreDNS, after which it does not look for loops any more.
        started[0].wait_until_served()
        while time.monotonic() < begun + 5:
            ask(started[0].port, OUTSIDE, 0.2)
        stub.target = started[0].port
    before = sum(one.cpu() for one in started)
    begun, local, answered, outside = time.monotonic(), 0, 0, {}
    sender = socket.socket(type=socket.SOCK_DGRAM)
    time.sleep(1)
    while time.monotonic() < begun + seconds:
        for one in started:
            # Outside names are not waited for: their timeouts would hide how local ones are answered.
            for number in range(5):
                name = f"n{number}-{local}.{OUTSIDE}"
                try:
                    sender.sendto(query(number, name), ("127.0.0.1", one.port))
                except OSError:
                    pass
            local += 1
            answered += ask(one.port, LOCAL, 0.5) is not None
        time.sleep(0.05)
    for one in started:
        rcode = ask(one.port, OUTSIDE, 5) or "no reply"
        outside[rcode] = True
    alive = sum(one.is_alive() for one in started)
    cpu = sum(one.cpu() for one in started) - before
    elapsed = time.monotonic() - begun
    for one in started:
        one.stop()
    return (
        f"{alive} of {len(started)}",
        f"{100 * answered // local} %",
        ", ".join(outside),
        f"{100 * cpu / elapsed:.1f} %",
    )


SETUPS = [
    ("forwards to itself", itself, True),
    ("two that forward to each other", each_other, True),
    ("a stub that begins to lead back after 5 s", later, True),
    ("two that forward to each other, without `loop`", each_other, False),
]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20, help="of each set-up (default: 20)")
    chosen = options.parse_args()
    rows = []
    for text, build, loop in SETUPS:
        for name, program in servers():
            rows.append((text, name, *measure(program, build, loop, chosen.seconds)))
    print(f"{chosen.seconds:.0f} s each")
    table(
        ("set-up", "server", "processes alive", "local names answered", "outside names", "CPU of one core"),
        rows,
    )


if __name__ == "__main__":
    main()
