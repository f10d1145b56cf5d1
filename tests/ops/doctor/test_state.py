"""The queue's database, the summary log, the disks, the kernel's limits, the metrics port."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from omrwatchd.clock import SystemClock
from omrwatchd.model import WorkerState
from omrwatchd.ops.doctor import Level
from omrwatchd.ops.doctor.machine import examine_inotify, metrics_port, space
from omrwatchd.ops.doctor.state import daemon, examine_queue
from omrwatchd.queue import schema
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.workers import WorkerRow
from tests.ops.doctor.conftest import TOKEN, Patient
from tests.ops.doctor.test_folders import mounted, needs_root


def made(file: Path) -> Path:
    open_database(file, create=True).dispose()
    return file


def test_sound_queue_is_told_with_its_version(tmp_path: Path) -> None:
    """A good database: nothing is changed, and no helper files are left lying about."""
    file = made(tmp_path / "queue.db")
    before = file.read_bytes()
    finding = examine_queue(file)
    assert finding.level is Level.OK
    assert schema.HEAD in finding.summary
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["queue.db"]


def test_queue_in_use_can_be_examined(tmp_path: Path) -> None:
    """A daemon's open transaction does not stand in the way."""
    engine = open_database(tmp_path / "queue.db", create=True)
    with engine.execution_options(writes=True).begin():
        assert examine_queue(tmp_path / "queue.db").level is Level.OK
    engine.dispose()


def test_file_that_is_no_database_fails(tmp_path: Path) -> None:
    """Something else in the queue's place is said in SQLite's words, with the way back."""
    (tmp_path / "queue.db").write_bytes(b"not a database at all" * 100)
    finding = examine_queue(tmp_path / "queue.db")
    assert finding.level is Level.FAIL
    assert "not a database" in finding.summary
    assert "backup" in finding.advice


def test_damaged_queue_fails(tmp_path: Path) -> None:
    """Pages overwritten in the middle of the file are found by the integrity check."""
    file = made(tmp_path / "queue.db")
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(os.urandom(3 * 4096))
    finding = examine_queue(file)
    assert finding.level is Level.FAIL
    assert "backup" in finding.advice


def test_queue_of_a_newer_version_fails(tmp_path: Path) -> None:
    """After a downgrade the doctor says so, before the daemon refuses to start."""
    file = made(tmp_path / "queue.db")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    finding = examine_queue(file)
    assert finding.level is Level.FAIL
    assert "newer version (9999)" in finding.summary


def test_broken_queue_leaves_the_other_checks_running(patient: Patient) -> None:
    """One thing that is broken hides none of the others."""
    (patient.folder / "state" / "queue.db").write_bytes(b"x" * 5000)
    found = patient.examine()
    assert found["queue"].level is Level.FAIL
    assert found["token_accepted"].level is Level.OK


def test_running_daemon_that_is_held_is_told_with_its_reason(tmp_path: Path) -> None:
    """Beside a running daemon the doctor says what that one is waiting for."""
    file = tmp_path / "queue.db"
    engine, quick = open_database(file, create=True), open_quick(file)
    assert daemon(file, SystemClock()).summary == "Not running."
    row = WorkerRow(engine, quick, SystemClock())
    row.register()
    row.show(WorkerState.HELD, reason="The server can't be reached.", job_id=None)
    finding = daemon(file, SystemClock())
    assert finding.level is Level.WARN
    assert "The server can't be reached." in finding.summary
    row.show(WorkerState.IDLE, reason=None, job_id=None)
    assert daemon(file, SystemClock()).summary == "Running: idle."
    quick.dispose()
    engine.dispose()


@needs_root
def test_full_disk_is_told_before_it_matters(patient: Patient) -> None:
    """8 MB left for the queue fail; the same for done/, which would take whole copies."""
    with mounted(patient.folder / "state"):
        found = patient.examine()
    assert found["space:state"].level is Level.FAIL
    assert "8 MiB" in found["space:state"].summary


@needs_root
def test_disk_without_inodes_is_told(patient: Patient) -> None:
    """Free bytes are no help when no file can be made."""
    with mounted(patient.drop, "nr_inodes=2"):
        (patient.drop / "last").touch()
        finding = space("space", patient.drop, fail_below=0, warn_below=0)
    assert finding.level is Level.FAIL
    assert "inodes" in finding.summary


def test_summary_log_that_can_not_be_written_fails(patient: Patient) -> None:
    """The record of what was delivered needs its place."""
    patient.sections["summary"] = {"path": patient.folder / "state"}
    finding = patient.examine()["summary"]
    assert finding.level is Level.FAIL
    assert "summary.path" in finding.summary


def test_inotify_limit_below_the_number_of_subfolders_warns(patient: Patient) -> None:
    """With more subfolders than watches some files would be noticed late: the command to run is given."""
    for number in range(20):
        (patient.drop / f"room-{number}").mkdir()
    patient.watch |= {"recursive": True, "observer": "hints"}
    limits = patient.folder / "state"
    (limits / "max_user_watches").write_text("20\n")
    (limits / "max_user_instances").write_text("128\n")
    finding = examine_inotify(patient.settings(), limits)
    assert finding.level is Level.WARN
    assert "21 folders" in finding.summary
    assert "sysctl" in finding.advice
    (limits / "max_user_watches").write_text("65536\n")
    assert examine_inotify(patient.settings(), limits).level is Level.OK


def test_taken_metrics_port_fails_unless_it_is_ours(patient: Patient) -> None:
    """A port that another program holds is told; a running daemon's own is not."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        assert metrics_port(listen, running=False).level is Level.FAIL
        assert metrics_port(listen, running=True).level is Level.OK
    assert metrics_port(listen, running=False).level is Level.OK


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_missing_alert_program_fails(patient: Patient) -> None:
    """As at the daemon's start, which it keeps from working; one that is there is good."""
    patient.sections["notify"] = {"command": ["/no/such/alert"]}
    assert patient.examine()["notify"].level is Level.FAIL
    patient.sections["notify"] = {"command": ["/bin/true", "x"]}
    assert patient.examine()["notify"].level is Level.OK
    patient.sections.clear()
    assert "notify" not in patient.examine()


def test_stuck_share_is_told_and_left_behind(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer costs seconds, not the whole examination."""
    frozen = patient.folder / "frozen"
    frozen.mkdir()
    image = patient.folder / "disk"
    with image.open("wb") as disk:
        disk.truncate(16 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(frozen)], check=False).returncode:
        pytest.skip("can't mount a loop device here")
    monkeypatch.setattr("omrwatchd.ops.doctor.PATIENCE_SECONDS", 1.0)
    try:
        (frozen / "drop").mkdir()
        patient.watch["drop"] = frozen / "drop"
        if subprocess.run(["fsfreeze", "--freeze", str(frozen)], check=False).returncode:
            pytest.skip("can't freeze a file system here")
        try:
            found = patient.examine()
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(frozen)], check=True)
        assert found["drop:default"].level is Level.FAIL
        assert "did not answer" in found["drop:default"].summary
        assert found["token_accepted"].level is Level.OK
    finally:
        subprocess.run(["umount", "--lazy", str(frozen)], check=True)


@pytest.mark.parametrize("where", ["examine_space", "examine_state", "examine_server"])
def test_check_that_breaks_is_a_failure_and_not_silence(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A fault in a check itself must not look like all is well; the others go on."""

    def breaks(*_what: object, **_how: object) -> None:
        raise ValueError(f"met something new, {TOKEN}")

    monkeypatch.setattr(f"omrwatchd.ops.doctor.{where}", breaks)
    found = patient.examine()
    [broken] = [finding for finding in found.values() if "itself failed" in finding.summary]
    assert broken.level is Level.FAIL
    assert "ValueError: met something new, ***" in broken.summary
    assert found["drop:default"].level is Level.OK
