"""The control surface, restarts, and the server as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from omrwatchd.receiver import Receiver

_SERVE = """
import sys
from pathlib import Path
from omrwatchd.receiver.server import serve
ready = lambda url: print(url, flush=True)
serve(Path(sys.argv[1]), "demo-token", "127.0.0.1", int(sys.argv[2]), True, ready=ready)
"""


@pytest.mark.parametrize("base", ["/api", ""])
def test_the_state_tells_what_happened(client, base):
    """Batches and requests are seen as JSON without a token, below the base path and at the root."""
    upload_id = client.begin(2)
    batch_id = client.chunk(1, 2, b"y", upload_id).json()["batch_id"]
    root = (
        str(client.http.base_url).removesuffix("/").removesuffix("/api") if base else client.receiver.base_url
    )
    state = httpx.get(f"{root}/_control/state", trust_env=False).json()
    assert state["batches"][0]["batch_id"] == batch_id
    assert [entry["chunk_index"] for entry in state["requests"]] == [0, 1]
    assert (state["request_count"], state["max_concurrent"], state["duplicate_batches"]) == (2, 1, [])


def test_everything_can_be_switched_over_http(client):
    """Faults, busy, token and sessions answer to the control surface."""
    upload_id = client.begin(2)
    http = client.http
    fault = {"match": "probe", "action": "status", "status": 500, "times": -1}
    assert http.post("/_control/faults", json=[fault]).json() == {"ok": True}
    assert client.get("/health").status_code == 500
    http.delete("/_control/faults")
    assert client.get("/health").status_code == 200
    http.post("/_control/busy", json={"busy": True, "busy_polls": 3})
    assert client.get("/processing/status").json()["queue"] == {"busy": True, "waiting": 3}
    http.post("/_control/forget", json={"upload_id": upload_id})
    assert client.chunk(1, 2, b"y", upload_id).status_code == 410
    other = client.begin(2)
    http.post("/_control/forget")
    assert client.chunk(1, 2, b"y", other).status_code == 410
    token = http.post("/_control/token").json()["token"]
    assert client.get("/health").status_code == 401
    client.headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/health").status_code == 200
    for path, wrong in (("busy", {"busy": 1}), ("busy", []), ("token", {"token": 1}), ("faults", {})):
        assert http.post(f"/_control/{path}", json=wrong).status_code == 400


def test_the_control_surface_is_there_only_when_wanted(make):
    """Without it the path is unknown."""
    client = make(control=False)
    assert client.get("/_control/state").status_code == 404


def test_a_restart_keeps_sessions_and_batches(client, make):
    """On the same port and with the same folder, an upload goes on where it stopped."""
    done = client.upload(b"before").json()["batch_id"]
    upload_id = client.begin(3, b"a")
    finished = client.begin(1)
    forgotten = client.begin(2)
    client.receiver.forget(forgotten)
    url = client.receiver.base_url
    client.receiver.stop()
    with pytest.raises(httpx.ConnectError):
        client.get("/health")
    client.receiver.start()
    assert client.receiver.base_url == url
    assert client.chunk(1, 3, b"b", upload_id).status_code == 200
    client.receiver.stop()
    second = make()
    assert second.chunk(2, 3, b"c", upload_id).status_code == 200
    assert [batch.batch_id for batch in second.receiver.batches][:1] == [done]
    assert second.receiver.batches[-1].path.read_bytes() == b"abc"
    assert second.get(f"/batches/by-upload/{finished}").status_code == 200
    assert second.chunk(1, 2, b"b", forgotten).status_code == 410


def test_a_stop_does_not_wait_for_clients(client):
    """Neither an upload in mid-body nor a late answer nor an idle connection holds it up."""
    client.get("/health")
    client.http.post("/_control/faults", json={"match": "probe", "action": "delay", "seconds": 60})
    with (
        client.raw("GET /api/health HTTP/1.1") as late,
        client.raw(
            "POST /api/batches/upload HTTP/1.1\r\nContent-Length: 90000\r\n"
            "Content-Type: multipart/form-data; boundary=b",
            b"--b\r\n",
        ) as halfway,
    ):
        client.until(lambda: len(client.receiver.requests) == 3)
        before = time.monotonic()
        client.receiver.stop()
        assert time.monotonic() - before < 1
        for connection in (late, halfway):
            assert connection.recv(100) == b""
    client.receiver.stop()


def test_a_taken_port_is_an_error(client, tmp_path):
    """Two servers can't have one port."""
    port = client.http.base_url.port
    with pytest.raises(OSError):
        Receiver(tmp_path / "other", port=port).start()


def _serve(folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(folder), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_ends_well_on_a_signal(tmp_path, sign):
    """It says where it listens, serves, and returns with code 0 and not a word."""
    process, url = _serve(tmp_path)
    with process, httpx.Client(trust_env=False, headers={"Authorization": "Bearer demo-token"}) as http:
        assert http.get(f"{url}/health").json() == {"ok": True}
        process.send_signal(sign)
        assert process.communicate(timeout=5) == ("", "")
    assert process.returncode == 0


def test_a_killed_process_knows_what_it_acknowledged(client, tmp_path):
    """After SIGKILL in mid-chunk, the chunks that were acknowledged are there and the half one is not."""
    process, url = _serve(tmp_path / "killed")
    with process:
        client.http.base_url = url
        upload_id = client.begin(3, b"a")
        body = client.form(client.chunk_parts(1, 3, os.urandom(4_000_000), upload_id))
        kind = "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW"
        head = (
            f"POST /api/batches/upload-chunk HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
        )
        with client.raw(head, body[:3_000_000]):
            incoming = tmp_path / "killed" / "incoming"
            client.until(lambda: list(incoming.iterdir()))
            process.kill()
            process.communicate(timeout=5)
    process, url = _serve(tmp_path / "killed")
    with process:
        client.http.base_url = url
        assert list(incoming.iterdir()) == []
        assert client.chunk(2, 3, b"c", upload_id).status_code == 409
        assert client.chunk(1, 3, b"b", upload_id).status_code == 200
        assert "batch_id" in client.chunk(2, 3, b"c", upload_id).json()
        process.terminate()
        process.communicate(timeout=5)
