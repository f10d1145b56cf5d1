"""Whether somebody has a file open for writing: asked of the kernel by a read lease (fcntl(2))."""

from __future__ import annotations

import errno
import fcntl
import signal


def ignore_lease_signal() -> None:
    """A writer that opens the file while the lease is held sends SIGIO, which would end the process."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def open_for_writing(descriptor: int) -> bool | None:
    """True: a writer has it open; False: none has; None: this file system or our rights can't tell.

    The lease is given back at once.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
