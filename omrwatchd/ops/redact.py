"""No secret leaves by a log line or a notification: every text passes here on its way out.

Settings keep theirs in SecretStr or in files, and no event has a field for one. What is left is what
others say: a server that quotes the request, a library that prints a header.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omrwatchd.delivery.credentials import token_file
from omrwatchd.settings import Server

HIDDEN = "***"
SHORTEST = 6
"""A shorter secret is not looked for by itself: hiding it would garble every text."""
_LARGEST = 64 * 1024

# Authorization's value by RFC 9110, 11.4; the user's part of an address by RFC 3986, 3.2.1, but up to the
# last '@', as httpx and curl take a password that has one
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer)\s+[^\s\"',;}\]]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?\w+)\s+[^\s\"',;}\]]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s\"']+@"), rf"\1{HIDDEN}@"),
    (
        re.compile(r"(?i)((?:token|password|secret)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;}\]]+"),
        rf"\1{HIDDEN}",
    ),
)


class Redactor:
    """Cuts out what looks like a secret, and those of the settings wherever they stand.

    A file of a secret is read again when it has changed; what it held before stays hidden.
    """

    def __init__(self, server: Server | None = None) -> None:
        self._known: set[str] = set()
        self._files: dict[Path, tuple[int, int, int]] = {}
        self._lock = threading.Lock()
        if server is not None:
            self._learn_settings(server)

    def _learn_settings(self, server: Server) -> None:
        if server.token is not None:
            self._learn([server.token.get_secret_value()])
        if server.proxy is not None:
            parts = urlsplit(server.proxy)
            self._learn(each for each in (parts.password, parts.netloc.rpartition("@")[0]) if each)
        files = [token_file(server), server.login.password_file if server.login is not None else None]
        self._files = {file: (0, 0, 0) for file in files if file is not None}

    def learn(self, secret: str) -> None:
        """One more that is to be hidden wherever it stands."""
        with self._lock:
            self._learn([secret])

    def _learn(self, secrets: Iterable[str]) -> None:
        self._known |= {secret.strip() for secret in secrets if len(secret.strip()) >= SHORTEST}

    def _read_files(self) -> None:
        for file, known in self._files.items():
            try:
                found = os.stat(file)
                changed = (found.st_mtime_ns, found.st_ino, found.st_size)
                if changed != known:
                    with open(file, encoding="utf-8-sig", errors="replace") as opened:
                        self._learn([opened.read(_LARGEST)])
                    self._files[file] = changed
            except OSError:
                continue  # whoever needs it says so

    def text(self, words: str) -> str:
        """The words without a secret."""
        with self._lock:
            self._read_files()
            known = sorted(self._known, key=len, reverse=True)  # one may be part of another
        for secret in known:
            words = words.replace(secret, HIDDEN)
        for pattern, instead in _PATTERNS:
            words = pattern.sub(instead, words)
        return words

    def value(self, value: Any) -> Any:
        """A value of a log line, whatever its shape, without a secret; texts are valid UTF-8 then."""
        if isinstance(value, str):
            return self.text(value.encode("utf-8", "backslashreplace").decode("utf-8"))
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return round(value, 3)
        if isinstance(value, dict):
            return {str(key): self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(each) for each in value]
        return self.value(str(value))
