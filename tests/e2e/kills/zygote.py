"""Daemons from a process that has imported everything once: each start is a fork, quick enough to kill often.

Reads one JSON line a start: ``{"config": …, "kill_at": N or null, "kill_on": SQL or null}``; writes
``{"pid": …}`` when the daemon runs and ``{"status": …}`` (as os.waitpid gives it) when it has ended. With
``kill_at`` the daemon gets a SIGKILL at its N-th step: before a commit of the queue, or before a change of
the file system. With ``kill_on`` it gets one when it is about to execute a statement that begins so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from omrwatchd.ops import logs
from omrwatchd.service import Daemon
from omrwatchd.settings import load
from tests.waiting import HurriedClock

_MOVES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})


class Steps:
    """Counts what a crash could come before, and kills the process before the last of them."""

    def __init__(self, kill_at: int) -> None:
        self._left = kill_at

    def watch(self) -> None:
        event.listen(Engine, "commit", self._commits)
        sys.addaudithook(self._audits)

    def _commits(self, connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            self._step()

    def _audits(self, name: str, _arguments: Any) -> None:
        if name in _MOVES:
            self._step()

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_on(beginning: str) -> None:
    """Before the first statement that begins so."""

    def look(_connection: Connection, _cursor: Any, statement: str, *_of: Any) -> None:
        if statement.startswith(beginning):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", look)


def daemon(order: dict[str, Any]) -> None:
    settings = load(Path(order["config"]))
    logs.configure(settings.log)
    if order["kill_at"] is not None:
        Steps(order["kill_at"]).watch()
    if order["kill_on"] is not None:
        kill_on(order["kill_on"])
    os._exit(Daemon(settings, HurriedClock()).run(until_idle=True))


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            daemon(json.loads(line))
        print(json.dumps({"pid": pid}), flush=True)
        print(json.dumps({"status": os.waitpid(pid, 0)[1]}), flush=True)


if __name__ == "__main__":
    main()
