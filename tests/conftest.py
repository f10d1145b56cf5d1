"""For all tests: what they start can be interrupted, and none of them hangs for ever."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator

import pytest


def _deaf(_number: int, _frame: object) -> None:
    """In the place of an ignored signal, which `nohup … &` leaves behind and every child would inherit.

    This process goes on ignoring it; in what it starts, the signal does what it does by default.
    """


for _signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _deaf)

GRACE_SECONDS = 60.0
"""After a test's time limit, for what the exception that it raises sets going."""
_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is captured at this moment: standard error is the one that is read."""
    config.stash[_STDERR] = os.dup(2)


def _arm(item: pytest.Item) -> None:
    marker = item.get_closest_marker("timeout")
    limit = marker.args[0] if marker is not None and marker.args else item.config.getoption("timeout", None)
    if limit:
        faulthandler.dump_traceback_later(
            float(limit) + GRACE_SECONDS, exit=True, file=item.config.stash[_STDERR]
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that outlasts its time limit ends its process, with a word on where each thread was.

    The limit is an exception on the main thread, raised once. It ends nothing where it goes through a context
    manager that itself waits for what hangs, nor in Hypothesis, which tries the example once more.
    """
    _arm(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """The same for what follows a failure, which pytest takes for the end of the matter."""
    _arm(item)
