#!/usr/bin/env python3
"""Faults of the watch: how long until a changed object is answered, and which names are wrong or lost meanwhile.

A server watches an API server with 2,000 Services through a proxy of this script, over plain HTTP. The proxy, or the
API server, has a fault; a Service is changed, another one added and a third one deleted behind it. All other names
are queried meanwhile. The servers run at the same time, each with an API server and a proxy of its own.

One Service changes every second, so that a watch that works is never idle.
"""

import argparse
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

from common import ApiServer, Server, api_option, api_program, ask, free_port, name, query, servers, table, wait

SERVICES = 2000
# The Services that change, are added and deleted are in this namespace.
NAMESPACE = "team-0"


class Proxy:
    """A TCP proxy whose connections can be cut, silent, or without an event."""

    def __init__(self, target):
        self.target, self.port, self.listener = target, free_port(), None
        self.connections, self.silent, self.needle, self.dropped = set(), set(), None, 0
        self.lock = threading.Lock()
        self.up()

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def down(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        with self.lock:
            for pair in self.connections:
                for one in pair:
                    try:
                        one.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

    def silence(self):
        """Present connections stay open, and nothing is forwarded."""
        with self.lock:
            self.silent |= self.connections

    def clients(self):
        """Ports of the clients of present connections."""
        with self.lock:
            return [client.getpeername()[1] for client, _ in self.connections]

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                upstream = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, upstream)
            with self.lock:
                self.connections.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self.pump, args=(pair, source, sink), daemon=True).start()

    def pump(self, pair, source, sink):
        try:
            while data := source.recv(1 << 16):
                if pair in self.silent:
                    continue
                if source is pair[1] and self.needle is not None:
                    data = self.without(data)
                sink.sendall(data)
        except OSError:
            pass
        with self.lock:
            self.connections.discard(pair)
        if pair not in self.silent:
            for one in pair:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def without(self, data):
        """Without the event with the needle: each event is a chunk of the HTTP message."""
        kept, at = b"", 0
        while at < len(data):
            head = re.match(rb"([0-9a-fA-F]+)\r\n", data[at:])
            if head is None:
                return kept + data[at:]
            end = at + head.end() + int(head[1], 16) + 2
            chunk = data[at:end]
            if self.needle in chunk and b'"MODIFIED"' in chunk and not self.dropped:
                self.dropped += 1
            else:
                kept += chunk
            at = end
        return kept


class Lossy:
    """Drops all packets of the present connections of a proxy, with iptables."""

    def __init__(self, proxy):
        self.rules = []
        for client in proxy.clients():
            for ports in ((client, proxy.port), (proxy.port, client)):
                rule = f"INPUT -i lo -p tcp --sport {ports[0]} --dport {ports[1]} -j DROP".split()
                subprocess.run(["iptables", "-I", *rule], check=True)
                self.rules.append(rule)

    def end(self):
        for rule in self.rules:
            subprocess.run(["iptables", "-D", *rule], check=True)


def address(port, of, timeout=1.0):
    """Rcode and address of a reply; None without one."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(("127.0.0.1", port))
            client.send(query(1, of))
            reply = client.recv(4096)
        except OSError:
            return None
    counts = struct.unpack("!3H", reply[6:12])
    return reply[3] & 15, ".".join(map(str, reply[-4:])) if counts == (1, 0, 0) else None


def service(of, ip, kind="ClusterIP"):
    return {
        "kind": "Service",
        "metadata": {"name": of, "namespace": NAMESPACE},
        "spec": {"type": kind, "clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]},
    }


def full(of):
    return f"{of}.{NAMESPACE}.svc.cluster.local"


class Probe(threading.Thread):
    """Asks all names of Services that do not change, again and again."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over = port, threading.Event()
        self.asked = self.wrong = self.lost = 0

    def run(self):
        number = 0
        while not self.over.wait(0.02):
            expected = (0, f"10.96.{number // 256 % 256}.{number % 256}")
            reply = address(self.port, name(number))
            self.asked += 1
            self.lost += reply is None
            self.wrong += reply is not None and reply != expected
            number = (number + 7) % SERVICES


class Run(threading.Thread):
    """One server with one fault."""

    def __init__(self, kind, program, fault, options):
        super().__init__()
        self.kind, self.program, self.fault, self.options = kind, program, fault, options
        self.row = None

    def corefile(self, port, api):
        audit = "audit 1m" if self.kind == "lodestone" else ""
        return f""".:{port} {{
    bind 127.0.0.1
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:{api}
        {audit}
    }}
}}
"""

    def run(self):
        port, api_port = free_port(), free_port()
        self.api = ApiServer(self.options.api, api_port, SERVICES, SERVICES * 2)
        self.applying = threading.Lock()
        self.proxy = Proxy(api_port)
        self.apply([service("changed", "10.99.0.1"), service("deleted", "10.99.0.3")])
        server = Server(self.program, self.corefile(port, self.proxy.port), port)
        synced = (("changed", "10.99.0.1"), ("deleted", "10.99.0.3"))
        wait("synced", lambda: all(address(port, full(it), 0.2) == (0, ip) for it, ip in synced))
        wait("synced", lambda: ask(port, name(SERVICES - 1), 0.2) == "NOERROR")
        probe, over = Probe(port), threading.Event()
        beating = threading.Thread(target=self.beat, args=(over,), daemon=True)
        beating.start()
        probe.start()
        # Until the watches are established and have had events.
        time.sleep(5)
        since, end = self.fault(self)
        seen = self.await_changes(port, since)
        if end is not None:
            end()
        probe.over.set()
        over.set()
        probe.join()
        beating.join()
        alive = server.is_alive()
        if self.options.logs:
            server.log.seek(0)
            print(f"{self.kind}:\n{server.log.read().decode(errors='replace')}", file=sys.stderr)
        server.stop()
        self.api.stop()
        state = "" if alive else " (has ended)"
        self.row = [self.kind + state, *seen, f"{probe.wrong} of {probe.asked}", probe.lost]

    def beat(self, over):
        number = 0
        while not over.wait(1):
            number += 1
            self.apply([service("beat", f"10.99.1.{number % 250}")])

    def apply(self, objects):
        with self.applying:
            self.api.apply(objects)

    def change(self):
        """Changes, adds and deletes a Service."""
        self.apply([service("changed", "10.99.0.2"), service("added", "10.99.0.4")])
        with self.applying:
            self.api.delete([service("deleted", "")])

    def await_changes(self, port, since):
        """How long after `since` each change is answered."""
        expected = {"changed": (0, "10.99.0.2"), "added": (0, "10.99.0.4"), "deleted": (3, None)}
        seen = {}
        while len(seen) < len(expected) and time.monotonic() < since + self.options.patience:
            for of, reply in expected.items():
                if of not in seen and address(port, full(of)) == reply:
                    seen[of] = time.monotonic() - since
            time.sleep(0.005)
        none = f"not in {self.options.patience:.0f} s"
        return [f"{max(seen[of], 0):.2f} s" if of in seen else none for of in expected]


def down(run):
    """Refuses connections for a time; the change is made meanwhile, and the time counts from its end."""
    run.proxy.down()
    time.sleep(1)
    run.change()
    time.sleep(run.options.down - 1)
    run.proxy.up()
    return time.monotonic(), None


def cut(run):
    run.proxy.cut()
    since = time.monotonic()
    run.change()
    return since, None


def silent(run):
    run.proxy.silence()
    since = time.monotonic()
    run.change()
    return since, None


def stopped(run):
    lossy = Lossy(run.proxy)
    since = time.monotonic()
    run.change()
    return since, lossy.end


def gone(run):
    with run.applying:
        run.api.tell("relist")
    since = time.monotonic()
    run.change()
    return since, None


def lost(run):
    run.proxy.needle = b'"name":"changed"'
    since = time.monotonic()
    run.change()
    wait("the event", lambda: run.proxy.dropped == 1)
    return since, None


FAULTS = {
    "down": ("the API server is down for {down:.0f} s (times count from its end)", down),
    "cut": ("the connections are cut", cut),
    "silent": ("the connections stay open, and no byte comes", silent),
    "packets": ("all packets of the connections are dropped", stopped),
    "gone": ("the connections are cut, and the watch is answered with 410 (Gone)", gone),
    "lost": ("the event of the changed Service is lost", lost),
}


def has_iptables():
    if shutil.which("iptables") is None:
        return False
    return subprocess.run(["iptables", "-S"], capture_output=True).returncode == 0


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--down", type=float, default=60, help="seconds without the API server (default: 60)")
    options.add_argument("--patience", type=float, default=400, help="seconds until a change counts as lost (400)")
    options.add_argument("--only", choices=FAULTS, action="append", help="these faults only")
    options.add_argument("--logs", action="store_true", help="print the servers' logs on standard error")
    api_option(options)
    chosen = options.parse_args()
    chosen.api = api_program(chosen)
    rows = []
    for key, (text, fault) in FAULTS.items():
        if chosen.only and key not in chosen.only:
            continue
        if key == "packets" and not has_iptables():
            print("packets: left out, it needs iptables and root", file=sys.stderr)
            continue
        runs = [Run(kind, program, fault, chosen) for kind, program in servers()]
        for one in runs:
            one.start()
        for one in runs:
            one.join()
            rows.append([text.format(down=chosen.down), *(one.row or [one.kind, "failed"])])
    table(["fault", "server", "changed", "added", "deleted", "other names wrong", "lost"], rows)


if __name__ == "__main__":
    main()
