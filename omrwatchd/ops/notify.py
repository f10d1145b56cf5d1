"""Tells people: runs `notify.command` for what they should know at once, the event as JSON on its stdin."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from omrwatchd import events
from omrwatchd.clock import Clock
from omrwatchd.events import Announce, Event
from omrwatchd.lifecycle import Died, Service
from omrwatchd.ops.redact import Redactor
from omrwatchd.settings import Notify

TOLD = (events.FileFailed, events.FileRefused, events.QueueHeld, events.QueueReleased, events.Silence)
"""What the command is run for."""
WAITING = 100
"""Notifications that wait for their turn at most; more are dropped, and that is logged."""
STOP_SECONDS = 3.0
"""What is left of the notifications has so long at a stop of the daemon, and at a reload."""
POLL_SECONDS = 0.05
_STDERR_BYTES = 4096
_NEVER = threading.Event()
_NOT_HANDED_ON = ("OMRWATCHD_", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY", "LISTEN_")


class CommandFailed(Exception):
    """Why a notification was not given, in words."""


def document(event: Event, now: float, redactor: Redactor) -> dict[str, Any]:
    """What the command reads: time (RFC 3339, UTC), host, level, name of the event, and its fields."""
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"ts": when, "host": socket.gethostname(), "level": event.level, "event": event.title()}
    fields: dict[str, Any] = redactor.value(dataclasses.asdict(event))
    return {**head, **fields}


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what may hold a secret or speaks to systemd in our name."""
    # settings take theirs in any case: omrwatchd_server__token is one, too
    return {key: value for key, value in given.items() if not key.upper().startswith(_NOT_HANDED_ON)}


class Notifier(Service):
    """A listener that never waits, and a thread that runs one command at a time."""

    def __init__(
        self,
        settings: Notify,
        redactor: Redactor,
        clock: Clock,
        announce: Announce,
        on_death: Died,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        """``hurried``: whether the daemon was asked to end; one that is done otherwise lets all be told."""
        super().__init__("notify", on_death)
        self._hurried = hurried
        self._settings = settings
        self._redactor = redactor
        self._clock = clock
        self._announce = announce
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(WAITING)
        self._dropped = 0
        self._end_by = math.inf
        self._over = "the configuration was read again"
        self._may_finish = False

    def __call__(self, event: Event) -> None:
        """Take note of the event, on whatever thread it happens."""
        if isinstance(event, TOLD):
            self._put(event)
        elif isinstance(event, events.DaemonStopping):
            self._over = "the daemon was stopped"
            self._may_finish = event.reason == "idle"
            if not self._may_finish:
                self._end_by = self._clock.monotonic() + STOP_SECONDS

    def stop(self) -> None:
        """Without a word of a stop before, it is a reload: delivery waits until this has ended."""
        if not self._may_finish:
            self._end_by = min(self._end_by, self._clock.monotonic() + STOP_SECONDS)
        super().stop()

    def _put(self, event: Event) -> None:
        text = json.dumps(document(event, self._clock.now(), self._redactor), ensure_ascii=False)
        try:
            self._waiting.put_nowait((event.title(), text.encode("utf-8") + b"\n"))
        except queue.Full:
            self._dropped += 1
        self.bell.set()

    def run(self) -> None:
        """Until stopped; what waits then is still told, as far as STOP_SECONDS reach."""
        while True:
            self.bell.clear()
            while (next_one := self._next()) is not None:
                self._tell(*next_one)
            if self.stopping:
                return
            self._clock.wait(self.bell, None)

    def _next(self) -> tuple[str, bytes] | None:
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None

    def _tell(self, about: str, text: bytes) -> None:
        began = self._clock.monotonic()
        try:
            self._run(text)
        except CommandFailed as failure:
            self._announce(events.NotifyFailed(about, self._redactor.text(str(failure))))
        else:
            self._announce(events.NotifySent(about, round(self._clock.monotonic() - began, 3)))
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            reason = f"{dropped} more were dropped: the command is too slow for them"
            self._announce(events.NotifyFailed(about, reason))

    def _run(self, text: bytes) -> None:
        """Raises CommandFailed."""
        if self._is_over():
            raise CommandFailed(self._over)
        with _started(self._settings.command, text) as (process, said):
            self._wait(process, said)
            if process.returncode != 0:
                raise CommandFailed(_ending(process.returncode, said.last_line()))

    def _is_over(self) -> bool:
        return self._clock.monotonic() >= self._end_by or (self._may_finish and self._hurried())

    def _wait(self, process: subprocess.Popen[bytes], said: _Said) -> None:
        """Raises CommandFailed when the time is over; the process still runs then."""
        limit = self._clock.monotonic() + self._settings.timeout_seconds
        pause = 0.005
        while process.poll() is None:
            if self._is_over():
                raise CommandFailed(f"it was still running when {self._over}")
            if self._clock.monotonic() >= limit:
                raise CommandFailed(f"it was killed after {self._settings.timeout_seconds:g} s")
            said.listen()
            self._clock.wait(_NEVER, pause)
            pause = min(POLL_SECONDS, pause * 1.5)


class _Said:
    """The end of what a command says on its standard error; never waits for it, never keeps it all."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._end = b""

    def listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self._descriptor, 65_536):
                self._end = (self._end + block)[-_STDERR_BYTES:]

    def last_line(self) -> str:
        self.listen()
        lines = self._end.decode("utf-8", "backslashreplace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextlib.contextmanager
def _started(command: Sequence[str], text: bytes) -> Iterator[tuple[subprocess.Popen[bytes], _Said]]:
    """The command under way; whatever of it still runs at the end is killed.

    Its standard input is a file in memory and its errors are read without waiting: nothing can block that a
    child of the command leaves open, or does not read.
    """
    ears, mouth = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(ears, "rb", buffering=0), os.fdopen(os.memfd_create("event"), "w+b") as given:
        given.write(text)
        given.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=mouth,
                env=environment(os.environ),
                cwd="/",
                start_new_session=True,  # a process group of its own, which can be killed whole
            )
        except OSError as error:
            raise CommandFailed(f"{command[0]} can't be run: {error.strerror or error}") from None
        finally:
            os.close(mouth)
        try:
            yield process, _Said(ears)
        finally:
            if process.poll() is None:  # not reaped yet, so the number still is its group's
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except PermissionError:  # it runs as another user (sudo), beyond our signals: its end is awaited aside
        threading.Thread(target=process.wait, name="notify left", daemon=True).start()
    else:
        process.wait()


def _ending(code: int, last_line: str) -> str:
    how = f"it ended with exit code {code}" if code > 0 else f"it was ended by signal {-code}"
    return f"{how}: {last_line}" if last_line else how
