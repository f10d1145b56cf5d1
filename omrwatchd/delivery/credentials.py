"""The bearer token: from the setting, a file that may change, or systemd's credential."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from omrwatchd.errors import Problem
from omrwatchd.settings import Server

CREDENTIAL_ADVICE = (
    "Put the token, one word of ASCII characters, into the file that LoadCredential= of the unit names "
    "(/etc/omrwatchd/token), then restart the service."
)


def token_file(server: Server) -> Path | None:
    """The file that holds the token, if one does: server.token_file, else the credential `token`."""
    if server.token is not None:
        return None
    if server.token_file is not None:
        return server.token_file
    folder = os.environ.get("CREDENTIALS_DIRECTORY")  # systemd.exec(5), LoadCredential=
    credential = Path(folder, "token") if folder else None
    return credential if credential is not None and credential.exists() else None


def read_token(server: Server) -> str:
    """The token as it is now.

    Raises:
        Problem: ``token_missing``, ``token_unreadable`` or ``token_unusable``, naming the place;
            never the token.
    """
    if server.token is not None:
        return _clean(server.token.get_secret_value(), "server.token")
    file = token_file(server)
    if file is None:
        raise Problem(
            "token_missing",
            "server.token is missing.",
            "Set server.token or server.token_file (or the systemd credential `token`).",
        )
    if file == server.token_file:
        where, advice = f"server.token_file {file}", "A token is one word of ASCII characters."
    else:
        where, advice = f"The service's credential {file}", CREDENTIAL_ADVICE
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Problem(
            "token_unreadable",
            f"{where} can't be read: {reason}.",
            "Check the path and that this user may read it.",
        ) from None
    return _clean(text, where, advice)


def _clean(text: str, where: str, advice: str = "A token is one word of ASCII characters.") -> str:
    token = text.strip()
    if not token:
        raise Problem("token_unusable", f"{where} is empty.", advice)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Problem("token_unusable", f"{where} holds no usable token.", advice)
    return token


class Credentials:
    """The token that the chunk threads share."""

    def __init__(self, server: Server, log_in: Callable[[], str] | None = None) -> None:
        """``log_in`` gets a new token from the server, where one is configured."""
        self._server = server
        self._log_in = log_in
        self._lock = threading.Lock()
        self._token: str | None = None
        self._seen: tuple[int, int, int] | None = None

    def token(self) -> str:
        """The present one; read again when its file has changed.

        Raises Problem as read_token does, or as logging in does; RequestLost of the latter.
        """
        with self._lock:
            if self._token is None:
                self._token = self._new_token()
            elif self._log_in is None and self.changed():
                with contextlib.suppress(Problem):  # in the middle of being replaced: the old one stands
                    self._token = self._new_token()
            return self._token

    def changed(self) -> bool:
        """Whether the file that the token, or the password for one, is in was written since it was read."""
        return self._stamp() != self._seen

    def _stamp(self) -> tuple[int, int, int] | None:
        login = self._server.login
        file = token_file(self._server) if login is None else login.password_file
        try:
            found = None if file is None else file.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)

    def _new_token(self) -> str:
        self._seen = self._stamp()
        if self._log_in is not None:
            return _clean(self._log_in(), "The answer of server.login.path")
        return read_token(self._server)

    def renew(self, rejected: str) -> bool:
        """After a 401: True when there is another token than the rejected one. One renewal serves all."""
        with self._lock:
            if self._token == rejected:
                try:
                    self._token = self._new_token()
                except Problem:
                    return False  # a file in the middle of being replaced; the hold asks again
            return self._token != rejected
