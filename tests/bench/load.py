"""Asks servers and reads what it cost them: dnsperf, /proc, and the numbers drawn from rounds."""

import re
import socket
import statistics
import struct
import subprocess
import time
from pathlib import Path

TICKS = 100  # of a second; what Linux gives to user space on every architecture


class Sample:
    """What one run of dnsperf came to."""

    def __init__(self, text, ticks):
        def number(label, default=0.0):
            found = re.search(rf"{label}:\s+([\d.]+)", text)
            return float(found[1]) if found else default

        self.answered = number("Queries completed")
        self.lost = number("Queries lost")
        self.per_second = number("Queries per second")
        codes = re.search(r"Response codes:\s+(.*)", text)
        self.codes = dict(re.findall(r"(\w+) (\d+)", codes[1])) if codes else {}
        self.micros = ticks * 1e6 / TICKS / max(self.answered, 1)
        if self.answered == 0:
            raise SystemExit(f"dnsperf had no answer:\n{text}")

    def expect(self, server, row, code):
        """A server that answers something else is not measured but found out."""
        other = {name: count for name, count in self.codes.items() if name != code}
        if sum(map(int, other.values())) > self.answered * 0.001:
            raise SystemExit(f"{row}: {server} answers {self.codes}, not {code}")
        if self.lost > self.answered * 0.01:
            print(f"  {row}: {server} lost {self.lost:.0f} of {self.answered:.0f}", flush=True)


def processes(leader):
    """All processes of the session that a server was started in: some fork."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if fields(entry.name)[3] == str(leader):
                    members.append(int(entry.name))
            except OSError:
                pass
    return members


def fields(pid):
    """The fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def ticks(leader):
    """Processor time that a server has used, its ended children left out."""
    return sum(sum(map(int, fields(pid)[11:13])) for pid in processes(leader))


def megabytes(leader, what="VmRSS"):
    """Memory of a server. Of several processes, what they share is counted once (PSS)."""
    members = processes(leader)
    if len(members) == 1:
        text = Path(f"/proc/{leader}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", text)[1]) / 1024
    text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in members)
    return sum(map(int, re.findall(r"^Pss:\s+(\d+)", text, re.M))) / 1024


def forget_peak(leader):
    """Makes VmHWM begin anew."""
    Path(f"/proc/{leader}/clear_refs").write_text("5")


def command_line(port, names, seconds, *more):
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(names), "-l", str(seconds)]
    return [*command, *more]


def dnsperf(port, names, seconds, *more):
    command = command_line(port, names, seconds, *more)
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)}: {run.stderr}")
    return run.stdout


def flood(server, names, seconds, *more):
    """As many questions as the server answers, 200 at a time from 16 sockets."""
    before = ticks(server.pid)
    text = dnsperf(server.port, names, seconds, "-c", "16", "-q", "200", *more)
    return Sample(text, ticks(server.pid) - before)


def flood_with_edns(server, names, seconds):
    """The same by clients with EDNS, whose replies are longer."""
    return flood(server, names, seconds, "-e")


def ask_by_tcp(server, names, seconds):
    """One question after the other on one connection, all for the first of `names`."""
    name, rtype = Path(names).read_text().split()[:2]
    labels = b"".join(bytes([len(it)]) + it.encode() for it in name.split("."))
    number = {"A": 1, "SRV": 33}[rtype]
    question = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", number, 1)
    answered, before, end = 0, ticks(server.pid), time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stream, stream.makefile("rb") as replies:
        while time.monotonic() < end:
            stream.sendall(struct.pack("!H", len(question)) + question)
            (length,) = struct.unpack("!H", replies.read(2))
            code = replies.read(length)[3] & 0x0F
            if code:
                raise SystemExit(f"{name} {rtype}: code {code}")
            answered += 1
    text = f"Queries completed: {answered}\nResponse codes: NOERROR {answered}"
    return Sample(text, ticks(server.pid) - before)


def delays(server, names, seconds, rate):
    """Milliseconds from question to answer at a steady rate, in order."""
    text = dnsperf(server.port, names, seconds, "-c", "16", "-q", "1000", "-Q", str(rate), "-v")
    found = re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", text, re.M)
    return sorted(float(it) * 1000 for it in found)


def delays_under(server, names, seconds, rate, probes):
    """The same of `probes` questions a second, while all in all there are `rate` of them. Writing
    down what every question took would be the work of a whole core, and be measured with the rest."""
    others = command_line(server.port, names, seconds + 0.5, "-c", "16", "-q", "1000", "-Q", str(rate - probes))
    silent = subprocess.DEVNULL
    with subprocess.Popen(others, stdout=silent, stderr=silent) as load:
        found = delays(server, names, seconds, probes)
        load.wait()
    return found


def at(ordered, share):
    return ordered[int((len(ordered) - 1) * share)]


median = statistics.median
