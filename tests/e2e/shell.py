"""Commands, waiting, and what is printed meanwhile."""

import ctypes
import os
import signal
import subprocess
import sys
import time


class Problem(Exception):
    """The test cannot go on; the text says why."""


skipped = []


def skip(what, why):
    skipped.append(f"{what}: {why}")
    say(f"skipped: {what}: {why}")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def wait_for(what, condition, seconds=120, pause=0.2):
    """The first true value of `condition`, which is asked until then."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Problem(f"waited {seconds} s for {what}")
        time.sleep(pause)


def command(words, **options):
    """The output of a command; a Problem with what it wrote if it fails."""
    found = subprocess.run([str(it) for it in words], capture_output=True, text=True, **options)
    if found.returncode:
        text = " ".join(str(it) for it in words)
        raise Problem(
            f"{text[:300]}: exit code {found.returncode}\n{found.stderr.strip()}\n{found.stdout.strip()[-2000:]}"
        )
    return found.stdout


def end_with_parent():
    """For a child, between fork and exec: SIGKILL when this script ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.setpgid(0, 0)  # an interrupt of the terminal is for the script alone
