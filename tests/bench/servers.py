"""The servers that are compared: how each is configured, started and stopped.

All listen on 127.0.0.1, on ports that are free at the start, and live in one directory that goes
with them. The configurations are the plain ones: what a distribution's package or kubeadm gives,
and threads for every core.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

CORES = len(os.sched_getaffinity(0))


def free_port():
    """A port that is free for both transports now."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("127.0.0.1", 0))
            port = stream.getsockname()[1]
            try:
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """A running server: its process, and where it listens."""

    def __init__(self, name, command, port, home, **options):
        self.name, self.port = name, port
        self.log = open(home / f"{name}.log", "wb")
        options.setdefault("stdout", self.log)
        self.process = subprocess.Popen(
            command, stderr=self.log, cwd=home, start_new_session=True, **options
        )
        self.pid = self.process.pid

    def stop(self):
        try:
            os.killpg(self.pid, signal.SIGTERM)
            self.process.wait(10)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


class Stage:
    """A directory and everything that was started in it."""

    def __init__(self, home, target):
        self.home, self.target, self.running = home, target, []

    def start(self, name, command, port, **options):
        server = Server(name, [str(word) for word in command], port, self.home, **options)
        self.running.append(server)
        return server

    def stop(self, server):
        self.running.remove(server)
        server.stop()

    def close(self):
        for server in reversed(self.running):
            server.stop()

    def write(self, name, text):
        path = self.home / name
        path.write_text(text)
        return path

    # The cluster

    def api_server(self, services, endpoints, pods):
        port = free_port()
        command = [self.target / "examples/apiserver", port, services, endpoints, pods]
        pipe = subprocess.PIPE
        server = self.start("apiserver", command, port, stdin=pipe, stdout=pipe)
        self.api, self.url = server, f"http://127.0.0.1:{port}"
        server.process.stdout.readline()

    def tell_api(self, line, wait=True):
        self.api.process.stdin.write(line.encode() + b"\n")
        self.api.process.stdin.flush()
        return self.api.process.stdout.readline() if wait else None

    def cluster_server(self, name, binary, upstream, pods="insecure", extra="", flags=(), **options):
        """Lodestone or CoreDNS with the Corefile that kubeadm writes, and where to find things."""
        port, ready = free_port(), free_port()
        corefile = self.write(
            f"{name}.Corefile",
            f""".:{port} {{
    bind 127.0.0.1
    errors
    health 127.0.0.1:{free_port()} {{
        lameduck 5s
    }}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint {self.url}
        pods {pods}
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus 127.0.0.1:{free_port()}
    forward . 127.0.0.1:{upstream} {{
        max_concurrent 1000
    }}
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    loop
    reload
    loadbalance
    {extra}
}}
""",
        )
        begun = time.monotonic()
        server = self.start(name, [binary, *flags, "-conf", corefile], port, **options)
        while not is_ready(ready):
            if server.process.poll() is not None:
                raise SystemExit((self.home / f"{name}.log").read_text())
            time.sleep(0.002)
        server.took = time.monotonic() - begun
        return server

    # Authoritative servers

    def knot(self, name, zones):
        port = free_port()
        home = self.home / name
        home.mkdir()
        listed = "".join(f"  - domain: {zone}\n    file: {file}\n" for zone, file in zones.items())
        config = self.write(
            f"{name}.conf",
            f"""server:
  rundir: {home}
  listen: 127.0.0.1@{port}
  udp-workers: {CORES}
  tcp-workers: {CORES}
  tcp-io-timeout: 5000
log:
  - target: stderr
    any: warning
database:
  storage: {home}
template:
  - id: default
    storage: {home}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
    semantic-checks: off
zone:
{listed}""",
        )
        return self.start(name, ["knotd", "-c", config], port)

    def nsd(self, zones):
        port = free_port()
        home = self.home / "nsd"
        home.mkdir()
        listed = "".join(f"zone:\n  name: {zone}\n  zonefile: {file}\n" for zone, file in zones.items())
        config = self.write(
            "nsd.conf",
            f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: {CORES}
  reuseport: yes
  username: ""
  chroot: ""
  zonesdir: "{home}"
  database: ""
  pidfile: "{home}/pid"
  xfrdfile: "{home}/xfrd"
  zonelistfile: "{home}/zones"
  rrl-ratelimit: 0
  tcp-count: 200
remote-control:
  control-enable: no
{listed}""",
        )
        return self.start("nsd", ["nsd", "-d", "-c", config], port)

    # Forwarders

    def unbound(self, upstream):
        port = free_port()
        config = self.write(
            "unbound.conf",
            f"""server:
  interface: 127.0.0.1
  port: {port}
  num-threads: {CORES}
  so-reuseport: yes
  msg-cache-slabs: {CORES}
  rrset-cache-slabs: {CORES}
  module-config: "iterator"
  do-not-query-localhost: no
  username: ""
  chroot: ""
  directory: "{self.home}"
  pidfile: ""
  use-syslog: no
  verbosity: 0
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream}
""",
        )
        return self.start("unbound", ["unbound", "-d", "-c", config], port)

    def dnsdist(self, upstream):
        port = free_port()
        listen = f'("127.0.0.1:{port}", {{reusePort=true}})\n'
        listening = "setLocal" + listen + ("addLocal" + listen) * (CORES - 1)
        config = self.write(
            "dnsdist.conf",
            f'{listening}newServer({{address="127.0.0.1:{upstream}", checkName="n0.example."}})\n',
        )
        return self.start("dnsdist", ["dnsdist", "--supervised", "--disable-syslog", "-C", config], port)

    def zone_of(self, server, zone):
        """The zone as a server gives it, as a file. Its SOA stands at both ends, once is enough."""
        command = ["dig", f"-p{server.port}", "@127.0.0.1", zone, "AXFR", "+onesoa", "+noall", "+answer"]
        text = subprocess.run(command, capture_output=True, text=True).stdout
        if " SOA " not in text and "\tSOA\t" not in text:
            raise SystemExit(f"no transfer of {zone}: {text}")
        return self.write(f"{zone}.zone", text)


def is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def installed(binary):
    return shutil.which(binary) is not None


def answers(server, name, rtype="A"):
    """Waits until a server answers a name."""
    command = ["dig", f"-p{server.port}", "@127.0.0.1", name, rtype, "+short", "+tries=1", "+time=1"]
    for _ in range(100):
        text = subprocess.run(command, capture_output=True, text=True).stdout
        if text and not text.startswith(";"):
            return
        time.sleep(0.1)
    raise SystemExit(f"{server.name} does not answer {name} {rtype}")
