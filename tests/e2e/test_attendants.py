"""The daemon with everything that ops asked for, as a process."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from pathlib import Path

from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import write_zip


def with_sections(machine: Machine, text: str) -> None:
    config = machine.folder / "config.toml"
    config.write_text(config.read_text() + text)


def alert_program(folder: Path) -> Path:
    program = folder / "alert.sh"
    program.write_text(f"#!/bin/sh\ncat >> {folder}/told.jsonl\n")
    program.chmod(0o755)
    return program


def test_metrics_notifications_and_retention_work_together(machine: Machine) -> None:
    """One file delivered, one refused: both are counted, the refusal is told; a start deletes nothing."""
    program = alert_program(machine.folder)
    with_sections(
        machine,
        f'[metrics]\nlisten = "127.0.0.1:0"\n[notify]\ncommand = ["{program}"]\n'
        "[retention]\ndone_days = 1e-6\n",
    )
    process = machine.start()
    [served] = until(lambda: machine.log("metrics_served"))
    write_zip(machine.drop / "good.zip", sheets=4)
    machine.await_summary(1)
    write_zip(machine.drop / "good-again.zip", sheets=0)
    machine.await_summary(2)
    with urllib.request.urlopen(f"http://{served['address']}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    assert "omrwatchd_delivered_sheets_total 4.0" in text
    assert 'omrwatchd_files_failed_total{code="no_sheets"} 1.0' in text
    assert 'omrwatchd_queue_files{status="completed"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    told = until(lambda: (machine.folder / "told.jsonl").exists() and (machine.folder / "told.jsonl"))
    assert json.loads(until(told.read_text))["event"] == "file_refused"
    assert machine.stop(process) == 0
    again = machine.start()
    until(lambda: len(machine.log("metrics_served")) == 2)
    assert machine.stop(again) == 0
    assert machine.names("done") == ["good.zip"]  # retention waits for ten minutes of a steady clock


def test_taken_metrics_port_ends_the_start(machine: Machine) -> None:
    """One sentence that names the setting, exit code 1, no traceback; the queue is free afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        with_sections(machine, f'[metrics]\nlisten = "127.0.0.1:{other.getsockname()[1]}"\n')
        done = machine.call("run")
    assert done.returncode == 1
    assert "metrics.listen 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert machine.start("--until-idle").wait(30) == 0


def test_missing_alert_program_is_told_before_the_start(machine: Machine) -> None:
    """A notify.command that can't be run is said at once, not in the night when it is needed."""
    with_sections(machine, '[notify]\ncommand = ["/no/such/alert"]\n')
    done = machine.call("run")
    assert done.returncode == 2
    assert "notify.command /no/such/alert is no program" in done.stderr


def test_drain_waits_for_its_notifications(machine: Machine) -> None:
    """`run --until-idle`, as cron uses it, ends only when what failed has been told."""
    program = machine.folder / "alert.sh"
    program.write_text(f"#!/bin/sh\nsleep 1\ncat >> {machine.folder}/told.jsonl\n")
    program.chmod(0o755)
    with_sections(machine, f'[notify]\ncommand = ["{program}"]\n')
    write_zip(machine.drop / "empty.zip", sheets=0)
    assert machine.start("--until-idle").wait(30) == 0
    assert json.loads((machine.folder / "told.jsonl").read_text())["code"] == "no_sheets"
    assert os.listdir(machine.folder / "failed")


def test_drain_that_waits_for_a_notification_can_be_ended(machine: Machine) -> None:
    """A command that hangs does not keep a drain that is told to stop; what was not told is logged."""
    program = machine.folder / "alert.sh"
    program.write_text(f"#!/bin/sh\ntouch {machine.folder}/hangs\nexec sleep 600\n")
    program.chmod(0o755)
    with_sections(machine, f'[notify]\ncommand = ["{program}"]\ntimeout_seconds = 600\n')
    write_zip(machine.drop / "empty.zip", sheets=0)
    process = machine.start("--until-idle")
    until(lambda: machine.log("daemon_stopping") and (machine.folder / "hangs").exists())
    assert machine.stop(process) == 0
    [failed] = machine.log("notify_failed")
    assert failed["reason"] == "it was still running when the daemon was stopped"
