"""A token that the server hands out for a user name and a password ([server.login])."""

from __future__ import annotations

import json

from omrwatchd.delivery.client import RequestLost, Transport
from omrwatchd.delivery.faults import Lost
from omrwatchd.delivery.wire import json_object
from omrwatchd.errors import Problem
from omrwatchd.settings import Login

_REJECTED = frozenset({400, 401, 403, 422})
_ADVICE = "Check server.login and its password_file; delivery then goes on by itself."


def read_password(login: Login) -> str:
    """The first line of the file.

    Raises:
        Problem: ``password_unreadable``, naming the file.
    """
    try:
        password = login.password_file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        summary = f"server.login.password_file {login.password_file} can't be read: {reason}."
        raise Problem(
            "password_unreadable", summary, "Check the path and that this user may read it."
        ) from None
    if not password:
        summary = f"server.login.password_file {login.password_file} is empty."
        raise Problem("password_unreadable", summary, "Put the password into it.")
    return password


def log_in(transport: Transport, login: Login) -> str:
    """A new token.

    Raises:
        Problem: the login is rejected, or its answer holds no token at server.login.token_field.
        RequestLost: the server could not be asked.
    """
    body = json.dumps({"username": login.username, "password": read_password(login)}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    try:
        answer = transport.send("POST", login.path, headers, [body], token=None)
    except RequestLost as lost:  # whatever was sent, it was no file
        raise RequestLost(Lost.CONNECT, f"at login: {lost.detail or lost.how}") from lost
    if answer.status in _REJECTED:
        summary = f"The server rejects the login of {login.username!r} (HTTP {answer.status})."
        raise Problem("login_rejected", summary, _ADVICE)
    if not 200 <= answer.status < 300:
        raise RequestLost(Lost.CONNECT, f"its login answers HTTP {answer.status}")
    value: object = json_object(answer.body)
    for step in login.token_field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, str):
        summary = f"The answer of server.login.path has no token at {login.token_field!r}."
        raise Problem("login_unusable", summary, "Check server.login.token_field.")
    return value
