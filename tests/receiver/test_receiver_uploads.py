"""Files that are sent as they should be."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest


def test_chunks_become_the_file_byte_for_byte(client):
    """Four chunks are put together in order, and the batch keeps what was said about them."""
    pieces = [os.urandom(2_500_000), *(os.urandom(1_500_000) for _ in range(2)), os.urandom(77)]
    upload_id = client.begin(4, pieces[0], task_id="t-1")
    for index in (2, 1):
        answer = client.chunk(index, 4, pieces[index], upload_id, task_id="t-1")
        assert answer.json() == {"upload_id": upload_id}
    answer = client.chunk(3, 4, pieces[3], upload_id, task_id="t-1", notes="Grüße", profile_id="7")
    (batch,) = client.receiver.batches
    assert answer.json() == {"upload_id": upload_id, "batch_id": batch.batch_id}
    whole = b"".join(pieces)
    assert (batch.size, batch.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert batch.path.read_bytes() == whole
    assert (batch.upload_id, batch.filename, batch.upload_type) == (upload_id, "scan.zip", "zip_with_qr")
    assert (batch.task_id, batch.notes, batch.profile_id, batch.started) == ("t-1", "Grüße", 7, False)
    assert list((client.receiver._house.directory / "sessions" / upload_id).glob("[0-9]*")) == []


def test_a_single_chunk_is_first_and_final(client):
    """A file of one chunk is whole with chunk 0."""
    answer = client.chunk(0, 1, b"all of it")
    assert answer.json()["batch_id"] == client.receiver.batches[0].batch_id


def test_a_direct_upload_answers_202_with_its_batch(client):
    """One request makes one batch."""
    answer = client.upload(b"zip bytes", task_id="t", notes="n", profile_id="0")
    (batch,) = client.receiver.batches
    assert (answer.status_code, answer.json()) == (202, {"batch_id": batch.batch_id})
    assert (batch.sha256, batch.profile_id, batch.upload_id) == (
        hashlib.sha256(b"zip bytes").hexdigest(),
        0,
        None,
    )


def test_images_are_one_batch(client):
    """Repeated files parts are one batch that knows each picture."""
    parts = [("upload_type", None, b"images"), ("task_id", None, b"t")]
    pictures = [("files", f"p{n}.jpg", bytes([n]) * 10) for n in range(3)]
    assert client.post("/batches/upload", parts + pictures).status_code == 202
    (batch,) = client.receiver.batches
    assert [(file.name, file.path.read_bytes()) for file in batch.files] == [(n, d) for _, n, d in pictures]
    assert (batch.size, batch.sha256) == (30, hashlib.sha256(b"".join(d for _, _, d in pictures)).hexdigest())


def test_the_file_may_come_before_the_fields(client):
    """A browser's form in any order is understood."""
    upload_id = client.begin(2)
    parts = client.chunk_parts(1, 2, os.urandom(3_000_000), upload_id)
    assert client.post("/batches/upload-chunk", parts[::-1]).json()["upload_id"] == upload_id
    answer = client.post("/batches/upload", [("file", "a.zip", b"x"), ("upload_type", None, b"zip_with_qr")])
    assert answer.status_code == 202


def test_a_body_without_a_declared_length_is_read_too(client):
    """Chunked transfer encoding works, one byte a block."""
    body = client.form([("upload_type", None, b"zip_with_qr"), ("file", "a.zip", b"\r\n--\r\n-x")])
    answer = client.post_raw("/batches/upload", (bytes([byte]) for byte in body))
    assert answer.status_code == 202
    assert client.receiver.batches[0].path.read_bytes() == b"\r\n--\r\n-x"
    assert client.receiver.requests[0].content_length is None


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/passwd",
        'say "hi".zip',
        "100%25.zip",
        "ünï 日本.zip",
        "a\\b;c=d.zip",
        "new\nline.zip",
        "." * 300,
    ],
)
def test_odd_file_names_are_kept_but_never_used_as_a_path(client, name):
    """The name stays what it was, in the record alone."""
    wire = name.replace("\n", "%0A").replace('"', "%22")
    assert client.upload(b"d", wire).status_code == 202
    assert client.chunk(0, 1, b"c", filename=name, part_name=f"{wire}.part0").status_code == 200
    house = client.receiver._house.directory.resolve()
    for batch, data in zip(client.receiver.batches, (b"d", b"c"), strict=True):
        assert batch.filename == name
        assert batch.path.read_bytes() == data
        assert batch.path.resolve().is_relative_to(house / "batches" / batch.batch_id)


def test_a_browsers_line_ends_in_a_text_field_are_the_same_name(client):
    """A form's text field has CRLF where the file name has a bare line feed."""
    answer = client.chunk(0, 1, filename="a\r\nb.zip", part_name="a%0Ab.zip.part0")
    assert answer.status_code == 200, answer.text


def test_a_chunk_sent_twice_replaces_itself(client):
    """The last bytes of an index count, and the end is one batch."""
    upload_id = client.begin(3, b"a")
    client.chunk(1, 3, b"wrong", upload_id)
    client.chunk(1, 3, b"b", upload_id)
    client.chunk(2, 3, b"c", upload_id)
    assert client.receiver.batches[0].path.read_bytes() == b"abc"


def test_a_final_chunk_sent_twice_is_one_batch(client):
    """Sent again after its answer was lost, it gets the same answer."""
    upload_id = client.begin(2)
    answers = [client.chunk(1, 2, b"y", upload_id).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(client.receiver.batches) == 1
    assert client.chunk(1, 2, b"other", upload_id).status_code == 409


def test_equal_content_is_seen_as_a_duplicate(client):
    """A second batch of the same bytes is listed."""
    for _ in range(2):
        client.upload(b"same")
    client.upload(b"other")
    assert client.receiver.duplicate_batches == [client.receiver.batches[1].batch_id]


def test_four_chunks_side_by_side_are_seen_as_four(client):
    """Overlapping uploads are counted, each on its own connection."""
    upload_id = client.begin(6)
    meet = threading.Barrier(4)

    def send(index: int) -> int:
        body = client.form(client.chunk_parts(index, 6, b"m" * 100_000, upload_id))

        def blocks():
            yield body[:50_000]
            meet.wait(10)
            yield body[50_000:]

        return client.post_raw("/batches/upload-chunk", blocks()).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, (1, 2, 3, 4))) == [200] * 4
    assert client.chunk(5, 6, b"z", upload_id).status_code == 200
    assert client.receiver.max_concurrent == 4
    middle = [entry for entry in client.receiver.requests if entry.chunk_index in (1, 2, 3, 4)]
    assert len({entry.peer_port for entry in middle}) == 4
    assert max(entry.started for entry in middle) < min(entry.ended for entry in middle)
    assert {entry.body_bytes > 100_000 for entry in middle} == {True}


def test_the_keys_of_a_files_requests_are_recorded(client):
    """Idempotency keys and the user agent reach the record, and change nothing."""
    answer = client.post(
        "/batches/upload-chunk",
        client.chunk_parts(0, 2, b"x", None),
        **{"Idempotency-Key": "k0", "User-Agent": "ua"},
    )
    parts = client.chunk_parts(1, 2, b"x", answer.json()["upload_id"])
    client.post("/batches/upload-chunk", parts, **{"Idempotency-Key": "k1"})
    assert client.receiver.batches[0].idempotency_keys == ("k0", "k1")
    log = client.receiver.requests[0]
    assert (log.idempotency_key, log.user_agent, log.kind, log.filename) == ("k0", "ua", "chunk", "scan.zip")


def test_without_keep_data_the_record_is_all_that_stays(make):
    """The hash is known although the bytes are not kept."""
    client = make(keep_data=False)
    client.upload(b"bytes")
    (batch,) = client.receiver.batches
    assert batch.sha256 == hashlib.sha256(b"bytes").hexdigest()
    assert not batch.path.exists()
