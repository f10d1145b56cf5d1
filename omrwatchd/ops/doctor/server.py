"""The server, from the name to the token: reached in the same way as the daemon reaches it."""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from omrwatchd.clock import Clock
from omrwatchd.delivery.client import Client, RequestLost
from omrwatchd.delivery.credentials import read_token, token_file
from omrwatchd.delivery.faults import Lost, judge_lost
from omrwatchd.delivery.wire import Answer
from omrwatchd.errors import Problem
from omrwatchd.ops import preflight
from omrwatchd.ops.doctor.finding import Finding, fail, failed, ok, warn
from omrwatchd.ops.doctor.probes import judge_api, judge_size, judge_token, send_nowhere, send_probe
from omrwatchd.settings import Server, Settings

PATIENCE_SECONDS = 30.0
"""For answers to small requests; the daemon itself waits longer."""
SKEW_SECONDS = 30.0
EXPIRY_DAYS = 21
_DAY = 86400.0
_NO_TOKEN = "none"
_ADVICE = {
    Lost.CONNECT: "Check that the server runs and that no firewall is in between: curl -v {url}",
    Lost.DNS: "Check server.base_url, and this machine's name service: getent hosts {host}",
    Lost.TLS: "Check the server's certificate, server.ca_file, and this machine's clock.",
    Lost.PROXY: "Check server.proxy, or HTTPS_PROXY and NO_PROXY of the environment.",
}
_OTHER_ADVICE = "Look at the server's log, and at what stands between: curl -v {url}"
_EXPIRED = "Have the server's certificate renewed, and check this machine's clock (timedatectl)."


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """The token and where it came from; its text is never shown."""

    text: str
    source: str


def find_token(server: Server, service_token: Path | None = None) -> Token:
    """The daemon's token.

    Args:
        service_token: the file that systemd hands to the service as its credential; read in its stead by
            somebody who may, when the settings name no token.

    Raises:
        Problem: as read_token does.
    """
    if server.token is not None:
        from_environment = os.environ.get("OMRWATCHD_SERVER__TOKEN") is not None
        return Token(read_token(server), "the environment" if from_environment else "server.token")
    file = token_file(server)
    if file is None and service_token is not None and service_token.exists():
        given = server.model_copy(update={"token_file": service_token})
        return Token(read_token(given), f"{service_token}, which the service gets as its credential")
    return Token(
        read_token(server), f"server.token_file {file}" if server.token_file else f"the credential {file}"
    )


def examine_server(
    settings: Settings, token: Token | Problem, clock: Clock, *, upload: bool
) -> Iterator[Finding]:
    """Everything that can be asked of the server; ``upload``: send as much as a chunk, too."""
    secret = _NO_TOKEN if isinstance(token, Problem) else token.text
    if isinstance(token, Problem):
        yield failed("token", token)
    else:
        yield ok("token", f"There is a token, from {token.source}.")
    for finding in _asked(settings, token, clock, upload=upload):
        yield _without(finding, secret)


def _asked(settings: Settings, token: Token | Problem, clock: Clock, *, upload: bool) -> Iterator[Finding]:
    broken = [failed("tls_files", problem) for problem in preflight.tls_files(settings)]
    yield from broken
    if broken:
        return
    try:
        client = Client(_impatient(settings.server), settings.upload)
    except Problem as problem:
        yield failed("tls_files", problem)
        return
    with closing(client):
        reached = reach(client, settings.server, token, clock)
        yield from reached
        if any(finding.level == "fail" for finding in reached):
            return
        yield from certificate(settings.server, clock)
        if isinstance(token, Problem):
            return
        yield from _api(client, settings.server, token)
    if upload:
        yield _whole_chunk(settings, token)


def _impatient(server: Server) -> Server:
    return server.model_copy(update={"read_timeout": min(server.read_timeout, PATIENCE_SECONDS)})


def _without(finding: Finding, token: str) -> Finding:
    """A server may say the token back to us."""
    return dataclasses.replace(
        finding, summary=finding.summary.replace(token, "***"), advice=finding.advice.replace(token, "***")
    )


def reach(client: Client, server: Server, token: Token | Problem, clock: Clock) -> list[Finding]:
    """Ask for any answer at all; with one, compare clocks."""
    began = clock.now()
    try:
        secret = _NO_TOKEN if isinstance(token, Problem) else token.text
        answer = client.send("GET", server.probe_path, token=secret)
    except RequestLost as lost:
        return [_lost("server", lost, server)]
    ended = clock.now()
    host = urlsplit(server.uploads_go_to).hostname
    if answer.status >= 500:
        return [
            fail(
                "server",
                f"{host} answers, but the OMR server behind it is away (HTTP {answer.status}).",
                "Look at the server; the daemon waits for it and then goes on by itself.",
            )
        ]
    found = [ok("server", f"{host} answers in {max(0.0, ended - began) * 1000:.0f} ms.")]
    return [*found, *server_clock(answer, began, ended)]


def _lost(name: str, lost: RequestLost, server: Server) -> Finding:
    problem = judge_lost(lost.how, lost.detail, None, sent_whole=False).problem
    address = urlsplit(server.uploads_go_to)
    advice = _ADVICE.get(lost.how, _OTHER_ADVICE)
    if lost.how is Lost.TLS and "expired" in lost.detail:
        advice = _EXPIRED
    host = address.hostname or ""
    shown = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    return fail(name, f"{problem.summary.rstrip('.')}: {host}.", advice.format(host=host, url=shown))


def server_clock(answer: Answer, began: float, ended: float) -> Iterator[Finding]:
    """Compare the Date header (whole seconds) with ours; both ends are seconds since the epoch."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return
    skew = theirs - min(max(theirs, began - 1.0), ended)
    if abs(skew) < SKEW_SECONDS:
        yield ok("server_clock", "The server's clock agrees with this machine's.")
        return
    yield warn(
        "server_clock",
        f"The server's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's.",
        "Set this machine's clock by NTP (timedatectl): certificates and the records' times need it.",
    )


def _api(client: Client, server: Server, token: Token) -> Iterator[Finding]:
    try:
        answer = send_probe(client, token.text, 1)
        nowhere = send_nowhere(client, token.text) if answer.status in (404, 405, 410) else None
    except RequestLost as lost:
        yield _lost("api", lost, server)
        return
    accepted = judge_token(answer)
    api = judge_api(answer, nowhere)
    if accepted is not None and (accepted.level == "fail" or api.level == "ok"):
        yield accepted
    if accepted is None or accepted.level == "ok":
        yield api


def _whole_chunk(settings: Settings, token: Token) -> Finding:
    size = settings.upload.chunk_size
    with closing(Client(settings.server, settings.upload)) as client:
        try:
            return judge_size(send_probe(client, token.text, size), size)
        except RequestLost as lost:
            return _lost("upload_size", lost, settings.server)


# the certificate


def certificate(server: Server, clock: Clock) -> Iterator[Finding]:
    """How long the server's certificate is still good; that it is good now, the answer has shown."""
    address = urlsplit(server.uploads_go_to)
    if address.scheme != "https" or address.hostname is None:
        return
    try:
        ends = _certificate_end(server, address.hostname, address.port or 443)
    except (OSError, ValueError):
        yield ok("certificate", "It is good now; its end can't be seen from here (behind a proxy).")
        return
    days = (ends - clock.now()) / _DAY
    if days < EXPIRY_DAYS:
        yield warn("certificate", f"The server's certificate ends in {max(0, int(days))} days.", _EXPIRED)
    else:
        yield ok("certificate", f"The server's certificate is good for {int(days)} more days.")


def _certificate_end(server: Server, host: str, port: int) -> float:
    """Seconds since the epoch, asked for past any proxy.

    Raises:
        OSError: no direct connection.
    """
    context = ssl.create_default_context(cafile=None if server.ca_file is None else str(server.ca_file))
    if server.client_cert is not None:
        context.load_cert_chain(server.client_cert, server.client_key)
    with (
        socket.create_connection((host, port), timeout=server.connect_timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        shown = secure.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))
