"""Requests that are not what the API says: each is refused, and its fault is named."""

from __future__ import annotations

import pytest


def refused(answer, status: int, word: str) -> None:
    assert answer.status_code == status, answer.text
    assert word in answer.json()["message"]


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"color": "red"}, 400, "unknown field 'color'"),
        ({"file": "text"}, 400, "unknown field 'file'"),
        ({"task_id": ""}, 400, "'task_id' is empty"),
        ({"filename": None, "part_name": "scan.zip.part1"}, 400, "missing field 'filename'"),
        ({"chunk_index": None}, 400, "missing field 'chunk_index'"),
        ({"total_chunks": None}, 400, "missing field 'total_chunks'"),
        ({"upload_type": None}, 400, "missing field 'upload_type'"),
        ({"is_final_chunk": None}, 400, "missing field 'is_final_chunk'"),
        ({"upload_id": None}, 400, "missing field 'upload_id'"),
        ({"chunk_index": "one"}, 400, "'chunk_index' must be an integer"),
        ({"chunk_index": "01"}, 400, "'chunk_index' must be an integer"),
        ({"chunk_index": "4"}, 400, "'chunk_index' is 4"),
        ({"total_chunks": "0"}, 400, "'total_chunks'"),
        ({"total_chunks": "5"}, 400, "'total_chunks' differs"),
        ({"is_final_chunk": "True"}, 400, "'is_final_chunk' must be true or false"),
        ({"is_final_chunk": "true"}, 400, "'is_final_chunk' must be false"),
        ({"upload_type": "zip"}, 400, "'upload_type' must be one of"),
        ({"upload_type": "zip_no_qr"}, 422, "'task_id' is required"),
        ({"upload_type": "images"}, 422, "'task_id' is required"),
        ({"upload_type": "zip_no_qr", "task_id": "t"}, 400, "'upload_type' differs"),
        ({"upload_type": "images", "task_id": "t"}, 400, "images are sent in one request"),
        ({"task_id": "other"}, 400, "'task_id' differs"),
        ({"filename": "other.zip"}, 400, "'filename' differs"),
        ({"part_name": "scan.zip"}, 400, "'chunk' must have the file name"),
        ({"part_name": "scan.zip.part2"}, 400, "'chunk' must have the file name"),
        ({"notes": "n"}, 400, "'notes' goes with the final chunk only"),
        ({"profile_id": "1"}, 400, "'profile_id' goes with the final chunk only"),
        ({"profile_id": "one"}, 400, "'profile_id' must be an integer"),
        ({"upload_id": "../../x"}, 404, "'upload_id'"),
    ],
)
def test_a_chunk_with_a_wrong_field_is_refused_by_name(client, changes, status, word):
    """Each field is checked by itself, against the others, and against chunk 0."""
    upload_id = client.begin(4)
    refused(client.chunk(1, 4, b"x", **({"upload_id": upload_id} | changes)), status, word)
    assert list(client.receiver._house.incoming.iterdir()) == []


@pytest.mark.parametrize("path", ["/batches/upload", "/batches/upload-chunk"])
def test_a_repeated_field_is_refused(client, path):
    """A field stands in a form once."""
    parts = [("upload_type", None, b"zip_with_qr")] * 2
    refused(client.post(path, parts), 400, "duplicate field 'upload_type'")
    name = "file" if path.endswith("upload") else "chunk"
    refused(client.post(path, [(name, "a.zip", b"x")] * 2), 400, f"duplicate field '{name}'")


@pytest.mark.parametrize(
    ("parts", "status", "word"),
    [
        ([("upload_type", None, b"zip_with_qr")], 400, "missing field 'file'"),
        ([("file", "a.zip", b"x")], 400, "missing field 'upload_type'"),
        ([("upload_type", None, b"zip_no_qr"), ("file", "a", b"x")], 422, "'task_id'"),
        ([("upload_type", None, b"images"), ("files", "a", b"x")], 422, "'task_id'"),
        ([("upload_type", None, b"zip_with_qr"), ("files", "a", b"x")], 400, "'files' does not go with"),
        ([("upload_type", None, b"zip_with_qr"), ("file", "a", b"")], 400, "'file' is an empty file"),
        ([("upload_type", None, b"zip_with_qr"), ("file", None, b"x")], 400, "'file' must be a file"),
        ([("upload_type", "t", b"zip_with_qr")], 400, "'upload_type' must be text"),
        ([("notes", None, b"\xff")], 400, "'notes' is not UTF-8"),
        ([("notes", None, b"n" * 70_000)], 400, "'notes' is too long"),
        ([("chunk", "a.part0", b"x")], 400, "unknown field 'chunk'"),
        ([("upload_id", None, b"x")], 400, "unknown field 'upload_id'"),
    ],
)
def test_a_direct_upload_with_a_wrong_field_is_refused_by_name(client, parts, status, word):
    """The direct form is as strict as the chunked one."""
    refused(client.post("/batches/upload", parts), status, word)
    assert client.receiver.batches == []


def test_chunk_0_has_no_upload_id(client):
    """Not even that of a session that exists."""
    refused(client.chunk(0, 2, b"x", client.begin(2)), 400, "'upload_id' must be absent")


def test_an_empty_chunk_is_refused(client):
    """A chunk carries bytes."""
    refused(client.chunk(0, 2, b""), 400, "'chunk' is an empty file")


def test_middle_chunks_have_one_size(client):
    """First and last may differ, what lies between may not."""
    upload_id = client.begin(5, b"12345")
    assert client.chunk(1, 5, b"123", upload_id).status_code == 200
    refused(client.chunk(2, 5, b"12", upload_id), 400, "'chunk': 2 bytes")
    assert client.chunk(2, 5, b"456", upload_id).status_code == 200


def test_a_final_chunk_before_the_others_is_refused(client):
    """The file is not put together with a hole in it, and can still be completed."""
    upload_id = client.begin(3)
    refused(client.chunk(2, 3, b"z", upload_id), 409, "before chunk 1 was acknowledged")
    assert client.chunk(1, 3, b"y", upload_id).status_code == 200
    assert "batch_id" in client.chunk(2, 3, b"z", upload_id).json()


def test_a_final_chunk_that_races_the_others_is_refused(client):
    """What counts is what was acknowledged when the final request began."""
    upload_id = client.begin(3)
    body = client.form(client.chunk_parts(2, 3, b"z", upload_id))

    def blocks():
        yield body[:200]
        client.until(lambda: not client.receiver.requests[-1].ended)
        assert client.chunk(1, 3, b"y", upload_id).status_code == 200
        yield body[200:]

    refused(client.post_raw("/batches/upload-chunk", blocks()), 409, "chunk 1")


def test_a_forgotten_upload_is_gone(client):
    """A session that expired answers 410, one that never was 404."""
    kept, lost = client.begin(2), client.begin(2)
    client.receiver.forget(lost)
    refused(client.chunk(1, 2, b"y", lost), 410, "'upload_id'")
    refused(client.chunk(1, 2, b"y", "nonsense"), 404, "'upload_id'")
    assert client.chunk(1, 2, b"y", kept).status_code == 200
    client.receiver.forget()
    refused(client.chunk(1, 2, b"y", kept), 410, "'upload_id'")


@pytest.mark.parametrize("said", [None, "Bearer wrong", "Basic demo-token", "Bearer démo"])
def test_a_wrong_token_is_refused_everywhere(client, said):
    """Each path asks for the token."""
    headers = {} if said is None else {"Authorization": said.encode()}
    for path in ("/health", "/processing/status", "/batches/by-upload/x"):
        refused(client.http.get(path, headers=headers), 401, "token")
    for path in ("/batches/upload", "/batches/upload-chunk", "/processing/x/start"):
        refused(client.http.post(path, headers=headers, content=b"x" * 100_000), 401, "token")


def test_an_oversized_body_is_refused_before_it_is_read(client):
    """Beyond 100 MiB by its declared length, nginx answers at once and in HTML."""
    length = 100 * 1024 * 1024
    with client.raw(f"POST /api/batches/upload HTTP/1.1\r\nContent-Length: {length + 1}") as connection:
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "text/html" in answer
    with client.raw(f"POST /api/batches/upload HTTP/1.1\r\nContent-Length: {length}") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 415 ")


def test_an_oversized_body_of_unknown_length_is_refused_while_it_comes(make):
    """Without a declared length the bytes are counted, the form's own included."""
    client = make(body_limit=200_000)
    body = client.form([("upload_type", None, b"zip_with_qr"), ("file", "a.zip", b"x" * 199_900)])
    answer = client.post_raw("/batches/upload", iter([body[:150_000], body[150_000:]]))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "text/html; charset=utf-8")
    assert client.receiver.batches == []
    assert list(client.receiver._house.incoming.iterdir()) == []


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"Content-Disposition: form-data; name=notes", "malformed"),
        (b'Content-Disposition: form-data; name="notes\\"x"', "malformed"),
        (b'Content-Disposition: form-data; filename="notes"', "no name"),
        (b"Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''a", "malformed"),
        (b'Content-Disposition: form-data; name="a"; name="a"', "repeated"),
        (b'Content-Disposition: form-data; name="file"; filename="\xe4"', "not UTF-8"),
        (b'Content-Disposition: attachment; name="notes"', "form-data"),
        (b"Content-Type: text/plain", "no Content-Disposition"),
    ],
)
def test_a_part_head_that_no_browser_writes_is_refused(client, head, word):
    """Names stand in plain quotes, as UTF-8, once."""
    whole = client.form([("notes", None, b"n")])
    start = whole.index(b"Content-Disposition")
    end = whole.index(b"\r\n\r\n")
    refused(client.post_raw("/batches/upload", whole[:start] + head + whole[end:]), 400, word)


def test_a_form_that_is_cut_short_is_refused(client):
    """A body that ends before its closing boundary is no form."""
    body = client.form([("upload_type", None, b"zip_with_qr"), ("file", "a.zip", b"x")])
    refused(client.post_raw("/batches/upload", body[:-30]), 400, "cut short")
    refused(client.post_raw("/batches/upload", b"no form at all"), 400, "malformed")
    answer = client.http.post("/batches/upload", json={}, headers=client.headers)
    refused(answer, 415, "multipart/form-data")


def test_a_client_that_goes_away_leaves_nothing(client):
    """A broken connection in mid-body is logged without an answer, and its bytes are removed."""
    body = client.form([("file", "a.zip", b"x" * 3_000_000)])
    kind = "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW"
    head = f"POST /api/batches/upload HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
    client.raw(head, body[:2_500_000]).close()
    client.until(lambda: client.receiver.requests and client.receiver.requests[0].ended)
    assert client.receiver.requests[0].status is None
    assert list(client.receiver._house.incoming.iterdir()) == []


def test_an_unknown_path_is_a_json_404(client):
    """What is no route says so in JSON."""
    refused(client.get("/nowhere"), 404, "Not Found")
    refused(client.get("/batches/upload"), 405, "Method Not Allowed")
