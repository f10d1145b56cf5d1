from __future__ import annotations

from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from omrwatchd.cli.render import shortened, summary_table, table
from omrwatchd.errors import Problem
from omrwatchd.model import Arriving, Identity, Job, Metadata, Part, Status, WorkerState
from omrwatchd.queue.views import Snapshot, WorkerView

IDLE = WorkerView(WorkerState.IDLE, None, 0.0, 1.0, None, 1.0)


def a_job(name: str, status: Status, *, sent: int = 0, problem: Problem | None = None, parts: int = 1) -> Job:
    size = 160_000_000
    batch = "b" * 32 if status is Status.COMPLETED else None
    rows = tuple(
        Part(
            id=index, job_id=7, index=index, name=name, sheets=80, size=size // parts, whole=True,
            first_sheet=0, stop_sheet=80, status=status, upload_id=None, chunk_size=None,
            edge_chunk_size=None, sessions=0, final_sent_at=None, batch_id=batch,
            started_at=None, bytes_sent=sent // parts,
        )
        for index in range(parts)
    )  # fmt: skip
    return Job(
        id=7, path=b"/drop/x", name=name, watch="default", identity=Identity(size, 1, 1),
        metadata=Metadata(), sheets=80, fingerprint=None, status=status, attempts=1, failures=0,
        problem=problem, created_at=1.0, started_at=1.0, delivered_at=None, finished_at=None, filed_at=None,
        filing_target=None, filing_problem=None, summary_at=None, cancel_requested=False, parts=rows,
    )  # fmt: skip


def shown(renderable: RenderableType, width: int = 80) -> str:
    out = StringIO()
    Console(file=out, width=width, force_terminal=False, highlight=False).print(renderable)
    return out.getvalue()


def test_every_state_fits_80_columns_and_is_named() -> None:
    """Each status with a long name and a long sentence stays within 80 cells and shows its words."""
    problem = Problem("refused", "The server said: " + "the task is closed " * 8, "Open it again.")
    jobs = tuple(
        a_job("Prüfung-日本語-" + "x" * 60 + ".zip", status, sent=9, problem=problem, parts=2)
        for status in Status
    )
    arriving = (Arriving("late.zip", 12, "not a complete ZIP yet: " + "its end is missing " * 6),)
    text = shown(table(Snapshot(IDLE, jobs, arriving)))
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    for status in Status:
        assert str(status) in text
    assert "Open it again." in text
    assert "late.zip" in text


def test_upload_shows_its_percent_and_rate() -> None:
    """A third of the bytes is 33 %, and the headline has the rate."""
    worker = WorkerView(WorkerState.UPLOADING, None, 0.0, 1.0, 52 * 1024 * 1024.0, 1.0)
    text = shown(table(Snapshot(worker, (a_job("a.zip", Status.UPLOADING, sent=52_800_000),), ())))
    assert "uploading at 52.0 MiB/s" in text
    assert "33%" in text


def test_hold_and_cooldown_say_why_and_how_long() -> None:
    """A held queue shows its reason, a cooldown its seconds."""
    held = WorkerView(WorkerState.HELD, "The server can't be reached.", 0.0, 1.0, None, 1.0)
    assert "held: The server can't be reached." in shown(table(Snapshot(held, (), ())))
    cooling = WorkerView(WorkerState.COOLDOWN, None, 3.2, 1.0, None, 1.0)
    assert "3.2 s" in shown(table(Snapshot(cooling, (), ())))
    sending = WorkerView(WorkerState.UPLOADING, None, 0.0, 1.0, None, 1.0, paused=True)
    jobs = (a_job("a.zip", Status.UPLOADING),)
    assert "omrwatchd uploading, paused after this file\n" in shown(table(Snapshot(sending, jobs, ())))


def test_hostile_names_are_shown_as_text() -> None:
    """Neither markup nor control characters of a name do anything to the terminal."""
    job = a_job("[red]x[/red]\x1b[2J\r.zip", Status.PENDING)
    for text in (shown(table(Snapshot(IDLE, (job,), ()))), shown(summary_table([job]))):
        assert "[red]x[/red]" in text
        assert "\x1b" not in text
        assert "\r" not in text


def test_summary_has_totals() -> None:
    """Files, failures, sheets and bytes of what was delivered stand in the last line."""
    problem = Problem("refused", "The server said: no", "")
    jobs = [a_job("a.zip", Status.COMPLETED), a_job("b.zip", Status.ERROR, problem=problem)]
    last = [line for line in shown(summary_table(jobs)).splitlines() if line.strip()][-1]
    assert last == "2 files: 1 delivered with 80 sheets and 152.6 MiB, 1 failed"


@given(name=st.text(min_size=1), cells=st.integers(3, 60))
def test_shortened_names_fit(name: str, cells: int) -> None:
    """Whatever the script, a shortened name is no wider than asked, and keeps its beginning and end."""
    short = shortened(name, cells)
    assert cell_len(short) <= cells


def test_document_for_programs_is_exactly_the_promised_object() -> None:
    """`status --json`: these keys, these types, nothing more; an error is an object or null."""
    problem = Problem("refused", "The server said: no.", "Ask.")
    jobs = (a_job("a.zip", Status.COMPLETED), a_job("b.zip", Status.ERROR, problem=problem))
    worker = WorkerView(WorkerState.COOLDOWN, None, 3.21, 1.0, None, 1.0)
    found = Snapshot(worker, jobs, (Arriving("c.zip", 12, "still growing"),)).document()
    assert found == {
        "worker": {
            "state": "cooldown", "reason": None, "cooldown_left": 3.2,
            "heartbeat": "1970-01-01T00:00:01+00:00",
        },
        "jobs": [
            {
                "id": 7, "name": f"{name}.zip", "status": status, "bytes": 160_000_000, "bytes_sent": 0,
                "sheets": 80, "attempts": 1, "upload_type": "zip_with_qr", "task_id": None,
                "path": "/drop/x", "error": error,
                "parts": [
                    {"index": 0, "sheets": 80, "bytes": 160_000_000, "status": status, "batch_id": batch}
                ],
            }
            for name, status, batch, error in (
                ("a", "completed", "b" * 32, None),
                (
                    "b", "error", None,
                    {"code": "refused", "summary": "The server said: no.", "advice": "Ask."},
                ),
            )
        ],
        "arriving": [{"name": "c.zip", "bytes": 12, "why": "still growing"}],
    }  # fmt: skip


def test_split_file_shows_its_parts_with_their_batches() -> None:
    """Four parts below their file: each with its sheets, its state and its own batch."""
    job = a_job("scan.zip", Status.COMPLETED, parts=4)
    text = shown(table(Snapshot(IDLE, (job,), ())))
    assert [f"part {n} of 4" in text for n in (1, 2, 3, 4)] == [True] * 4
    assert text.count("batch " + "b" * 32) == 4
    assert all(line == line.rstrip() for line in text.splitlines() if "batch" in line)
