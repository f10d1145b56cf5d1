"""Signals are heard whatever the main thread is doing: each in a process of its own."""

from __future__ import annotations

import select
import signal
import subprocess
import sys

import pytest

GOES_TO_SLEEP = """
import signal, sys, threading
from omrwatchd.signals import signals

signals().hear(signal.SIGHUP)

def busy():
    while True:
        sum(range(2000))

for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
while True:
    sys.stdout.write(".")
    sys.stdout.flush()
    signals().words.get()
"""
IN_A_FINALISER = """
import os, signal, sys, threading, types

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def entry():
    Dying()
    threading.Event().wait(30)
    sys.exit(1)

sys.modules["omrwatchd.cli.main"] = types.ModuleType("omrwatchd.cli.main")
sys.modules["omrwatchd.cli.main"].entry = entry
sys.argv = ["omrwatchd", "run"]
from omrwatchd.__main__ import main
main()
"""


@pytest.mark.slow
def test_signal_that_comes_as_the_main_thread_goes_to_sleep_is_heard() -> None:
    """Threads that want the interpreter hold it up on its way into the wait: of 500 words none is missed."""
    with subprocess.Popen([sys.executable, "-c", GOES_TO_SLEEP], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for number in range(500):
            heard, _, _ = select.select([process.stdout], [], [], 10)
            if not heard:
                process.kill()
            assert heard, f"signal {number} is lost"
            assert process.stdout.read(1) == b"."
            process.send_signal(signal.SIGHUP)
        process.kill()


def test_stop_that_comes_where_nothing_can_be_raised_is_heard() -> None:
    """In a finaliser, which swallows exceptions, while the program is still loading."""
    done = subprocess.run([sys.executable, "-c", IN_A_FINALISER], timeout=20, check=False)
    assert done.returncode == 0
