#!/usr/bin/env python3
"""A rollout of one pod: how many queries are lost while clients still send to a server that terminates.

Two processes A and B serve. Queries go to A at a steady rate, over sockets that stand for the connection
tracking entries of the nodes. A gets SIGTERM; its readiness page is probed every second, as a kubelet does;
once it fails, the sockets stay on A for another while, and then go to B. A query without a reply is lost.
"""

import argparse
import http.client
import selectors
import signal
import socket
import threading
import time

from common import LOCAL, Server, free_port, query, servers, table

SOCKETS = 50
REPLY_TIMEOUT = 2.0


def start(program, lameduck):
    port, health, ready = free_port(), free_port(), free_port()
    corefile = f""".:{port} {{
    bind 127.0.0.1
    health 127.0.0.1:{health} {{
        lameduck {lameduck}s
    }}
    ready 127.0.0.1:{ready}
    hosts {{
        192.0.2.1 {LOCAL}
    }}
}}
"""
    return Server(program, corefile, port).wait_until_served(), ready


def is_ready(port):
    try:
        page = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        page.request("GET", "/ready")
        return page.getresponse().status == 200
    except OSError:
        return False


class Client:
    """Sends queries at a rate, and counts those without a reply."""

    def __init__(self, rate, port):
        self.rate, self.selector, self.pending = rate, selectors.DefaultSelector(), {}
        self.sent = self.lost = 0
        self.move(port)

    def move(self, port):
        """Sends further queries to this port, from new sockets. Replies to the old ones are still read."""
        self.sockets = []
        for _ in range(SOCKETS):
            one = socket.socket(type=socket.SOCK_DGRAM)
            one.setblocking(False)
            one.connect(("127.0.0.1", port))
            self.selector.register(one, selectors.EVENT_READ)
            self.sockets.append(one)

    def send(self):
        self.sent += 1
        number = self.sent & 0xFFFF
        try:
            one = self.sockets[self.sent % SOCKETS]
            self.pending[number] = time.monotonic()
            one.send(query(number, LOCAL))
        except OSError:
            # The error of an earlier query is reported here, and this one was not sent.
            self.pending.pop(number)
            self.lost += 1

    def receive(self, timeout):
        for key, _ in self.selector.select(timeout):
            try:
                reply = key.fileobj.recv(4096)
                self.pending.pop(int.from_bytes(reply[:2], "big"), None)
            except OSError:
                pass
        now = time.monotonic()
        for number, sent in list(self.pending.items()):
            if now - sent < REPLY_TIMEOUT:
                break
            self.pending.pop(number)
            self.lost += 1


def rollout(program, rate, lameduck, stay):
    old, ready = start(program, lameduck)
    new, _ = start(program, lameduck)
    client = Client(rate, old.port)
    events = {}

    def kubelet():
        time.sleep(2)
        events["term"] = time.monotonic()
        old.process.send_signal(signal.SIGTERM)
        while is_ready(ready):
            time.sleep(1)
        events["unready"] = time.monotonic()
        time.sleep(stay)
        events["moved"] = time.monotonic()

    def watch():
        while old.is_alive():
            time.sleep(0.01)
        events["ended"] = time.monotonic()

    threads = [threading.Thread(target=it, daemon=True) for it in (kubelet, watch)]
    for thread in threads:
        thread.start()
    begun, is_moved, after, end = time.monotonic(), False, 0, None
    while end is None or time.monotonic() < end:
        due = begun + client.sent / rate
        client.receive(max(0, due - time.monotonic()))
        if time.monotonic() < due:
            continue
        if "moved" in events and not is_moved:
            is_moved = True
            client.move(new.port)
            end = time.monotonic() + 3
        if "unready" in events and not is_moved:
            after += 1
        client.send()
    while client.pending:
        client.receive(0.1)
    threads[1].join(60)
    row = (client.sent, after, client.lost, f"{events['ended'] - events['term']:.1f} s")
    old.stop()
    new.stop()
    return row


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=1000, help="queries a second (default: 1000)")
    options.add_argument("--lameduck", type=int, default=5, help="seconds (default: 5)")
    options.add_argument(
        "--stay",
        type=float,
        nargs="+",
        default=[0.5, 4, 8, 12],
        help="seconds that sockets stay on A after it is unready (default: 0.5 4 8 12)",
    )
    chosen = options.parse_args()
    rows = []
    for stay in chosen.stay:
        for name, program in servers():
            row = rollout(program, chosen.rate, chosen.lameduck, stay)
            rows.append((f"{stay} s", name, *row))
    print(f"{chosen.rate} queries/s, lameduck {chosen.lameduck} s, readiness probed every second")
    table(("sockets stay", "server", "queries", "sent to A after unready", "lost", "A ends after SIGTERM"), rows)


if __name__ == "__main__":
    main()
