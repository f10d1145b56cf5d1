"""Misbehaviour on demand, as a client sees it."""

from __future__ import annotations

import socket
import time
from http.client import HTTPResponse

import httpx
import pytest

from omrwatchd.receiver import Fault


def test_an_error_is_answered_as_often_as_asked(client):
    """A status comes twice as a proxy's HTML page, with Retry-After, then the server behaves."""
    client.receiver.add_fault(Fault(match="upload", action="status", status=524, times=2, retry_after=7))
    for _ in range(2):
        answer = client.upload()
        assert (answer.status_code, answer.headers["retry-after"]) == (524, "7")
        assert answer.headers["content-type"].startswith("text/html")
        assert "524 A timeout occurred" in answer.text
    assert client.upload().status_code == 202
    assert len(client.receiver.batches) == 1


def test_an_error_may_speak_for_itself(client):
    """A message is JSON, a page is HTML, and -1 is for ever."""
    client.receiver.add_fault(Fault(match="probe", action="status", status=400, message="no"))
    client.receiver.add_fault(Fault(match="probe", action="status", status=530, html="<p>", times=-1))
    assert client.get("/health").json() == {"message": "no"}
    assert [client.get("/health").text for _ in range(3)] == ["<p>"] * 3
    client.receiver.clear_faults()
    assert client.get("/health").json() == {"ok": True}


@pytest.mark.parametrize("file_first", [False, True])
def test_a_fault_can_be_meant_for_one_chunk_of_one_file(client, file_first):
    """It passes over all others, wherever in the form the index stands."""
    client.receiver.add_fault(Fault(match="chunk", chunk_index=1, filename="b.zip", action="status"))
    seen = []
    for name in ("a.zip", "b.zip", "b.zip"):
        upload_id = client.begin(3, filename=name)
        parts = client.chunk_parts(1, 3, b"x", upload_id, filename=name)
        answer = client.post("/batches/upload-chunk", parts[::-1] if file_first else parts)
        seen.append(answer.status_code)
    assert seen == [200, 503, 200]


def test_a_cut_resets_the_connection_within_the_body(client):
    """After so many bytes the connection is gone, and nothing of the chunk is kept."""
    client.receiver.add_fault(Fault(match="chunk", chunk_index=0, action="cut", after_bytes=1_000_000))
    with pytest.raises(httpx.TransportError):
        client.chunk(0, 2, b"x" * 20_000_000)
    (entry,) = client.receiver.requests
    assert 1_000_000 <= entry.body_bytes < 2_000_000
    assert entry.status is None
    assert client.chunk(0, 2).status_code == 200


def test_a_cut_behind_the_body_is_a_reset_without_an_answer(client):
    """A cut later than the body's end comes when the body was read."""
    client.receiver.add_fault(Fault(match="upload", action="cut", after_bytes=10_000_000))
    with pytest.raises(httpx.ReadError):
        client.upload()
    assert client.receiver.batches == []
    client.receiver.add_fault(Fault(match="probe", action="cut"))
    with pytest.raises(httpx.ReadError):
        client.get("/health")


def test_a_lost_answer_is_lost_after_the_work(client):
    """The batch exists, and only the lookup tells."""
    upload_id = client.begin(2)
    assert client.get(f"/batches/by-upload/{upload_id}").json() == {"message": "absent"}
    client.receiver.add_fault(Fault(match="chunk", chunk_index=1, action="lose_answer"))
    with pytest.raises(httpx.RemoteProtocolError):
        client.chunk(1, 2, b"y", upload_id)
    (batch,) = client.receiver.batches
    assert client.get(f"/batches/by-upload/{upload_id}").json() == {"batch_id": batch.batch_id}
    assert client.chunk(1, 2, b"y", upload_id).json()["batch_id"] == batch.batch_id


def test_a_gateways_timeout_can_hide_work_that_was_done(client):
    """With processed, the error is the proxy's own: the batch is there."""
    client.receiver.add_fault(Fault(match="upload", action="status", status=504, processed=True))
    assert client.upload().status_code == 504
    assert len(client.receiver.batches) == 1


def test_an_answer_can_be_late(client):
    """A delay holds the answer back, not the work."""
    client.receiver.add_fault(Fault(match="upload", action="delay", seconds=0.3))
    before = time.monotonic()
    assert client.upload().status_code == 202
    assert time.monotonic() - before >= 0.3
    client.receiver.add_fault(Fault(match="upload", action="delay", seconds=60))
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(
            "/batches/upload",
            files={"file": ("b.zip", b"b")},
            data={"upload_type": "zip_with_qr"},
            headers=client.headers,
            timeout=0.3,
        )
    assert len(client.receiver.batches) == 2


def test_a_session_can_be_forgotten_in_between(client):
    """The chunk that meets it gets 410, and so do all after it."""
    upload_id = client.begin(3)
    client.receiver.add_fault(Fault(match="chunk", chunk_index=1, action="forget"))
    assert [client.chunk(index, 3, b"y", upload_id).status_code for index in (1, 1, 2)] == [410] * 3


def test_a_token_can_expire(client):
    """The request that meets it gets 401, and only the new token is good."""
    client.receiver.add_fault(Fault(match="upload", action="token", token="new"))
    assert [client.upload().status_code for _ in range(2)] == [401, 401]
    client.headers = {"Authorization": "Bearer new"}
    assert client.upload().status_code == 202
    client.receiver.rotate_token("newer")
    assert client.upload().status_code == 401


@pytest.mark.parametrize("body", ["", "<html>", "{}", '{"upload_id": null}', "[1]"])
def test_a_success_can_say_nonsense(client, body):
    """200 with a body that is no answer."""
    client.receiver.add_fault(Fault(match="chunk", action="body", body=body))
    answer = client.chunk(0, 2)
    assert (answer.status_code, answer.text) == (200, body)


def status_of_whole_answer(connection: socket.socket) -> int:
    """Reads one answer to its last byte: it may come in several pieces."""
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def test_an_early_answer_comes_before_the_body(client):
    """A client that looks sees it after the headers; one that doesn't can send on and use the connection."""
    client.receiver.add_fault(Fault(match="upload", action="early", status=429, retry_after=1, times=2))
    with client.raw("POST /api/batches/upload HTTP/1.1\r\nContent-Length: 9000000") as connection:
        assert status_of_whole_answer(connection) == 429
        connection.sendall(b"x" * 9_000_000 + b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of_whole_answer(connection) == 401
    assert client.upload(b"x" * 9_000_000).status_code == 429
    assert [entry.body_bytes for entry in client.receiver.requests if entry.kind == "upload"] == [0, 0]


def test_processing_is_busy_on_demand(client):
    """Busy until told otherwise, or for so many polls; starting meets 409 meanwhile."""
    batch_id = client.upload().json()["batch_id"]
    status, start = "/processing/status", f"/processing/{batch_id}/start"

    def post(path: str) -> int:
        return client.http.post(path, headers=client.headers).status_code

    assert client.get(status).json() == {"queue": {"busy": False, "waiting": 0}}
    client.receiver.set_busy(True)
    assert client.get(status).json() == {"queue": {"busy": True, "waiting": 1}}
    assert post(start) == 409
    client.receiver.set_busy(False)
    client.receiver.busy_polls = 2
    assert [client.get(status).json()["queue"]["busy"] for _ in range(3)] == [True, True, False]
    assert not client.receiver.batches[0].started
    assert post(start) == 202
    assert client.receiver.batches[0].started
    assert post("/processing/none/start") == 404
    client.receiver.add_fault(Fault(match="start", action="status", status=500))
    client.receiver.add_fault(Fault(match="status", action="status", status=502))
    client.receiver.add_fault(Fault(match="lookup", action="status", status=504))
    assert (post(start), client.get(status).status_code) == (500, 502)
    assert client.get("/batches/by-upload/x").status_code == 504


@pytest.mark.parametrize(
    "wrong",
    [
        {"match": "nothing", "action": "cut"},
        {"match": "chunk", "action": "explode"},
        {"match": "probe", "action": "cut", "chunk_index": 1},
        {"match": "probe", "action": "cut", "filename": "a"},
        {"match": "chunk", "action": "status", "status": 99},
        {"match": "chunk"},
        {"match": "chunk", "action": "cut", "bytes": 1},
    ],
)
def test_an_impossible_fault_is_refused(client, wrong):
    """A plan that could never happen is an error where it is made."""
    with pytest.raises(ValueError):
        Fault.from_json(wrong)
    assert client.http.post("/_control/faults", json=wrong).status_code == 400
