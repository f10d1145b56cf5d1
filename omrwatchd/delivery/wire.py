"""The server's language (API.md): requests as bytes, answers as facts. Pure.

``prepare_*`` gives everything of a request but the file's bytes, so that its exact length is known
before anything is read; ``process`` reads an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omrwatchd.delivery.chunks import Chunk
from omrwatchd.model import Metadata

DIRECT_PATH = "/batches/upload"
CHUNK_PATH = "/batches/upload-chunk"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST whose body is ``head``, then ``length`` bytes of the part from ``offset``, then ``tail``."""

    path: str
    headers: tuple[tuple[str, str], ...]
    head: bytes
    offset: int
    length: int
    tail: bytes
    makes_batch: bool
    """Whether the server may answer it with a batch: a direct upload or the final chunk."""
    upload_id: str | None
    """Of the upload that it goes on with; None when it begins one."""

    @property
    def content_length(self) -> int:
        """Bytes of the whole body."""
        return len(self.head) + self.length + len(self.tail)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers (lower-case names) and the first bytes of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    untaken: bool = False
    """It came so early that nothing of the request's latest piece, and nothing behind that, has gone out."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The server has what was sent."""

    upload_id: str | None
    batch_id: str | None


def prepare_direct(name: str, size: int, metadata: Metadata, boundary: str, key: str) -> Request:
    """The whole part in one request (API.md, One request)."""
    fields = [("upload_type", str(metadata.upload_type)), *_optional_fields(metadata, with_task=True)]
    return _request(DIRECT_PATH, fields, ("file", name), (0, size), boundary, key, True, None)


def prepare_chunk(
    name: str, chunk: Chunk, upload_id: str | None, metadata: Metadata, boundary: str, key: str
) -> Request:
    """One chunk (API.md, In chunks): ``notes`` and ``profile_id`` go on the final one alone."""
    fields = [
        ("chunk_index", str(chunk.index)),
        ("total_chunks", str(chunk.total)),
        ("filename", name),
        ("upload_type", str(metadata.upload_type)),
        ("is_final_chunk", "true" if chunk.is_final else "false"),
    ]
    if chunk.index > 0 and upload_id is not None:
        fields.append(("upload_id", upload_id))
    if metadata.task_id is not None:
        fields.append(("task_id", metadata.task_id))
    if chunk.is_final:
        fields += _optional_fields(metadata, with_task=False)
    return _request(
        CHUNK_PATH,
        fields,
        ("chunk", f"{name}.part{chunk.index}"),
        (chunk.offset, chunk.length),
        boundary,
        key,
        chunk.is_final,
        upload_id if chunk.index > 0 else None,
    )


def picture_heads(names: Sequence[str], boundary: str) -> list[bytes]:
    """What stands before each picture of an `images` batch: one ``files`` part a picture."""
    return [
        (b"\r\n" if index else b"") + _file_head("files", name, boundary) for index, name in enumerate(names)
    ]


def prepare_pictures(framed_length: int, metadata: Metadata, boundary: str, key: str) -> Request:
    """A batch of pictures, framed already by picture_heads; ``framed_length`` is in bytes."""
    fields = [("upload_type", str(metadata.upload_type)), *_optional_fields(metadata, with_task=True)]
    head = _fields(fields, boundary)
    return _framed(DIRECT_PATH, head, (0, framed_length), boundary, key, True, None)


def _optional_fields(metadata: Metadata, *, with_task: bool) -> list[tuple[str, str]]:
    values = [
        ("task_id", metadata.task_id if with_task else None),
        ("notes", metadata.notes),
        ("profile_id", None if metadata.profile_id is None else str(metadata.profile_id)),
    ]
    return [(name, value) for name, value in values if value]


def _request(
    path: str,
    fields: Iterable[tuple[str, str]],
    file: tuple[str, str],
    span: tuple[int, int],
    boundary: str,
    key: str,
    makes_batch: bool,
    upload_id: str | None,
) -> Request:
    """Multipart framing (RFC 7578): the fields first, the file last, so that a server may stream it."""
    head = _fields(fields, boundary) + _file_head(*file, boundary)
    return _framed(path, head, span, boundary, key, makes_batch, upload_id)


def _fields(fields: Iterable[tuple[str, str]], boundary: str) -> bytes:
    return b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + value.encode()
        + b"\r\n"
        for name, value in fields
    )


def _file_head(field: str, file_name: str, boundary: str) -> bytes:
    return (
        f"--{boundary}\r\nContent-Disposition: form-data; "
        f'name="{field}"; filename="{_escaped(file_name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


def _framed(
    path: str,
    head: bytes,
    span: tuple[int, int],
    boundary: str,
    key: str,
    makes_batch: bool,
    upload_id: str | None,
) -> Request:
    tail = f"\r\n--{boundary}--\r\n".encode()
    offset, length = span
    headers = (
        ("Content-Type", f"multipart/form-data; boundary={boundary}"),
        ("Content-Length", str(len(head) + length + len(tail))),
        ("Idempotency-Key", key),
    )
    return Request(path, headers, head, offset, length, tail, makes_batch, upload_id)


def _escaped(name: str) -> str:
    """A file name in a header as browsers write it (WHATWG HTML, multipart/form-data encoding)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def process(answer: Answer) -> Ack | None:
    """Read a 2xx answer; None when it is not the JSON object that API.md promises."""
    document = json_object(answer.body)
    if document is None:
        return None
    return Ack(_identifier(document.get("upload_id")), _identifier(document.get("batch_id")))


def _identifier(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.isprintable() and text else None  # JSON can spell what no form or database holds


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body; None when it is anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def server_message(answer: Answer) -> str | None:
    """The server's own words in an error answer, on one line of at most 300 characters."""
    document = json_object(answer.body)
    message = document.get("message") if document is not None else None
    if not isinstance(message, str) or not message.strip():
        return None
    words = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return words if len(words) <= 300 else words[:299] + "…"


def in_own_words(answer: Answer) -> bool:
    """Whether the server itself said it, in JSON (API.md), and nothing that stands before it."""
    return not is_html(answer) and json_object(answer.body) is not None


def is_html(answer: Answer) -> bool:
    """Whether something between us and the server answered: its own answers are JSON."""
    kind = answer.headers.get("content-type", "").lower()
    return "html" in kind or answer.body.lstrip()[:1] == b"<"
