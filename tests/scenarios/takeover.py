#!/usr/bin/env python3
"""Ten takeovers at 5,000 queries a second.

Each time, a new process takes over the addresses of the running one (`-takeover`). Queries over UDP come from 50
sockets that stay open. CoreDNS has no takeover: a second process shares its port (SO_REUSEPORT is on), and the first
one is ended by SIGTERM.
"""

import argparse
import os
import select
import signal
import socket
import time

from common import Server, free_port, query, servers, table

SOCKETS, RATE, ROUNDS, BETWEEN = 50, 5000, 10, 1.0
LOCAL = "name.example"


def corefile(port):
    return f""".:{port} {{
    bind 127.0.0.1
    hosts {{
        192.0.2.1 {LOCAL}
    }}
}}
"""


class Load:
    """Queries at a constant rate; each has its own id, so that lost ones are known."""

    def __init__(self, port):
        self.sockets = []
        for _ in range(SOCKETS):
            one = socket.socket(type=socket.SOCK_DGRAM)
            one.setblocking(False)
            one.connect(("127.0.0.1", port))
            self.sockets.append(one)
        self.sent = self.received = self.wrong = 0
        self.begun = time.monotonic()

    def until(self, end):
        while time.monotonic() < end:
            due = int((time.monotonic() - self.begun) * RATE) - self.sent
            for _ in range(max(0, min(due, 200))):
                try:
                    self.sockets[self.sent % SOCKETS].send(query(self.sent & 0xFFFF, LOCAL))
                except OSError:
                    pass  # a refusal of the query before, which is lost
                self.sent += 1
            self.read(0.001)

    def read(self, patience):
        for one in select.select(self.sockets, [], [], patience)[0]:
            while True:
                try:
                    reply = one.recv(512)
                except OSError:
                    break
                self.received += 1
                self.wrong += reply[3] & 15 != 0

    def end(self):
        end = time.monotonic() + 2
        while time.monotonic() < end and self.received < self.sent:
            self.read(0.05)
        return self.sent, self.sent - self.received, self.wrong


def run(kind, program):
    port = free_port()
    text = corefile(port)
    extra = ["-control", "@scenario-0"] if kind == "lodestone" else []
    server = Server(program, text, port, extra).wait_until_served()
    load = Load(port)
    for number in range(1, ROUNDS + 1):
        load.until(time.monotonic() + BETWEEN)
        if kind == "lodestone":
            extra = ["-control", f"@scenario-{number}", f"-takeover=@scenario-{number - 1}"]
            following = Server(program, text, port, extra)
            while server.is_alive():
                load.until(time.monotonic() + 0.05)
        else:
            following = Server(program, text, port)
            load.until(time.monotonic() + BETWEEN)
            os.kill(server.process.pid, signal.SIGTERM)
            load.until(time.monotonic() + BETWEEN)
        server.stop()
        server = following
    load.until(time.monotonic() + BETWEEN)
    sent, lost, wrong = load.end()
    server.stop()
    return [kind, ROUNDS, sent, lost, wrong]


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = [run(kind, program) for kind, program in servers()]
    table(["server", "takeovers", "queries", "lost", "wrong"], rows)


if __name__ == "__main__":
    main()
