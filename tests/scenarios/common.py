"""Starting servers and sending queries, for the scenarios of this directory."""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The name that the Corefiles below serve from `hosts`, as the cluster's names would be served.
LOCAL = "name.example"
OUTSIDE = "outside.test"


def servers():
    """Name and program of each server that is compared."""
    found = [("lodestone", os.environ.get("LODESTONE", "target/release/lodestone"))]
    if "COREDNS" in os.environ:
        found.append(("coredns", os.environ["COREDNS"]))
    for name, program in found:
        if not os.access(program, os.X_OK):
            sys.exit(f"{name}: {program} cannot be executed; set {name.upper()}")
    return [(name, str(Path(program).resolve())) for name, program in found]


def free_port():
    """A port that is free for UDP and TCP now."""
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
    """A process with a Corefile of its own."""

    def __init__(self, program, corefile, port, arguments=(), stdout=None, before=None):
        """`stdout`: instead of the log file, for standard output alone. `before`: called in the process first."""
        self.home = tempfile.TemporaryDirectory()
        path = Path(self.home.name) / "Corefile"
        path.write_text(corefile)
        self.port = port
        self.log = open(Path(self.home.name) / "log", "w+b")
        self.process = subprocess.Popen(
            [program, *arguments, "-conf", str(path)],
            stdout=self.log if stdout is None else stdout,
            stderr=self.log,
            preexec_fn=before,
        )
        self.usage = None

    def wait_until_served(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if ask(self.port, LOCAL, 0.2) is not None:
                return self
            time.sleep(0.02)
        self.log.seek(0)
        sys.exit(f"not served:\n{self.log.read().decode(errors='replace')}")

    def is_alive(self):
        """Whether the process lives; keeps what it has used if it has ended."""
        if self.usage is None:
            pid, _, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.usage = usage
                self.process.returncode = 0
        return self.usage is None

    def cpu(self):
        """Seconds of processor time that the process has used."""
        if not self.is_alive():
            return self.usage.ru_utime + self.usage.ru_stime
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self.is_alive():
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.home.cleanup()


class ApiServer:
    """The tests' API server with Services `name(0)`, `name(1)`, ...: see tests/apiserver/serve.rs."""

    def __init__(self, program, port, services, endpoints):
        self.process = subprocess.Popen(
            [program, str(port), str(services), str(endpoints)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process.stdout.readline()

    def tell(self, command):
        """A command that is answered with nothing."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def apply(self, objects):
        """Adds or replaces objects, and waits until that is done."""
        self.with_file("apply", objects)

    def delete(self, objects):
        """Deletes objects, and waits until that is done."""
        self.with_file("delete", objects)

    def with_file(self, command, objects):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(objects, file)
            file.flush()
            self.tell(f"{command} {file.name}")
            line = self.process.stdout.readline()
            if f" {len(objects)} " not in line:
                sys.exit(f"API server: {line}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def api_option(parser):
    """The option `--api` with the program of the API server."""
    parser.add_argument(
        "--api",
        default=os.environ.get("APISERVER", "target/release/examples/apiserver"),
        help="the tests' API server (cargo build --release --example apiserver)",
    )


def api_program(options):
    """The program of `api_option`."""
    if not os.access(options.api, os.X_OK):
        sys.exit(f"{options.api} cannot be executed: cargo build --release --example apiserver")
    return str(Path(options.api).resolve())


def name(number):
    """The name of a Service of the API server."""
    return f"service-{number}.team-{number % 50}.svc.cluster.local"


def wait(what, is_so, seconds=30, pause=0.005):
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"never: {what}")
        time.sleep(pause)


def query(number, name, rtype=1):
    labels = b"".join(bytes([len(it)]) + it.encode() for it in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, rtype, 1)


RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


def ask(port, name, timeout):
    """The rcode of a reply over UDP; None without one."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(("127.0.0.1", port))
            client.send(query(os.getpid() & 0xFFFF, name))
            return RCODES.get(client.recv(4096)[3] & 15, "other")
        except OSError:
            return None


def table(head, rows):
    """Prints a table in Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
