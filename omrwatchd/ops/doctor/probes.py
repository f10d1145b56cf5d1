"""Requests that ask the server something and can leave nothing behind.

The probe goes to where chunks go, because only there a wrong address, a token without rights and a proxy's
limit show. It can make no batch and open no upload, three times over: it is not chunk 0, which alone opens
an upload; it is not the final chunk, which alone makes a batch; and its upload type and upload id are none
that the server knows, so that it is refused (API.md, In chunks).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from omrwatchd.delivery.chunks import Chunk
from omrwatchd.delivery.client import Transport
from omrwatchd.delivery.wire import CHUNK_PATH, Answer, Request, is_html, prepare_chunk, server_message
from omrwatchd.model import Metadata, UploadType
from omrwatchd.ops.doctor.finding import Finding, fail, ok, warn

NAME = "omrwatchd-doctor.zip"
_NO_TYPE = cast(UploadType, "omrwatchd_doctor")
_NO_PATH = f"{CHUNK_PATH}-omrwatchd-doctor"
_BLOCK = bytes(1024 * 1024)
_ADDRESS = "Check server.base_url (and server.upload_url): the paths of the API are appended to it."
_TOKEN = "Put a valid token where it is read from, or ask the server's owner for its rights."


def prepare_probe(length: int) -> Request:
    """A request as the middle chunk of a file makes it, ``length`` bytes of file in it."""
    chunk = Chunk(index=1, total=3, offset=length, length=length)
    name = secrets.token_hex(16)
    return prepare_chunk(NAME, chunk, name, Metadata(_NO_TYPE), f"omrwatchd-{name}", name)


def prepare_probe_of(body: int) -> Request:
    """The same with so many bytes in the whole body: what upload.direct_limit and a proxy's limit count."""
    return prepare_probe(max(1, body - prepare_probe(0).content_length))


@dataclass(frozen=True, slots=True)
class Zeros:
    """The probe's body; no file is read."""

    request: Request

    def __iter__(self) -> Iterator[bytes]:
        yield self.request.head
        left = self.request.length
        while left:
            yield _BLOCK[: min(left, len(_BLOCK))]
            left -= min(left, len(_BLOCK))
        yield self.request.tail


def send_probe(transport: Transport, token: str, request: Request) -> Answer:
    """Raises RequestLost."""
    return transport.send("POST", request.path, request.headers, Zeros(request), token=token)


def send_nowhere(transport: Transport, token: str) -> Answer:
    """Ask at a path that no server has: what an address that is wrong would answer to everything."""
    return transport.send("POST", _NO_PATH, [("Content-Length", "0")], token=token)


def judge_token(answer: Answer) -> Finding | None:
    """Whether the server took the token; None when the answer does not tell."""
    said = server_message(answer)
    if answer.status == 401:
        return fail("token_accepted", "The server rejects the token (HTTP 401).", _TOKEN)
    if answer.status == 403 and not is_html(answer):
        return fail("token_accepted", f"The server refuses this token's owner: {said or 'HTTP 403'}.", _TOKEN)
    if _refused(answer):
        return ok("token_accepted", "The server takes the token.")
    return None


def judge_api(answer: Answer, nowhere: Answer | None) -> Finding:
    """Whether this is the OMR server. ``nowhere``: its answer at a path that it can't have, after a 404."""
    said = server_message(answer)
    if is_html(answer):
        return fail(
            "api", f"A web page answered in place of the OMR server (HTTP {answer.status}).", _ADDRESS
        )
    if answer.status == 429 or "retry-after" in answer.headers:
        return warn(
            "api", f"The server asks for a pause (HTTP {answer.status}).", "Run `omrwatchd doctor` later."
        )
    if nowhere is not None and (nowhere.status, server_message(nowhere)) == (answer.status, said):
        return fail("api", f"The server knows no {CHUNK_PATH} here (HTTP {answer.status}).", _ADDRESS)
    if _refused(answer):
        return ok("api", f"The upload address answers as it should: an invalid probe is refused ({said}).")
    if 200 <= answer.status < 300:
        return warn(
            "api",
            f"The server took a probe that it should have refused (HTTP {answer.status}).",
            f"It is no part of any batch; if the server lists {NAME}, remove it there.",
        )
    words = f"The server said: {said}" if said else "This is not the OMR server's answer to an upload"
    return fail("api", f"{words} (HTTP {answer.status}).", f"{_ADDRESS} Else look at the server's log.")


def judge_size(name: str, answer: Answer, what: str, setting: str) -> Finding:
    """Whether a request came through to the server itself.

    Args:
        what: names the request.
        setting: what to do where nothing else can be changed, as the end of a sentence.
    """
    if _refused(answer) or 200 <= answer.status < 300:
        return ok(name, f"{what} came through.")
    if answer.status == 413:
        return fail(
            name,
            f"Something before the server refuses {what[:1].lower()}{what[1:]} (HTTP 413).",
            f"Raise the proxy's limit (nginx: client_max_body_size), or {setting}.",
        )
    if is_html(answer):
        return fail(
            name,
            f"{what} was answered with a web page (HTTP {answer.status}): a proxy refused it.",
            f"Look at the proxy's limits for size and time, or {setting}.",
        )
    return fail(
        name,
        f"{what} was answered with HTTP {answer.status}.",
        f"Look at the server's log, or {setting}.",
    )


def _refused(answer: Answer) -> bool:
    """By the server itself, as its API promises: 4xx with a message."""
    refusing = 400 <= answer.status < 500 and answer.status not in (401, 403, 408, 413, 429, 499)
    return refusing and not is_html(answer) and server_message(answer) is not None
