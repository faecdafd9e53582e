#!/usr/bin/env python3
"""Counts the instructions of each kind of query, and compares them with what they may be.

    tests/bench/budget.py [--record]

The counts are valgrind's, of `instructions.rs` beside this: no socket, no other program, no noise of
the machine. The budget is `budget.txt`; a kind that takes more than 3 % above it is told, more than
10 % fails: what the C library copies with depends on the processor. One that takes less is told
too, so that the budget can be recorded anew. Only this package is optimized: what it
depends on is taken from the tests' build, which is there already.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BUDGET = HERE / "budget.txt"
FAILS, ABOVE, BELOW = 1.10, 1.03, 0.95
QUESTIONS, FEW = 2000, 100  # as in instructions.rs
KINDS = {
    "a_of_a_service": QUESTIONS,
    "aaaa_without_data": QUESTIONS,
    "name_that_does_not_exist": QUESTIONS,
    # With the reason as extended DNS error.
    "denied_with_edns": QUESTIONS,
    "misspelt_service_with_edns": QUESTIONS,
    "srv_of_a_headless_service": QUESTIONS,
    "ptr_of_a_service": QUESTIONS,
    "cached_outside_name": QUESTIONS,
    "forwarded": QUESTIONS,
    "answer_of_an_upstream": QUESTIONS,
    # A datagram holds 73 addresses or 18 SRV records of the 5,000 endpoints, a stream's message 4,093 or 990.
    "a_of_5000_endpoints": FEW,
    "srv_of_5000_endpoints": FEW,
    "a_of_5000_endpoints_by_tcp": FEW,
    "srv_of_5000_endpoints_by_tcp": FEW,
    "ptr_of_a_crowded_address": FEW,
}


def measure():
    build = ["cargo", "build", "--locked", "--example", "instructions"]
    subprocess.run([*build, "--config", "profile.dev.package.lodestone.opt-level=3"], check=True)
    with tempfile.NamedTemporaryFile() as file:
        program = HERE.parent.parent / "target/debug/examples/instructions"
        grind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file.name}", program]
        run = subprocess.run(grind, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(run.stdout + run.stderr)
        annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", file.name]
        text = subprocess.run(annotate, capture_output=True, text=True, check=True).stdout
    counts = {}
    for kind, questions in KINDS.items():
        found = re.findall(rf"^\s*([\d,]+) .*instructions::(?:upstreams::)?{kind}(?:::h[0-9a-f]+)? ", text, re.M)
        if not found:
            raise SystemExit(f"callgrind has not seen {kind}")
        counts[kind] = max(int(it.replace(",", "")) for it in found) // questions
    return counts


def least(budget):
    """The counts; the least of up to three runs where one is too large: those of forwarded queries depend on how
    often the engine is woken, which a busy machine changes. What the code takes is in every run."""
    counts = measure()
    for _ in range(2):
        if all(count <= budget.get(kind, count) * FAILS for kind, count in counts.items()):
            break
        again = measure()
        counts = {kind: min(count, again[kind]) for kind, count in counts.items()}
    return counts


def main():
    if "--record" in sys.argv:
        counts = measure()
        lines = "".join(f"{kind} {count}\n" for kind, count in counts.items())
        BUDGET.write_text("# Instructions a query, as budget.py --record has counted them.\n" + lines)
    lines = (line.split() for line in BUDGET.read_text().splitlines() if not line.startswith("#"))
    budget = {kind: int(count) for kind, count in lines}
    counts = least(budget)
    failed = False
    for kind, count in counts.items():
        if kind not in budget:
            print(f"{kind:28} {count:7}  without a budget: record it")
            continue
        ratio = count / budget[kind]
        word = "too many" if ratio > ABOVE else "fewer: record the budget anew" if ratio < BELOW else "ok"
        failed |= ratio > FAILS
        print(f"{kind:28} {count:7} of {budget[kind]:7}  {(ratio - 1) * 100:+6.1f} %  {word}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
