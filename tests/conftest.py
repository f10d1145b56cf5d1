"""For all tests: what they start can be interrupted, however they were started themselves."""

from __future__ import annotations

import signal


def _deaf(_number: int, _frame: object) -> None:
    """In the place of an ignored signal, which `nohup … &` leaves behind and every child would inherit.

    This process goes on ignoring it; in what it starts, the signal does what it does by default.
    """


for _signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _deaf)
