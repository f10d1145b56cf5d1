from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.delivery.chunks import Chunk
from omrwatchd.delivery.wire import Answer, Request, prepare_chunk, prepare_direct, process, server_message
from omrwatchd.model import Metadata, UploadType

FULL = Metadata(UploadType.ZIP_NO_QR, task_id="12", notes="Saal 1", profile_id=9)


def names_of(request: Request) -> list[str]:
    """The field names of a request, in order."""
    return [part.split(b'"')[1].decode() for part in request.head.split(b"form-data; name=")[1:]]


def test_direct_upload_has_the_fields_of_the_api() -> None:
    """A direct upload names the type and what is set, then the file; nothing empty."""
    assert names_of(prepare_direct("a.zip", 5, FULL, "b", "k")) == [
        "upload_type", "task_id", "notes", "profile_id", "file",
    ]  # fmt: skip
    assert names_of(prepare_direct("a.zip", 5, Metadata(), "b", "k")) == ["upload_type", "file"]


def test_notes_and_profile_go_on_the_final_chunk_alone() -> None:
    """task_id is on every chunk; notes and profile_id on the last; upload_id on all but chunk 0."""
    first = prepare_chunk("a.zip", Chunk(0, 3, 0, 10), None, FULL, "b", "k")
    middle = prepare_chunk("a.zip", Chunk(1, 3, 10, 10), "u1", FULL, "b", "k")
    final = prepare_chunk("a.zip", Chunk(2, 3, 20, 4), "u1", FULL, "b", "k")
    common = ["chunk_index", "total_chunks", "filename", "upload_type", "is_final_chunk"]
    assert names_of(first) == [*common, "task_id", "chunk"]
    assert names_of(middle) == [*common, "upload_id", "task_id", "chunk"]
    assert names_of(final) == [*common, "upload_id", "task_id", "notes", "profile_id", "chunk"]
    assert [r.makes_batch for r in (first, middle, final)] == [False, False, True]
    assert b'filename="a.zip.part2"' in final.head


@given(name=st.text(min_size=1).filter(lambda text: text.isprintable()), length=st.integers(1, 10**12))
def test_content_length_is_exact(name: str, length: int) -> None:
    """What is announced is the framing's bytes and the chunk's, whatever the name."""
    request = prepare_chunk(name, Chunk(1, 3, 0, length), "u", FULL, "boundary", "k")
    assert dict(request.headers)["Content-Length"] == str(len(request.head) + length + len(request.tail))


@given(name=st.text(alphabet=string.printable, min_size=1))
def test_names_can_not_break_out_of_their_header(name: str) -> None:
    """Quotes and line breaks in a file name stay in it."""
    header = prepare_direct(name, 1, Metadata(), "b", "k").head.rpartition(b"--b\r\n")[2]
    assert header.count(b"\r\n") == 3
    assert header.count(b'"') == 4


@pytest.mark.parametrize(
    ("body", "upload_id", "batch_id"),
    [
        (b'{"upload_id": "u", "batch_id": 7}', "u", "7"),
        (b'{"batch_id": ""}', None, None),
        (b"{}", None, None),
        (rb'{"upload_id": "\ud800", "batch_id": "a\nb"}', None, None),
    ],
)
def test_answers_are_read(body: bytes, upload_id: str | None, batch_id: str | None) -> None:
    """Identifiers may be text or numbers; an empty one is none, nor what no form and no database holds."""
    ack = process(Answer(200, {}, body))
    assert ack is not None
    assert (ack.upload_id, ack.batch_id) == (upload_id, batch_id)


@given(body=st.binary())
def test_any_body_is_read_without_an_error(body: bytes) -> None:
    """Whatever a proxy sends, reading it raises nothing."""
    answer = Answer(200, {}, body)
    process(answer)
    message = server_message(answer)
    assert message is None or "\n" not in message
