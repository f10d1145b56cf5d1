"""Each row of the fault table, end to end against a server that misbehaves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omrwatchd import events
from omrwatchd.model import Status, WorkerState
from omrwatchd.receiver import Fault, Receiver
from omrwatchd.settings import MIB
from tests.delivery.conftest import OpenStation
from tests.waiting import until
from tests.zips import sha256


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504, 520, 522, 524])
def test_error_page_for_a_chunk_is_tried_again(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """A proxy's page for a middle chunk costs one retry of that chunk, nothing else."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="status", status=status))
    with open_station() as station:
        job = station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
        assert [e.chunk for e in station.announced(events.ChunkRetried)] == [1]
    assert (job.attempts, len(receiver.batches)) == (1, 1)


@pytest.mark.parametrize("status", [521, 523, 525, 526, 530])
def test_origin_away_behind_the_tunnel_is_an_outage(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """The queue is held and goes on by itself; the attempt does not count; no acknowledged chunk is lost."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="status", status=status))
    with open_station() as station:
        job = station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
        assert station.announced(events.QueueHeld)
        assert station.announced(events.QueueReleased)
    assert job.attempts == 1
    sent = [r.chunk_index for r in receiver.requests if r.kind == "chunk" and r.status == 200]
    assert sorted(index for index in sent if index is not None) == [0, 1, 2, 3]


def test_retry_after_stops_all_four_threads(receiver: Receiver, open_station: OpenStation) -> None:
    """After a 429 with Retry-After no request begins until then, and no attempt is spent."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="status", status=429, retry_after=5))
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=0.1))
    with open_station() as station:
        station.ends(station.drop(size=12 * MIB), Status.COMPLETED)
        assert station.announced(events.ServerSlowedDown)
        assert not station.announced(events.ChunkRetried)
    [refused] = [r for r in receiver.requests if r.status == 429]
    later = [r.started - refused.ended for r in receiver.requests if r.started > refused.ended + 0.05]
    # 5 s on the tests' clock, which runs ten times faster
    assert min(later) > 0.4
    assert len(later) >= 6


def test_long_pause_is_shown_while_it_lasts(receiver: Receiver, open_station: OpenStation) -> None:
    """An hour of 'uploading' at no speed is a riddle; who asked for it, and until when, is none."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="status", status=429, retry_after=30))
    with open_station(upload={"max_rate": MIB}) as station:
        job = station.drop(size=12 * MIB)
        until(lambda: station.tools_row().reason, what="a word about the pause")
        row = station.tools_row()
        assert row.state is WorkerState.UPLOADING
        assert re.fullmatch(r"The server asks for a pause until \d\d:\d\d:\d\d\.", row.reason or "")
        until(lambda: station.tools_row().reason is None, what="its end")
        assert station.job(job).status is Status.UPLOADING
        station.ends(job, Status.COMPLETED)


@pytest.mark.parametrize(
    "body", ["", "not json", "<html>ok</html>", "{}"], ids=["empty", "text", "page", "no upload_id"]
)
def test_senseless_success_for_chunk_0_holds_the_queue(
    receiver: Receiver, open_station: OpenStation, body: str
) -> None:
    """A 200 that is not the API's answer blames the address, not the file, and heals."""
    receiver.add_fault(Fault(match="chunk", chunk_index=0, action="body", body=body))
    with open_station() as station:
        job = station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
        assert station.announced(events.QueueHeld)[0].code == "misconfigured"
    assert (job.attempts, len(receiver.batches)) == (1, 1)


@pytest.mark.parametrize(
    "body",
    ["", "not json", "{}", '{"ok": true}', '{"upload_id": "another"}', '{"upload_id": "'],
    ids=["empty", "text", "no upload_id", "portal", "other upload", "cut"],
)
def test_senseless_success_for_a_middle_chunk_leaves_no_hole(
    receiver: Receiver, open_station: OpenStation, body: str
) -> None:
    """A 200 that does not name the upload is no acknowledgement: that chunk is sent again."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="body", body=body))
    with open_station() as station:
        job = station.drop(size=4 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        job = station.ends(job, Status.COMPLETED)
        assert station.announced(events.QueueHeld)[0].code == "misconfigured"
    assert [batch.sha256 for batch in receiver.batches] == [before]
    assert [r.chunk_index for r in receiver.requests if r.kind == "chunk"].count(2) == 2
    assert job.attempts == 1


def test_ids_may_hold_any_letters(receiver: Receiver, open_station: OpenStation) -> None:
    """Beyond ASCII they fit no header: sent back in the form and the path, they end no daemon."""
    receiver.add_fault(Fault(match="chunk", chunk_index=0, action="body", body='{"upload_id": "Prüfung 7"}'))
    receiver.add_fault(Fault(match="chunk", chunk_index=3, action="body", body='{"batch_id": "Bündel 7"}'))
    receiver.add_fault(Fault(match="start", action="body", body="{}"))
    with open_station(processing={"start_path": "/processing/{batch_id}/start"}) as station:
        job = station.ends(station.drop(size=3 * MIB), Status.COMPLETED)
    assert job.batch_ids == ("Bündel 7",)
    assert len(station.announced(events.UploadRestarted)) == 1  # the receiver knows no such upload


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_pause_that_a_gateway_asks_for_makes_no_second_batch(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """Behind its error page with Retry-After the batch was made: reviewed, not sent again after the pause."""
    receiver.add_fault(
        Fault(match="upload", action="status", status=status, retry_after=1, processed=True, times=1)
    )
    with open_station() as station:
        job = station.ends(station.drop(), Status.ERROR)
    assert job.problem is not None
    assert job.problem.code == "outcome_unknown"
    assert len(receiver.batches) == 1


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_gateway_that_gives_up_on_the_final_chunk_is_reviewed(
    receiver: Receiver, open_station: OpenStation, status: int
) -> None:
    """The server made the batch behind the gateway's error page: it is not sent a second time."""
    receiver.add_fault(
        Fault(match="chunk", chunk_index=3, action="status", status=status, processed=True, times=-1)
    )
    with open_station() as station:
        job = station.ends(station.drop(size=3 * MIB), Status.ERROR)
    assert job.problem is not None
    assert job.problem.code == "outcome_unknown"
    assert len(receiver.batches) == 1
    assert sum(r.chunk_index == 3 for r in receiver.requests) == 1


def test_final_answer_without_a_batch_id_is_reviewed(receiver: Receiver, open_station: OpenStation) -> None:
    """A 200 to the last chunk that names no batch may hide one."""
    receiver.add_fault(Fault(match="chunk", chunk_index=3, action="body", body="{}", processed=True))
    with open_station() as station:
        job = station.ends(station.drop(size=3 * MIB), Status.ERROR)
    assert job.problem is not None
    assert job.problem.code == "outcome_unknown"
    assert len(receiver.batches) == 1


def test_final_chunk_refused_before_it_was_sent_whole_is_tried_again(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A connection cut in the middle of the last chunk surely made no batch: it is sent again."""
    receiver.add_fault(Fault(match="chunk", chunk_index=2, action="cut", after_bytes=200_000))
    with open_station(upload={"chunk_size": 16 * MIB, "direct_limit": MIB}) as station:
        job = station.drop(size=47 * MIB)
        before = sha256(station.folder / "drop" / "scan.zip")
        station.ends(job, Status.COMPLETED)
    assert [batch.sha256 for batch in receiver.batches] == [before]


def test_early_401_is_noticed_before_the_body_is_sent(tmp_path, receiver, open_station) -> None:  # type: ignore
    """The answer that comes while a large body goes out is seen at once; the new token is used for it."""
    token_file = tmp_path / "token"
    token_file.write_text("right-token")
    with open_station(
        server={"token": None, "token_file": token_file},
        upload={"chunk_size": 30 * MIB, "direct_limit": MIB},
    ) as station:
        receiver.add_fault(Fault(match="chunk", chunk_index=1, action="early", status=401))
        job = station.ends(station.drop(size=65 * MIB), Status.COMPLETED)
    assert job.attempts == 1
    [refused] = [r for r in receiver.requests if r.status == 401]
    assert refused.body_bytes < 30 * MIB


def test_expired_token_is_renewed_once_for_all_threads(tmp_path, receiver, open_station) -> None:  # type: ignore
    """When the server changes its token in mid-upload, the file is read again and the upload goes on."""
    token_file = tmp_path / "token"
    token_file.write_text("right-token")
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=0.3))
    with open_station(server={"token": None, "token_file": token_file}) as station:
        job = station.drop(size=12 * MIB)
        until(lambda: station.announced(events.ChunkAcknowledged))
        token_file.write_text("new-token")
        receiver.rotate_token("new-token")
        job = station.ends(job, Status.COMPLETED)
        assert not station.announced(events.QueueHeld)
    assert (job.attempts, len(receiver.batches)) == (1, 1)


def test_server_that_fails_one_file_for_ever_fails_that_file(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """While probes are answered a file gets max_attempts, then fails; the next one is delivered."""
    receiver.add_fault(Fault(match="upload", filename="bad.zip", action="status", status=500, times=-1))
    with open_station(start=False, queue={"max_attempts": 2}) as station:
        bad, good = station.drop("bad.zip"), station.drop("good.zip")
        station.worker.start()
        bad = station.ends(bad, Status.ERROR)
        station.ends(good, Status.COMPLETED)
        assert not station.announced(events.QueueHeld)
    assert bad.problem is not None
    assert "2 attempts" in bad.problem.summary
    assert sum(r.filename == "bad.zip" for r in receiver.requests) == 6


def test_three_failed_files_in_a_row_hold_the_queue(receiver: Receiver, open_station: OpenStation) -> None:
    """The fourth file is not thrown after them before a pause; then it is tried."""
    receiver.add_fault(
        Fault(match="upload", action="status", status=422, message="All tasks are closed", times=3)
    )
    with open_station(start=False) as station:
        jobs = [station.drop(f"scan-{number}.zip") for number in range(4)]
        station.worker.start()
        for job in jobs[:3]:
            station.ends(job, Status.ERROR)
        assert station.await_event(events.QueueHeld).code == "files_failing"
        assert station.job(jobs[3]).status is Status.PENDING
        station.ends(jobs[3], Status.COMPLETED)


def test_server_that_quotes_the_token_spreads_it_nowhere(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation
) -> None:
    """Its words reach `status`, the summary and the text in failed/, without the token."""
    receiver.add_fault(
        Fault(match="upload", action="status", status=422, message="wrong: Bearer right-token in the header")
    )
    with open_station() as station:
        job = station.ends(station.drop(), Status.ERROR)
        assert job.problem is not None
        assert "wrong: Bearer *** in the header" in job.problem.summary
    texts = [path for path in tmp_path.rglob("*") if path.suffix in (".txt", ".jsonl")]
    assert len(texts) == 2
    assert not [path for path in texts if "right-token" in path.read_text()]


def test_token_file_of_a_windows_editor_is_usable(
    tmp_path: Path, receiver: Receiver, open_station: OpenStation
) -> None:
    """With a byte order mark and a CRLF."""
    token_file = tmp_path / "token"
    token_file.write_bytes(b"\xef\xbb\xbfright-token\r\n")
    with open_station(server={"token": None, "token_file": token_file}) as station:
        station.ends(station.drop(), Status.COMPLETED)
        assert not station.announced(events.QueueHeld)


def test_cancelled_upload_ends_at_once_and_makes_no_batch(
    receiver: Receiver, open_station: OpenStation
) -> None:
    """A cancel in the row ends an upload that waits for an answer; the file is filed with the reason."""
    receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=30))
    with open_station() as station:
        job = station.drop(size=4 * MIB)
        until(lambda: len(station.announced(events.ChunkAcknowledged)) == 3)
        station.store.note(job.id, cancel_requested=True)
        job = station.ends(job, Status.ABORTED, 5.0)
        assert (station.folder / "failed" / "scan.zip.error.txt").exists()
    assert receiver.batches == []
