"""What the kernel says of a file's writers, asked with real leases, owners and file systems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omrwatchd.intake.inspect import Unfinished, inspect_zip
from omrwatchd.intake.lease import ignore_lease_signal, open_for_writing
from omrwatchd.intake.scan import Found, scan
from omrwatchd.settings import Split
from tests.intake.conftest import OpenOffice
from tests.zips import write_zip

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "scan.zip")


def asked(path: Path) -> bool | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return open_for_writing(descriptor)
    finally:
        os.close(descriptor)


def test_writers_are_known_and_readers_do_not_count(path: Path) -> None:
    """Open for writing: yes, by whatever flags; open for reading: no; and no lease is left behind."""
    assert asked(path) is False
    with path.open("rb"):
        assert asked(path) is False
    for mode in ("ab", "r+b"):
        with path.open(mode):
            assert asked(path) is True
    assert asked(path) is False
    assert str(path.stat().st_ino) not in Path("/proc/locks").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_file_of_another_owner_can_not_be_told(path: Path) -> None:
    """Without CAP_LEASE the kernel answers EACCES: unknown, so settling alone decides."""
    code = (
        "import os, sys\n"
        "from omrwatchd.intake.lease import open_for_writing\n"
        "descriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "print(open_for_writing(descriptor))\n"
    )
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "None\n"


def test_where_there_are_no_leases_nobody_can_tell() -> None:
    """EINVAL, here of a device, elsewhere of a whole file system: unknown, not 'open for writing'."""
    assert asked(Path("/dev/null")) is None


def test_file_is_queued_where_nobody_can_tell(
    open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settling and a whole ZIP are enough then."""
    monkeypatch.setattr("omrwatchd.intake.inspect.open_for_writing", lambda _descriptor: None)
    with open_office() as office, write_zip(office.drop / "scan.zip").open("ab"):
        office.queued("scan.zip")


@pytest.fixture
def hold_write_lease() -> Iterator[Callable[[Path], None]]:
    """As a file server does for a client that has the file to itself; it gives it back when it is told to."""
    code = (
        "import fcntl, os, signal, sys\n"
        "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        "descriptor = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holders: list[subprocess.Popen[str]] = []

    def hold(path: Path) -> None:
        holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=-1, stdout=-1, text=True)
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

    yield hold
    for holder in holders:
        holder.communicate(timeout=10)


def found(path: Path) -> Found:
    [file] = scan(bytes(path.parent), recursive=False, ignore=()).files
    return file


def test_write_lease_of_a_file_server_means_a_writer(
    path: Path, hold_write_lease: Callable[[Path], None]
) -> None:
    """The kernel refuses even to open it for a moment: somebody has it for writing, it is not unreadable."""
    hold_write_lease(path)
    with pytest.raises(Unfinished, match="open for writing"):
        inspect_zip(found(path), Split(), ask_lease=True)


def test_writer_that_opens_the_file_meanwhile_ends_nothing(path: Path) -> None:
    """The kernel sends SIGIO to whoever holds the lease that a writer breaks: it is ignored."""
    before = signal.getsignal(signal.SIGIO)
    try:
        ignore_lease_signal()
        os.kill(os.getpid(), signal.SIGIO)
        assert asked(path) is False
    finally:
        signal.signal(signal.SIGIO, before)
