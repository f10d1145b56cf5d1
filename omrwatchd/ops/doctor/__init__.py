"""`omrwatchd doctor`: all that delivery depends on, looked at before it matters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from omrwatchd.clock import Clock
from omrwatchd.errors import Problem
from omrwatchd.ops import preflight
from omrwatchd.ops.doctor.finding import Finding, Level, fail, failed, ok, reason_of
from omrwatchd.ops.doctor.folders import examine_folders
from omrwatchd.ops.doctor.machine import examine_inotify, examine_space, examine_user, metrics_port
from omrwatchd.ops.doctor.rights import examine_rights
from omrwatchd.ops.doctor.server import examine_server
from omrwatchd.ops.doctor.state import examine_state
from omrwatchd.ops.doctor.token import Token, find_token
from omrwatchd.ops.redact import Redactor
from omrwatchd.settings import Settings, Watch

__all__ = ["Finding", "Level", "Token", "examine", "find_token"]

SERVICE_USER = "omrwatchd"
PATIENCE_SECONDS = 30.0
"""For what asks disks: a dead share never answers."""


def examine(
    settings: Settings, token: Token | Problem, clock: Clock, *, upload: bool = False
) -> Iterator[Finding]:
    """All checks, one after the other, each finding as soon as it is there.

    Works beside a running daemon, and changes nothing: files that it makes are gone again, and what it sends
    the server is refused there. What a server or a library said is shown without a secret.
    """
    redactor = Redactor(settings.server)
    if isinstance(token, Token):
        redactor.learn(token.text)
    for found in _examine(settings, token, clock, upload=upload):
        yield replace(found, summary=redactor.text(found.summary), advice=redactor.text(found.advice))


def _examine(settings: Settings, token: Token | Problem, clock: Clock, *, upload: bool) -> Iterator[Finding]:
    yield examine_user(SERVICE_USER)
    for watch in settings.watch:
        yield from _in_time(f"drop:{watch.name}", partial(_watch, watch, clock))
    yield from _in_time("watches", lambda: [failed("watches", it) for it in preflight.joined(settings.watch)])
    yield from _in_time("space", lambda: examine_space(settings))
    yield from _in_time("inotify", lambda: [examine_inotify(settings)])
    state = _in_time("queue", lambda: examine_state(settings, clock))
    yield from state
    yield from _metrics(settings, state)
    yield from _in_time("notify", lambda: _notify(settings))
    try:
        yield from examine_server(settings, token, clock, upload=upload)
    except Exception as error:  # noqa: BLE001 - what is not understood must not pass for good
        yield _broken("server", error)


def _watch(watch: Watch, clock: Clock) -> Iterator[Finding]:
    yield from examine_folders(watch, clock)
    if watch.drop.is_dir():
        yield examine_rights(watch)


def _metrics(settings: Settings, state: Iterable[Finding]) -> Iterator[Finding]:
    listen = getattr(getattr(settings, "metrics", None), "listen", None)
    if listen:
        running = any(f.name == "daemon" and not f.summary.startswith("Not running") for f in state)
        yield metrics_port(str(listen), running=running)


def _notify(settings: Settings) -> Iterator[Finding]:
    problem = next(preflight.command(settings.notify), None)
    if problem is not None:
        yield failed("notify", problem)
    elif settings.notify.command:
        yield ok("notify", f"notify.command {settings.notify.command[0]} can be run by this user.")


def _in_time(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What the checks of one group found; one that is stuck in the kernel is told, and left behind."""
    found: list[Finding] = []

    def work() -> None:
        try:
            found.extend(look())
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            summary = f"This could not be looked at{where}: {reason_of(error)}."
            found.append(fail(name, summary, "Check the path and its rights."))
        except Problem as problem:
            found.append(failed(name, problem))
        except Exception as error:  # noqa: BLE001 - in a thread: it would be lost, and nothing would fail
            found.append(_broken(name, error))

    thread = threading.Thread(target=work, name=f"doctor {name}", daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if thread.is_alive():
        summary = f"The disk or share behind this did not answer in {PATIENCE_SECONDS:.0f} s."
        return [*found, fail(name, summary, "Look at the mount: a share whose server is away hangs so.")]
    return found


def _broken(name: str, error: Exception) -> Finding:
    """A check that does not know what it met: that is not good, and the others go on."""
    summary = f"This check itself failed ({type(error).__name__}: {error})."
    return fail(name, summary, "The other checks stand; please report this one with its output.")
