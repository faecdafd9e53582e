#!/usr/bin/env python3
"""A restart while the API server is down.

A server watches an API server with 2,000 Services. Both are killed, and the server is started again. For 20 seconds
without an API server, names of the cluster that exist and one that does not are queried; then the API server comes
back, with one more Service.
"""

import argparse
import tempfile
import time
from pathlib import Path

from common import ApiServer, Server, api_option, api_program, ask, free_port, name, servers, table, wait

SERVICES = 2000
DOWN = 20
MISSING = "no-such-service.team-1.svc.cluster.local"


def corefile(kind, port, api, directory):
    snapshot = f"snapshot {directory} 1s\n" if kind == "lodestone" else ""
    return f""".:{port} {{
    bind 127.0.0.1
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:{api}
        {snapshot}
    }}
}}
"""


def run(kind, program, api):
    port, api_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        text = corefile(kind, port, api_port, directory)
        api_server = ApiServer(api, api_port, SERVICES, SERVICES * 2)
        first = Server(program, text, port)
        wait("synced", lambda: ask(port, name(SERVICES - 1), 0.2) == "NOERROR")
        if kind == "lodestone":
            wait("a snapshot", lambda: list(Path(directory).glob("*.snapshot")))
        api_server.stop()
        first.stop()

        begun = time.monotonic()
        server = Server(program, text, port)
        wait("an answer", lambda: ask(port, name(0), 0.2) is not None)
        to_answer = time.monotonic() - begun
        counts, missing, number = {}, set(), 0
        while time.monotonic() - begun < DOWN:
            rcode = ask(port, name(number % SERVICES), 1)
            counts[rcode] = counts.get(rcode, 0) + 1
            if number % 50 == 0:
                missing.add(ask(port, MISSING, 1))
            number += 1
            time.sleep(0.002)
        api_server = ApiServer(api, api_port, SERVICES, SERVICES * 2)
        back = time.monotonic()
        wait("a denial", lambda: ask(port, MISSING, 0.2) == "NXDOMAIN")
        recovered = time.monotonic() - back
        server.stop()
        api_server.stop()
    total = sum(counts.values())
    answered = 100 * counts.get("NOERROR", 0) / total
    others = ", ".join(sorted(str(it) for it in missing))
    return [kind, f"{to_answer:.2f} s", f"{answered:.1f} % of {total}", others, f"{recovered:.1f} s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    api_option(parser)
    api = api_program(parser.parse_args())
    rows = [run(kind, program, api) for kind, program in servers()]
    table(
        ["server", "first reply after", "existing names answered", "other names", "synced after"],
        rows,
    )


if __name__ == "__main__":
    main()
