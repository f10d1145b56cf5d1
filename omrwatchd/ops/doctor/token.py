"""Where the token comes from; its text is never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from omrwatchd.delivery.client import Transport
from omrwatchd.delivery.credentials import read_token, token_file
from omrwatchd.delivery.login import log_in, read_password
from omrwatchd.settings import Server


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """The token, or how it will be got."""

    text: str
    """Empty while it has to be got by logging in."""
    source: str


def find_token(server: Server, service_token: Path | None = None) -> Token:
    """The daemon's token.

    Args:
        service_token: the file that systemd hands to the service as its credential; read in its stead by
            somebody who may, when the settings name no token.

    Raises:
        Problem: as read_token and read_password do.
    """
    if server.login is not None:
        read_password(server.login)
        return Token("", f"a login as {server.login.username!r} at {server.login.path}")
    if server.token is not None:
        variable = "OMRWATCHD_SERVER__TOKEN"
        return Token(read_token(server), variable if variable in os.environ else "server.token")
    file = token_file(server)
    if file is None and service_token is not None and service_token.exists():
        given = server.model_copy(update={"token_file": service_token})
        return Token(read_token(given), f"{service_token}, which the service gets as its credential")
    return Token(read_token(server), f"server.token_file {file}" if server.token_file else f"{file}")


def get_token(transport: Transport, server: Server, token: Token) -> str:
    """The token's text, by a login where that is how it is got.

    Raises:
        Problem, RequestLost: as log_in does.
    """
    return token.text if server.login is None else log_in(transport, server.login)
