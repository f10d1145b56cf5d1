"""Whether the daemon that wrote its row of `workers` still runs."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.model import WorkerState
from omrwatchd.queue.values import Columns

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LEASE_SECONDS = 60.0
"""A daemon on another host is taken for gone when its heartbeat is older."""
_FIRST_NAMESPACE = "pid:[4026531836]"
"""That of the machine itself (PROC_PID_INIT_INO of the kernel's proc_ns.h); a container has another."""


@dataclass(frozen=True, slots=True)
class Process:
    """Names one process so that nothing else is taken for it: not after a reboot, not by a reused pid."""

    host: str
    boot_id: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Process:
        namespace = os.readlink("/proc/self/ns/pid")
        return cls(
            f"{socket.gethostname()} {namespace}", _boot_id(), os.getpid(), _start_time(os.getpid()) or ""
        )

    @property
    def lives_by_heartbeat(self) -> bool:
        """In a container: another one, on the same queue, can't see our process."""
        return not self.host.endswith(f" {_FIRST_NAMESPACE}")


def _boot_id() -> str:
    """This boot's own name; empty where it can't be learned.

    The sandbox of our unit hides /proc/sys (ProcSubset=pid), so systemd hands it over as a credential.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    for file in (BOOT_ID, *([Path(credentials, "boot_id")] if credentials else [])):
        with contextlib.suppress(OSError):
            return file.read_text().strip()
    return ""


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of ``pid`` (proc(5), field 22); None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def _is_same(pid: int, started: str) -> bool:
    """Whether the process that began then still runs; one that can't be looked at counts as the same."""
    if (found := _start_time(pid)) is not None:
        return found == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # hidden: another user's (ProtectProc=invisible), or ours in a user namespace of its own (PrivateUsers=);
    # what can be seen is a zombie
    return not Path(f"/proc/{pid}").exists()


def is_here(row: Columns) -> bool:
    """Whether the daemon that wrote this row of `workers` is, or was, on this machine."""
    return bool(row["host"] == Process.this().host)


def is_alive(row: Columns, now: float) -> bool:
    """Whether the daemon that wrote this row of `workers` still runs."""
    if row["state"] == WorkerState.STOPPED:
        return False
    if is_here(row):
        boots = {row["boot_id"], _boot_id()} - {""}
        return len(boots) < 2 and _is_same(row["pid"], row["pid_started"])
    return bool(abs(now - row["heartbeat"]) < LEASE_SECONDS)
