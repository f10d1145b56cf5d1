"""What people type, against a running daemon."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip


def test_added_file_comes_with_its_sidecar_and_is_delivered(machine: Machine) -> None:
    """`add` copies it in whole, with what was said of it; the original stays."""
    source = write_zip(machine.folder / "Prüfung.zip", sheets=4)
    before = sha256(source)
    process = machine.start()
    done = machine.call(
        "add", str(source), "--type", "zip_no_qr", "--task-id", "42", "--notes", 'Raum "3"', "--sheets", "4"
    )
    assert done.returncode == 0, done.stderr
    assert "copied into" in done.stdout
    machine.await_summary(1)
    [batch] = machine.receiver.batches
    assert (batch.upload_type, batch.task_id, batch.notes) == ("zip_no_qr", "42", 'Raum "3"')
    assert batch.sha256 == before == sha256(source)
    assert machine.names("done") == ["Prüfung.zip", "Prüfung.zip.toml"]
    assert machine.names("drop") == []
    assert machine.stop(process) == 0


def test_add_refuses_what_would_not_be_delivered(machine: Machine) -> None:
    """No ZIP, a taken name, an unknown watch: one sentence, nothing in the folder."""
    (machine.folder / "letter.zip").write_text("hello")
    good = write_zip(machine.folder / "good.zip")
    for words, said, code in (
        (("letter.zip",), "not a complete ZIP", 1),
        (("absent.zip",), "can't be read", 1),
        (("good.zip", "--sheets", "4"), "should hold 4 sheets, but there are 3", 1),
        (("good.zip", "--type", "zip_no_qr"), "needs a task number", 1),
        (("good.zip", "--type", "zip_qr"), "gives the upload_type 'zip_qr'", 1),
        (("good.pdf.zip.part",), "can't be read", 1),
        (("good.zip", "--watch", "other"), "no [[watch]] named", 2),
    ):
        done = machine.call("add", *(str(machine.folder / w) if w.endswith("zip") else w for w in words))
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert machine.names("drop") == []
    assert machine.call("add", "--move", str(good)).returncode == 0
    assert machine.names("drop") == ["good.zip"]
    assert not good.exists()
    again = machine.call("add", str(write_zip(good)))
    assert "is in" in again.stderr
    assert "already" in again.stderr


def test_several_files_are_added_each_by_itself(machine: Machine) -> None:
    """A bad one among them is named and fails the command; the others are taken, sidecars come along."""
    config = (machine.folder / "config.toml").read_text()
    (machine.folder / "config.toml").write_text(config + 'done_marker = "{name}.ready"\n')
    for name in ("a.zip", "b.zip"):
        write_zip(machine.folder / name)
    (machine.folder / "a.zip.json").write_text('{"task_id": 7, "notes": "room 12"}')
    (machine.folder / "bad.zip").write_bytes(b"PK\x05\x06")
    done = machine.call(
        "add", "--move", "--notes", "room 14", *(str(machine.folder / f"{n}.zip") for n in ("a", "bad", "b"))
    )
    assert done.returncode == 1
    assert "bad.zip is not a complete ZIP" in done.stderr
    assert done.stdout.count("is moved into") == 2
    assert sorted(path.name for path in machine.folder.glob("*.zip*")) == ["bad.zip"]
    assert machine.start("--until-idle").wait(30) == 0
    said = {batch.filename: (batch.task_id, batch.notes) for batch in machine.receiver.batches}
    assert said == {"a.zip": ("7", "room 14"), "b.zip": (None, "room 14")}
    assert machine.names("drop") == []
    again = machine.call("add", str(machine.folder / "done" / "a.zip"))
    assert (again.returncode, "was delivered before, as a.zip" in again.stderr) == (1, True)


def test_move_from_another_file_system(machine: Machine, other_file_system: Path) -> None:
    """It is copied, compared, and only then taken away there."""
    source = write_zip(other_file_system / "scan.zip", size=2 * MIB)
    before = sha256(source)
    assert "is moved into" in machine.call("add", "--move", str(source)).stdout
    assert not source.exists()
    assert sha256(machine.drop / "scan.zip") == before
    assert machine.names("drop") == ["scan.zip"]


def test_full_drop_folder_gets_nothing_half(machine: Machine) -> None:
    """No space: one sentence, neither ZIP nor sidecar nor a hidden rest, and what --move named stays."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", machine.drop], check=True)
    try:
        source = write_zip(machine.folder / "scan.zip", size=2 * MIB)
        for words in ((), ("--move",)):
            done = machine.call("add", *words, "--task-id", "7", str(source))
            assert (done.returncode, done.stderr.count("\n")) == (1, 1)
            assert "No space left on device" in done.stderr
            assert os.listdir(machine.drop) == []
            assert source.exists()
    finally:
        subprocess.run(["umount", machine.drop], check=True)


def test_killed_add_is_in_nobodys_way(machine: Machine) -> None:
    """The hidden rest of an `add` that was killed in mid-copy does not stop the next try."""
    source = write_zip(machine.folder / "scan.zip", size=2 * MIB)
    (machine.drop / ".scan.zip.part").write_bytes(b"half of it")
    done = machine.call("add", "--task-id", "7", str(source))
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(machine.drop)) == ["scan.zip", "scan.zip.toml"]
    assert sha256(machine.drop / "scan.zip") == sha256(source)
    again = machine.call("add", str(source))
    assert "scan.zip is in" in again.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_shows_any_name(machine: Machine, encoding: str) -> None:
    """A terminal that does not know a letter gets a question mark; a program gets the letter, escaped."""
    write_zip(machine.drop / "数学-Prüfung.zip")
    assert machine.start("--until-idle").wait(30) == 0
    spoken = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    for words in (
        ("status",),
        ("summary",),
        ("cancel", "1"),
        ("status", "--json"),
        ("summary", "--format", "json"),
    ):
        done = subprocess.run(machine.command(*words), capture_output=True, env=spoken, check=False)
        said = (done.stdout + done.stderr).decode(encoding)
        assert "Traceback" not in said
        assert done.returncode == (1 if words[0] == "cancel" else 0)
        if "json" in words[-1]:
            document = json.loads(said)
            assert document.get("jobs", [document])[0]["name"] == "数学-Prüfung.zip"
        else:
            assert "Pr" in said
            assert "fung.zip" in said


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """Memory, where the tests' own folder is on a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if os.stat(folder).st_dev == os.stat(tempfile.gettempdir()).st_dev:
            pytest.skip("there is no second file system")
        yield Path(folder)


def test_reset_empties_the_list_and_leaves_the_files(machine: Machine) -> None:
    """Files stay in the drop folder and are left alone; a changed one, and one tried again, are delivered."""
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "idle")
    machine.call("pause")
    for name in ("a.zip", "b.zip", "c.zip"):
        write_zip(machine.drop / name)
        until(lambda name=name: name in str(machine.status()["jobs"]))
    assert "3 files" in machine.call("reset", "--yes").stdout
    machine.call("resume")
    machine.await_summary(3)
    assert machine.names("drop") == ["a.zip", "b.zip", "c.zip"]
    assert machine.receiver.batches == []
    write_zip(machine.drop / "b.zip", seed=9, sheets=7)
    assert "queued again" in machine.call("retry", "1").stdout
    until(lambda: machine.names("done") == ["a.zip", "b.zip"], 30)
    assert machine.names("drop") == ["c.zip"]
    assert "left" not in machine.call("clear").stdout
    assert [job["name"] for job in machine.status()["jobs"]] == ["c.zip"]
    refused = machine.call("remove", "3")
    assert (refused.returncode, "drop folder" in refused.stderr) == (1, True)
    assert machine.stop(process) == 0
    assert machine.start("--until-idle").wait(30) == 0
    assert machine.names("drop") == ["c.zip"]


def test_safe_to_shred(machine: Machine) -> None:
    """Copies of what was delivered are named with their batch; one sheet more, and it is missing."""
    copies = machine.folder / "copies" / "deep"
    copies.mkdir(parents=True)
    for name in ("a.zip", "b.zip"):
        shutil.copy(write_zip(machine.drop / name), copies / f"copy-of-{name}")
    assert machine.start("--until-idle").wait(30) == 0
    done = machine.call("summary", "--verify", str(machine.folder / "copies"))
    assert done.returncode == 0
    assert "All 2 ZIPs with 6 sheets are delivered: safe to shred." in done.stdout
    write_zip(copies / "new.zip", sheets=1)
    (copies / "broken.zip").write_bytes(b"PK")
    os.symlink(copies / "copy-of-a.zip", copies / "link.zip")
    done = machine.call("summary", "--verify", str(machine.folder / "copies"))
    assert done.returncode == 1
    assert done.stdout.count("MISSING") == 3
    assert "3 of 5 ZIPs are NOT delivered" in done.stdout


def test_loose_pictures_and_what_only_waits_are_not_safe(machine: Machine) -> None:
    """Pictures that nobody delivered, a ZIP that still waits, a folder that can't be read: all are named."""
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "idle")
    machine.call("pause")
    write_zip(machine.drop / "waits.zip")
    until(lambda: machine.status()["jobs"])
    (machine.folder / "old").mkdir()
    (machine.folder / "old" / "page-1.jpg").write_bytes(b"picture")
    (machine.folder / "old" / "letter.txt").write_text("no scan")
    shutil.copy(machine.drop / "waits.zip", machine.folder / "old")
    done = machine.call("summary", "--verify", str(machine.folder / "old"))
    assert done.returncode == 1
    assert "MISSING  waits.zip: its delivery is not complete (id 1 is pending)" in done.stdout
    assert "MISSING  ./: its 1 sheets are in no delivered batch" in done.stdout
    machine.call("resume")
    machine.await_summary(1)
    (machine.folder / "old" / "page-1.jpg").unlink()
    done = machine.call("summary", "--verify", str(machine.folder / "old"))
    assert (done.returncode, "All 1 ZIPs" in done.stdout) == (0, True)
    (machine.folder / "empty").mkdir()
    assert machine.call("summary", "--verify", str(machine.folder / "empty")).returncode == 1
    assert machine.stop(process) == 0


def test_summary_opens_rightly_in_a_spreadsheet(machine: Machine) -> None:
    """Names that begin like formulas, with quotes and line breaks, are text; totals stand below the table."""
    write_zip(machine.drop / '=HYPERLINK("x").zip')
    write_zip(machine.drop / "zwei\nZeilen.zip")
    write_zip(machine.drop / 'Prüfung „A", 学.zip')
    (machine.drop / "bad.zip").write_text("no")
    machine.configure(give_up=1)
    assert machine.start("--until-idle").wait(30) == 0
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        machine.command("summary", "--format", "csv"), capture_output=True, env=plain, check=True
    )
    assert done.stdout.startswith("\ufeffid,name,".encode())
    assert done.stdout.count(b"\r\n") == done.stdout.count(b"\n") == 5
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8-sig"))))
    assert 'Prüfung „A", 学.zip' in {row["name"] for row in rows}
    assert {row["name"] for row in rows} >= {'\'=HYPERLINK("x").zip', "zwei\\nZeilen.zip"}
    assert {row["status"] for row in rows} == {"completed", "error"}
    table = machine.call("summary", "--since", "today").stdout
    assert "4 files: 3 delivered with 9 sheets" in table
    assert "1 failed" in table
    lines = machine.call("summary", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines].count("completed") == 3
    assert "0 files" in machine.call("summary", "--since", "2099-01-01").stdout
    assert machine.call("summary", "--since", "yesterweek").returncode == 2


def test_watch_in_a_pipe_prints_plain_lines(machine: Machine) -> None:
    """Over ssh in a pipe: a line a change, no control characters, ended by a signal."""
    machine.receiver.add_fault(Fault(match="chunk", chunk_index=2, action="delay", seconds=2))
    process = machine.start()
    watching = subprocess.Popen(
        machine.command("status", "--watch"), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    write_zip(machine.drop / "scan.zip", size=4 * MIB)
    machine.await_summary(1)
    assert watching.stdout is not None
    lines: list[str] = []
    while not any("completed scan.zip" in line for line in lines):
        lines.append(watching.stdout.readline())
    watching.send_signal(signal.SIGINT)
    assert watching.wait(5) == 0
    watching.stdout.close()
    assert any("uploading scan.zip" in line for line in lines)
    assert "\x1b" not in "".join(lines)
    assert machine.stop(process) == 0
