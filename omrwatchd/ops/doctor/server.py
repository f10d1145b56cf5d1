"""The server, from its name to the token: reached in the same way as the daemon reaches it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from omrwatchd.clock import Clock
from omrwatchd.delivery.client import Client, RequestLost
from omrwatchd.delivery.faults import Lost, judge_lost
from omrwatchd.delivery.wire import Answer
from omrwatchd.errors import Problem
from omrwatchd.ops import preflight
from omrwatchd.ops.doctor.certificate import RENEW, certificate
from omrwatchd.ops.doctor.finding import Finding, Level, fail, failed, ok, warn
from omrwatchd.ops.doctor.probes import judge_api, judge_size, judge_token, send_nowhere, send_probe
from omrwatchd.ops.doctor.token import Token, get_token
from omrwatchd.settings import Server, Settings

PATIENCE_SECONDS = 30.0
"""For answers to small requests; the daemon itself waits longer."""
SKEW_SECONDS = 30.0
_ADVICE = {
    Lost.CONNECT: "Check that the server runs and that no firewall is in between: curl -v {url}",
    Lost.DNS: "Check the address in the settings, and this machine's name service: getent hosts {host}",
    Lost.TLS: "Check the server's certificate, server.ca_file, and this machine's clock.",
    Lost.PROXY: "Check server.proxy, or HTTPS_PROXY and NO_PROXY of the environment.",
}
_OTHER_ADVICE = "Look at the server's log, and at what stands between: curl -v {url}"


def examine_server(
    settings: Settings, token: Token | Problem, clock: Clock, *, upload: bool
) -> Iterator[Finding]:
    """Everything that can be asked of the server; ``upload``: send as much as a chunk, too."""
    if isinstance(token, Problem):
        yield failed("token", token)
    else:
        yield ok("token", f"The token comes from {token.source}.")
    broken = [failed("tls_files", problem) for problem in preflight.tls_files(settings)]
    broken += [failed("proxy", problem) for problem in preflight.proxy(settings)]
    if broken:
        yield from broken
        return
    for name, address in _addresses(settings.server):
        reached = _reached(name, address, settings, clock)
        yield from reached
        if any(finding.level is Level.FAIL for finding in reached):
            return
    if not isinstance(token, Problem):
        yield from _with_token(settings, token, upload=upload)


def _addresses(server: Server) -> list[tuple[str, str]]:
    """What to call an address, and the address."""
    addresses = [("server", server.base_url)]
    return addresses if server.upload_url is None else [*addresses, ("upload_server", server.upload_url)]


def _client(settings: Settings, address: str) -> Client:
    """All of its requests go to one address; small ones are not waited for as long as files are.

    Raises:
        Problem: a TLS file of the settings is none.
    """
    server = settings.server
    patience = min(server.read_timeout, PATIENCE_SECONDS)
    at_one = {"base_url": address, "upload_url": None, "read_timeout": patience}
    return Client(server.model_copy(update=at_one), settings.upload)


def _reached(name: str, address: str, settings: Settings, clock: Clock) -> list[Finding]:
    try:
        client = _client(settings, address)
    except Problem as problem:
        return [failed("tls_files", problem)]
    with closing(client):
        path = settings.server.probe_path if address == settings.server.base_url else ""
        found = reach(client, name, address, path, clock)
    if found[0].level is Level.OK:
        end = "certificate" if name == "server" else f"{name}_certificate"
        found += certificate(end, settings.server, address, clock)
    return found


def reach(client: Client, name: str, address: str, path: str, clock: Clock) -> list[Finding]:
    """Ask for any answer at all, without a token; with an answer, compare clocks."""
    began = clock.now()
    try:
        answer = client.send("GET", path, token=None)
    except RequestLost as lost:
        return [_lost(name, lost, address)]
    ended = clock.now()
    host = urlsplit(address).hostname
    if answer.status >= 500:
        return [
            fail(
                name,
                f"{host} answers, but the OMR server behind it is away (HTTP {answer.status}).",
                "Look at the server; the daemon waits for it and then goes on by itself.",
            )
        ]
    found = ok(name, f"{host} answers in {max(0.0, ended - began) * 1000:.0f} ms.")
    return [found, *server_clock(f"{name}_clock", answer, began, ended)]


def _lost(name: str, lost: RequestLost, address: str) -> Finding:
    problem = judge_lost(lost.how, lost.detail, None, sent_whole=False).problem
    advice = _ADVICE.get(lost.how, _OTHER_ADVICE)
    if lost.how is Lost.TLS and "expired" in lost.detail:
        advice = RENEW
    parts = urlsplit(address)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    words = f"{problem.summary.rstrip('.')}: {parts.hostname}."
    return fail(name, words, advice.format(host=parts.hostname, url=url))


def server_clock(name: str, answer: Answer, began: float, ended: float) -> Iterator[Finding]:
    """Compare the Date header (whole seconds) with ours; both ends are seconds since the epoch."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return
    skew = theirs - min(max(theirs, began - 1.0), ended)
    if abs(skew) < SKEW_SECONDS:
        yield ok(name, "The server's clock agrees with this machine's.")
        return
    yield warn(
        name,
        f"The server's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's.",
        "Set this machine's clock by NTP (timedatectl): certificates and the records' times need it.",
    )


# with the token


def _with_token(settings: Settings, token: Token, *, upload: bool) -> Iterator[Finding]:
    server = settings.server
    try:
        with closing(_client(settings, server.base_url)) as client:
            text = get_token(client, server, token)
    except RequestLost as lost:
        yield _lost("token_accepted", lost, server.base_url)
        return
    except Problem as problem:
        yield failed("token_accepted", problem)
        return
    for finding in _asked(settings, text, upload=upload):
        yield _without(finding, text)


def _without(finding: Finding, token: str) -> Finding:
    """A server may say the token back to us."""
    return dataclasses.replace(
        finding, summary=finding.summary.replace(token, "***"), advice=finding.advice.replace(token, "***")
    )


def _asked(settings: Settings, token: str, *, upload: bool) -> Iterator[Finding]:
    address = settings.server.uploads_go_to
    try:
        with closing(_client(settings, address)) as client:
            answer = send_probe(client, token, 1)
            nowhere = send_nowhere(client, token) if answer.status in (404, 405, 410) else None
    except RequestLost as lost:
        yield _lost("api", lost, address)
        return
    accepted, api = judge_token(answer), judge_api(answer, nowhere)
    if accepted is not None and (accepted.level is Level.FAIL or api.level is Level.OK):
        yield accepted
    if accepted is None or accepted.level is Level.OK:
        yield api
    if upload and accepted is not None and accepted.level is Level.OK:
        yield _whole_chunk(settings, token)


def _whole_chunk(settings: Settings, token: str) -> Finding:
    """Once, as large as the daemon's own requests, and waited for as long."""
    size = settings.upload.chunk_size
    with closing(Client(settings.server, settings.upload)) as client:
        try:
            return judge_size(send_probe(client, token, size), size)
        except RequestLost as lost:
            return _lost("upload_size", lost, settings.server.uploads_go_to)
