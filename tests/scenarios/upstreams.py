#!/usr/bin/env python3
"""What a client sees, and when, while an upstream misbehaves: alone, and beside a good one.

Local names stand for those of the cluster: they are served from `hosts`. Outside names are forwarded; each query
has a name of its own, so that no cache answers. Clients wait for 5 seconds, as glibc, musl and Go do, and query
again over TCP after a truncated reply.
"""

import argparse
import asyncio
import multiprocessing
import statistics

from common import LOCAL, Server, free_port, servers, table
from fake_upstreams import (
    FORGED,
    GOOD,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    TC,
    Upstream,
    ask,
    without_ports,
)

RATE = 20
# Names of the two halves of outside names, where an upstream treats one domain differently.
BAD, OTHER = "bad.test", "other.test"


def good(one):
    return [(0, one.reply())]


def good_for_a_second(one):
    return [(0, one.reply(ttl=1))]


def silent(_):
    return []


def after(delay):
    return lambda one: [(delay, one.reply())]


def rcode(number):
    return lambda one: [(0, one.reply(0 if one.is_check else number))]


def wrong_id(one):
    return [(0, one.reply(wrong_id=True, address=FORGED))]


def wrong_question(one):
    other = b"\x05wrong\x04test\0\0\x01\0\x01"
    return [(0, one.reply(address=FORGED, question=other))]


def forger(one):
    """Forged replies, and 20 ms later the right one."""
    return [*wrong_id(one), *wrong_question(one), (0.02, one.reply())]


def truncating(one):
    return [(0, one.reply(flags=TC if one.transport == "udp" else 0))]


def flapping(one):
    return good(one) if one.elapsed % 10 < 5 else []


def only(transport):
    return lambda one: good(one) if one.transport == transport else []


def for_domain(behaviour):
    return lambda one: behaviour(one) if one.name.endswith(BAD) else good(one)


class Case:
    def __init__(self, text, behaviour, domain=False, seconds=None, client="udp", options="", **parts):
        self.text, self.behaviour, self.domain, self.client = text, behaviour, domain, client
        self.seconds, self.options, self.parts = seconds, options, parts


CASES = [
    Case("dead: nothing listens (ICMP)", silent, tcp="closed", udp=False),
    Case("silent", silent, tcp="silent"),
    Case("slow: 300 ms", after(0.3)),
    Case("slow: 2 s", after(2)),
    Case("lies: wrong id", wrong_id),
    Case("lies: wrong question", wrong_question),
    Case("forged replies 20 ms before the right one", forger),
    Case("truncates over UDP, TCP works", truncating),
    Case("truncates over UDP, TCP closed", truncating, tcp="closed"),
    Case("truncates over UDP, TCP silent", truncating, tcp="silent"),
    Case("flaps: 5 s good, 5 s silent", flapping, seconds=20),
    Case("TCP works, UDP silent", only("tcp")),
    Case("UDP works, TCP closed; clients over TCP", only("udp"), tcp="closed", client="tcp"),
    Case("UDP works, TCP silent; clients over TCP", only("udp"), tcp="silent", client="tcp"),
    Case("SERVFAIL for one domain", for_domain(rcode(SERVFAIL)), domain=True),
    Case("silent for one domain", for_domain(silent), domain=True),
    Case("4.5 s late for one domain", for_domain(after(4.5)), domain=True),
    Case("SERVFAIL always", rcode(SERVFAIL)),
    Case("REFUSED always", rcode(REFUSED)),
    Case("SERVFAIL always, `failover SERVFAIL`", rcode(SERVFAIL), options="failover SERVFAIL"),
]


def corefile(port, upstreams, options="", cache=""):
    to = " ".join(f"127.0.0.1:{one.port}" for one in upstreams)
    return f""".:{port} {{
    bind 127.0.0.1
    hosts {{
        {GOOD} {LOCAL}
        fallthrough
    }}
    {cache}
    forward . {to} {{
        {options}
    }}
}}
"""


async def send(port, name, seconds, transport="udp"):
    """Sends queries at a constant rate; `name` is called with the number of the query. Returns the answers with
    the time since the begin at which each was asked."""
    loop = asyncio.get_running_loop()
    begun, tasks, times = loop.time(), [], []
    for number in range(int(seconds * RATE)):
        await asyncio.sleep(begun + number / RATE - loop.time())
        times.append(loop.time() - begun)
        tasks.append(asyncio.ensure_future(ask(port, name(number), number, transport)))
    return list(zip(times, await asyncio.gather(*tasks)))


def seconds_of(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def share(answers):
    return f"{100 * sum(it.right for it in answers) / len(answers):.0f} %"


def summary(answers):
    """Answered, p50, p99, first failure. A client without a reply has waited for all of its time."""
    times = sorted(it.took for it in answers)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    failures = [it.failure for it in answers if it.failure]
    wrong = sum(it.wrong for it in answers)
    first = without_ports(failures[0]) if failures else "none"
    if wrong:
        first = f"{wrong} FORGED; {first}"
    return share(answers), seconds_of(statistics.median(times)), seconds_of(p99), first


async def run_case(program, case, beside, seconds):
    bad = await Upstream(case.behaviour, **case.parts).start()
    upstreams = [bad, await Upstream(good).start()] if beside else [bad]
    port = free_port()
    server = Server(program, corefile(port, upstreams, case.options), port)
    try:
        await asyncio.to_thread(server.wait_until_served)
        bad.begun = asyncio.get_running_loop().time()
        duration = case.seconds or seconds

        def outside(number):
            return f"n{number}.{BAD if not case.domain or number % 2 else OTHER}"

        asked, local = await asyncio.gather(
            send(port, outside, duration, case.client), send(port, lambda _: LOCAL, duration)
        )
    finally:
        server.stop()
        for one in upstreams:
            one.stop()
    groups = {"": asked}
    if case.domain:
        groups = {" (names of it)": asked[1::2], " (other names)": asked[0::2]}
    per_query = " + ".join(f"{one.queries / len(asked):.2f}" for one in upstreams)
    rows = []
    for text, part in groups.items():
        cells = summary([answer for _, answer in part])
        rows.append([case.text + text, "a good one" if beside else "none", *cells, per_query, bad.checks,
                     share([answer for _, answer in local])])
    return rows


KEPT = 4.0
STALE = ["serve_stale 1h"]
# The first and the last are Lodestone's own.
KEEPING = [["keep_last_good 1h"], STALE, ["keep_last_good 1h", "serve_stale 1h"]]
STAGES = [
    ("answers", good_for_a_second),
    ("NXDOMAIN", lambda one: [(0, one.reply(NXDOMAIN, soa=True))]),
    ("NXDOMAIN without an SOA record", rcode(NXDOMAIN)),
    ("SERVFAIL", rcode(SERVFAIL)),
    ("REFUSED", rcode(REFUSED)),
    ("silent", silent),
]


async def run_kept(kind, program, own):
    """Ten names again and again, with an upstream that changes from good to denials, failures and silence."""

    def behaviour(one):
        if one.is_check:
            return good(one)
        _, stage = STAGES[min(int(one.elapsed / KEPT), len(STAGES) - 1)]
        return stage(one)

    upstream = await Upstream(behaviour).start()
    port = free_port()
    lines = "\n".join(own)
    cache = f"cache {{\n success 2048 1 1\n denial 2048 1 1\n servfail 1s\n {lines}\n }}"
    server = Server(program, corefile(port, [upstream], cache=cache), port)
    try:
        await asyncio.to_thread(server.wait_until_served)
        upstream.begun = asyncio.get_running_loop().time()
        asked = await send(port, lambda number: f"n{number % 10}.{BAD}", KEPT * len(STAGES))
    finally:
        server.stop()
        upstream.stop()
    rows = []
    for number, (text, _) in enumerate(STAGES):
        # The first second of each stage is answered from the cache.
        part = [it for at, it in asked if number * KEPT + 1.2 < at < (number + 1) * KEPT]
        rows.append([text, kind, ", ".join(f"`{line}`" for line in own), *summary(part)])
    return rows


def work(job):
    kind, program, what, beside, seconds = job
    if isinstance(what, list):
        return asyncio.run(run_kept(kind, program, what))
    rows = asyncio.run(run_case(program, CASES[what], beside, seconds))
    return [[*row[:2], kind, *row[2:]] for row in rows]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=8, help="of each case (default: 8)")
    options.add_argument("--jobs", type=int, default=4, help="cases at the same time (default: 4)")
    options.add_argument("--only", default="", help="only cases whose text contains this; `kept` for the cache")
    chosen = options.parse_args()
    # The servers of a case run at the same time, so that both have the same machine.
    jobs = [
        (kind, program, number, beside, chosen.seconds)
        for number, case in enumerate(CASES)
        if chosen.only in case.text
        for beside in (False, True)
        for kind, program in servers()
    ]
    kept = [
        (kind, program, own, False, 0)
        for kind, program in servers()
        for own in KEEPING
        if kind == "lodestone" or own == STALE
    ]
    with multiprocessing.Pool(chosen.jobs) as pool:
        results = pool.map(work, jobs + (kept if chosen.only in "kept" else []), chunksize=1)
    print(f"{RATE} queries/s for {chosen.seconds:.0f} s each")
    table(
        (
            "upstream",
            "beside it",
            "server",
            "answered",
            "p50",
            "p99",
            "first failure",
            "to upstreams per query",
            "checks",
            "local names",
        ),
        [row for rows in results[: len(jobs)] for row in rows],
    )
    if chosen.only in "kept":
        print("\nThe same ten names, TTL 1; the upstream changes every 4 s")
        table(
            ("upstream", "server", "cache", "answered", "p50", "p99", "first failure"),
            [row for rows in results[len(jobs) :] for row in rows],
        )


if __name__ == "__main__":
    main()
