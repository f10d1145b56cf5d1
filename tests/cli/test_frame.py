from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from io import StringIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from omrwatchd.cli.changes import Changes
from omrwatchd.cli.frame import Frame
from omrwatchd.cli.pace import Pace
from omrwatchd.errors import Problem
from omrwatchd.model import Arriving, Job, Status, WorkerState
from omrwatchd.queue.views import Amount, Overview, WorkerView
from tests.cli.test_render import a_job

NOW = 1_795_000_000.0
MIB = 1024 * 1024
NONE = Amount(0, 0, 0)


def worker(state: WorkerState, **more: Any) -> WorkerView:
    known: dict[str, Any] = {
        "reason": None, "cooldown_left": 0.0, "heartbeat": NOW, "rate": None, "since": NOW - 75,
    }  # fmt: skip
    return WorkerView(state, **(known | more))


def jobs(status: Status, count: int, **more: Any) -> tuple[Job, ...]:
    names = ("Prüfung-日本語-" + "x" * 60 + ".zip", "a.zip")
    return tuple(replace(a_job(names[n % 2], status, **more), id=n + 1) for n in range(count))


def overview(state: WorkerView, **more: Any) -> Overview:
    known: dict[str, Any] = {
        "active": (), "waiting": (), "backlog": NONE, "ended": (), "ended_since": NONE, "arriving": (),
    }  # fmt: skip
    return Overview(worker=state, **(known | more))


def drawn(seen: Overview, width: int = 80, height: int = 24, pace: Pace | None = None) -> list[str]:
    pace = pace or Pace(5.0, NOW - 600)
    pace.see(seen, NOW)
    out = StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False, highlight=False)
    console.print(Frame(seen, pace, 5.0, NOW))
    return out.getvalue().splitlines()


def test_upload_shows_rate_and_time_left_for_the_file_and_for_all() -> None:
    """100 MiB of which 50 are sent, at 10 MiB/s, and 20 files behind it: both times are said."""
    [job] = jobs(Status.UPLOADING, 1, sent=80_000_000)
    seen = overview(
        worker(WorkerState.UPLOADING, rate=8_000_000.0),
        active=(job,),
        waiting=jobs(Status.PENDING, 20),
        backlog=Amount(20, 1_600_000_000, 0),
    )
    text = drawn(seen)
    assert text[0] == "omrwatchd uploading at 7.6 MiB/s"
    assert "21 of 21 files to go, 1.56 GiB, 5:10 min left" in text[1]  # 210 s and 20 pauses of 5 s
    assert "7.6 MiB/s, 10 s left" in text[5]
    assert "50%" in text[4]


def test_states_say_why_and_since_when() -> None:
    """A hold with its reason and time, a cooldown with its bar, the gate's wait, a pause, no daemon."""
    held = drawn(overview(worker(WorkerState.HELD, reason="The server can't be reached.")))
    assert re.fullmatch(r"omrwatchd held since \d\d:\d\d:\d\d \(1:15 min\)", held[0])
    assert "The server can't be reached. `omrwatchd resume` tries at once." in held[1]
    cooling = drawn(overview(worker(WorkerState.COOLDOWN, cooldown_left=2.5)))
    assert cooling[0] == "omrwatchd cooldown  ━━━━━━━━━━──────────  2.5 s until the next upload"
    gate = drawn(overview(worker(WorkerState.PROCESSING, reason="the server's OMR queue is busy")))
    assert "the server's OMR queue is busy" in " ".join(line.strip() for line in gate)
    assert "`omrwatchd resume` ends this" in drawn(overview(worker(WorkerState.PAUSED)))[0]
    assert "does not run" in drawn(overview(worker(WorkerState.STOPPED)))[0]


def parts_of(job: Job, *states: tuple[Status, str | None]) -> Job:
    made = zip(job.parts, states, strict=True)
    return replace(
        job, parts=tuple(replace(part, status=status, batch_id=batch) for part, (status, batch) in made)
    )


def test_split_file_says_which_part_and_what_is_delivered() -> None:
    """In the upload the part and the time with its pauses; in the cooldown and at the gate what is done."""
    [job] = jobs(Status.UPLOADING, 1, sent=80_000_000, parts=4)
    going = (Status.COMPLETED, "B1"), (Status.ERROR, None), (Status.UPLOADING, None), (Status.PENDING, None)
    seen = overview(worker(WorkerState.UPLOADING, rate=8_000_000.0), active=(parts_of(job, *going),))
    assert "part 3 of 4, 7.6 MiB/s, 20 s left" in "\n".join(drawn(seen))  # 10 s, and two pauses of 5 s
    assert "B1" not in "\n".join(drawn(seen))
    job = replace(job, status=Status.PROCESSING)
    two = (Status.COMPLETED, "B1"), (Status.COMPLETED, "B2"), (Status.PENDING, None), (Status.PENDING, None)
    cooling = overview(worker(WorkerState.COOLDOWN, cooldown_left=2.0), active=(parts_of(job, *two),))
    assert "2 of 4 parts are delivered, the next one follows the cooldown" in "\n".join(drawn(cooling))
    gate = worker(WorkerState.PROCESSING, reason="the server's OMR queue is busy")
    waits = "\n".join(drawn(overview(gate, active=(parts_of(job, *two),))))
    assert "2 of 4 parts are delivered, the server has not begun to process the last" in waits
    three = (Status.COMPLETED, "B1"), (Status.ERROR, None), (Status.UPLOADING, None), (Status.PENDING, None)
    first = "\n".join(drawn(overview(gate, active=(parts_of(job, *three),))))
    assert "1 of 4 parts is delivered" in first
    [one] = jobs(Status.PROCESSING, 1)
    assert "it is delivered, the server has not begun to process it" in "\n".join(
        drawn(overview(gate, active=(one,)))
    )


def test_time_left_counts_the_pause_after_each_batch() -> None:
    """Of a split file two parts are missing, and two files wait: three pauses of 5 s between four batches."""
    [job] = jobs(Status.UPLOADING, 1, sent=80_000_000, parts=4)
    job = parts_of(
        job, (Status.COMPLETED, "B1"), (Status.ERROR, None), (Status.UPLOADING, None), (Status.PENDING, None)
    )
    seen = overview(
        worker(WorkerState.UPLOADING, rate=8_000_000.0), active=(job,), backlog=Amount(2, 80_000_000, 0)
    )
    assert ", 35 s left" in drawn(seen)[1]  # 20 s for 160 MB


def test_pause_is_seen_whatever_else_goes_on() -> None:
    """Who has typed `pause` sees that it was heard: while a file is sent, in a cooldown, and in a hold."""
    active = jobs(Status.UPLOADING, 1)
    sending = drawn(overview(worker(WorkerState.UPLOADING, rate=1.0 * MIB, paused=True), active=active))
    assert sending[0] == "omrwatchd uploading at 1.0 MiB/s, paused after this file"
    held = drawn(overview(worker(WorkerState.HELD, reason="The server is away.", paused=True)))
    assert re.fullmatch(r"omrwatchd held since [0-9 :-]+ \(1:15 min\), and paused", held[0])
    cooling = worker(WorkerState.COOLDOWN, cooldown_left=12.0, paused=True)
    for more, words in ((active, "paused after this file"), ((), "then paused")):
        [line, *_] = drawn(overview(cooling, active=more))
        assert line.endswith(f"12.0 s, {words}")
    paused = drawn(overview(worker(WorkerState.PAUSED, paused=True)))
    assert paused[0].count("paused") == 1


def test_narrow_terminal_keeps_the_percent() -> None:
    """Where not all columns fit, the bar gives way and the number stays."""
    seen = overview(worker(WorkerState.UPLOADING), active=jobs(Status.UPLOADING, 1, sent=80_000_000))
    for width in (50, 54, 59, 60, 80):
        lines = drawn(seen, width)
        assert max(map(cell_len, lines)) <= width
        assert any(line.rstrip().endswith("50%") and "uploading" in line for line in lines[1:])


def test_finished_files_say_when() -> None:
    """The batch, or what went wrong, with the day and the minute."""
    [good] = jobs(Status.COMPLETED, 1)
    [bad] = jobs(Status.ERROR, 1, problem=Problem("refused", "The server said: no.", "Ask."))
    done = (replace(good, finished_at=NOW), replace(bad, finished_at=NOW))
    text = "\n".join(drawn(overview(worker(WorkerState.IDLE), ended=done)))
    day = datetime.fromtimestamp(NOW).strftime("%Y-%m-%d %H:%M")
    assert f"batch {'b' * 32}, {day}" in text
    assert f"The server said: no. Ask. ({day})" in text


def test_more_files_than_lines_are_counted() -> None:
    """Of a thousand files the active one, the next ones, and the number of the others are shown."""
    seen = overview(
        worker(WorkerState.UPLOADING),
        active=jobs(Status.UPLOADING, 1, sent=5),
        waiting=jobs(Status.PENDING, 100),
        backlog=Amount(1000, 10**9, 0),
        ended=jobs(Status.COMPLETED, 50),
    )
    text = drawn(seen)
    assert 22 <= len(text) <= 24
    shown = sum("pending" in line for line in text)
    assert shown > 3
    assert f"… and {1000 - shown} more that wait" in "\n".join(text)
    assert sum("completed" in line for line in text) > 1


@given(
    width=st.integers(60, 200),
    height=st.integers(8, 60),
    waiting=st.integers(0, 120),
    ended=st.integers(0, 60),
    arriving=st.integers(0, 9),
)
def test_a_picture_fits_its_terminal(
    width: int, height: int, waiting: int, ended: int, arriving: int
) -> None:
    """Whatever there is to show, no line is wider and no picture is higher than the terminal."""
    problem = Problem("refused", "The server said: " + "the task is closed " * 8, "Open it again.")
    seen = overview(
        worker(WorkerState.HELD, reason="The server can't be reached. " * 3),
        active=jobs(Status.UPLOADING, 1, sent=9, parts=4),
        waiting=jobs(Status.PENDING, min(100, waiting)),
        backlog=Amount(waiting, waiting * 10**8, 0),
        ended=jobs(Status.ERROR, ended, problem=problem),
        arriving=tuple(Arriving(f"{n}" * 50, n, "still growing " * 9) for n in range(arriving)),
    )
    text = drawn(seen, width, height)
    assert len(text) <= height
    assert max(map(cell_len, text)) <= width
    assert text[-1].startswith("q ends this")


def test_pipe_gets_a_line_for_each_change_and_none_twice() -> None:
    """First the state and how many wait; then each new file, each fifth of an upload, each end."""
    changes = Changes(NOW)
    idle = worker(WorkerState.UPLOADING)
    old, new = (replace(a_job(f"{n}.zip", Status.PENDING), id=id, created_at=at)
                for n, id, at in (("old", 1, NOW - 9), ("new", 2, NOW + 1)))  # fmt: skip
    first = overview(idle, waiting=(old,), backlog=Amount(1, 10 * MIB, 0))
    assert changes.lines(first) == ["omrwatchd uploading", "1 file to go, 10.0 MiB wait"]
    assert changes.lines(first) == []
    more = overview(idle, waiting=(old, new), backlog=Amount(2, 20 * MIB, 0))
    assert changes.lines(more) == ["pending new.zip (id 2, 80 sheets, 152.6 MiB)"]
    sent = [
        overview(idle, active=(replace(a_job("new.zip", Status.UPLOADING, sent=share), id=2),))
        for share in (70_000_000, 71_000_000, 100_000_000)
    ]
    said = [line for each in sent for line in changes.lines(each)]
    assert [line.rpartition(" MiB) ")[2] for line in said] == ["40 %", "60 %"]
    ended = replace(a_job("new.zip", Status.COMPLETED), id=2, delivered_at=9.0, finished_at=NOW + 5)
    assert changes.lines(overview(idle, ended=(ended,)))[0].endswith(f"in 8 s: batch {'b' * 32}")
