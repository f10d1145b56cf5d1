"""`omrwatchd doctor`: the findings as people or programs read them."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pwd
import sys
from collections.abc import Iterable
from pathlib import Path

from omrwatchd.cli.machine import as_text
from omrwatchd.clock import SystemClock
from omrwatchd.errors import Problem
from omrwatchd.ops.doctor import Finding, Level, Token, examine, find_token
from omrwatchd.settings import DEFAULT_FILE, SERVICE_STATE, Settings

SERVICE_TOKEN = DEFAULT_FILE.with_name("token")
"""Where the unit's LoadCredential= points."""
_COLOURS = {Level.OK: "32", Level.WARN: "33", Level.FAIL: "31"}


def run_doctor(settings: Settings, *, user: str, as_json: bool, upload: bool) -> int:
    """Examine and print; the exit code: 1 when anything fails."""
    token: Token | Problem
    service_token = SERVICE_TOKEN if _is_readable(SERVICE_TOKEN) else None
    if user and service_token is not None and _needs_credential(settings):
        token = _token(settings, service_token)  # by root, as systemd reads it for the service
        become(user)
    else:
        if user:
            become(user)
        token = _token(settings, service_token)
    findings = examine(settings, token, SystemClock(), upload=upload)
    return _print_json(findings) if as_json else _print(findings)


def _token(settings: Settings, service_token: Path | None) -> Token | Problem:
    try:
        return find_token(settings.server, service_token)
    except Problem as problem:
        return problem


def _needs_credential(settings: Settings) -> bool:
    server = settings.server
    return server.token is None and server.token_file is None and server.login is None


def _is_readable(file: Path) -> bool:
    return os.access(file, os.R_OK)


def become(name: str) -> None:
    """Go on as another user, with the state folder that systemd gives the service.

    Raises:
        Problem: there is no such user, or this one may not.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise Problem("usage_user", f"There is no user {name!r} on this machine.") from None
    if os.geteuid() == user.pw_uid:
        return
    # all that is imported later is read by that user, who may not see where this Python lies
    for codec in ("idna", "unicode_escape"):
        importlib.import_module(f"encodings.{codec}")
    try:
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except PermissionError:
        raise Problem("usage_user", "--user is for root.", f"sudo omrwatchd doctor --user {name}") from None
    os.environ["HOME"] = user.pw_dir
    if SERVICE_STATE.is_dir():
        os.environ.setdefault("STATE_DIRECTORY", str(SERVICE_STATE))


def _print(findings: Iterable[Finding]) -> int:
    counts = dict.fromkeys(Level, 0)
    for finding in findings:
        counts[finding.level] += 1
        print(f"{_coloured(finding.level)} {finding.name:<20} {_text(finding.summary)}", flush=True)
        if finding.advice:
            print(f"{'':<25} {_text(finding.advice)}", flush=True)
    print(f"{counts[Level.OK]} good, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} failed")
    return 1 if counts[Level.FAIL] else 0


def _coloured(level: Level) -> str:
    word = f"{level:<4}"
    return f"\x1b[{_COLOURS[level]}m{word}\x1b[0m" if sys.stdout.isatty() else word


def _print_json(findings: Iterable[Finding]) -> int:
    found = list(findings)
    print(_text(as_text([dataclasses.asdict(f) for f in found], indent=2)))
    return 1 if any(f.level is Level.FAIL for f in found) else 0


def _text(words: str) -> str:
    """Paths may hold bytes that no terminal's encoding knows."""
    return words.encode("utf-8", "backslashreplace").decode("utf-8")
