"""`omrwatchd doctor` as it is typed."""

from __future__ import annotations

import json
import os

import pytest

from tests.ops.doctor.conftest import Patient, patient

__all__ = ["patient"]


def test_station_in_order_exits_0(patient: Patient) -> None:
    """Each check is a line with its level; the last one counts them."""
    patient.configure()
    done = patient.call("doctor", "--upload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   token_accepted" in done.stdout
    assert "ok   upload_size" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" 0 failed")


def test_failure_exits_1_with_its_advice(patient: Patient) -> None:
    """Scripts can rely on the exit code, people on the line below the failure."""
    patient.configure()
    patient.drop.rmdir()
    done = patient.call("doctor")
    assert done.returncode == 1
    failed = next(n for n, line in enumerate(done.stdout.splitlines()) if line.startswith("fail"))
    assert "mount the share" in done.stdout.splitlines()[failed + 1]
    assert done.stderr == ""


def test_json_is_a_list_of_objects(patient: Patient) -> None:
    """For monitoring: name, level, summary and advice of each check."""
    patient.configure()
    (patient.folder / "token").write_text("wrong-token")
    done = patient.call("doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 1
    assert all(set(finding) == {"name", "level", "summary", "advice"} for finding in findings)
    assert {finding["level"] for finding in findings} <= {"ok", "warn", "fail"}
    assert [f["name"] for f in findings if f["level"] == "fail"] == ["token_accepted"]
    assert "wrong-token" not in done.stdout


def test_json_keeps_letters_that_the_output_does_not_know(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's name is the same in whatever encoding a monitoring system runs it."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    patient.configure(f'done = "{patient.folder}/pr\u00fcfung"\n')
    found = {finding["name"]: finding for finding in json.loads(patient.call("doctor", "--json").stdout)}
    assert f"{patient.folder}/pr\u00fcfung" in found["done:default"]["summary"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_root_is_told_to_look_as_the_service_user(patient: Patient) -> None:
    """Root may do everything, so its own findings about rights are worth little."""
    patient.configure()
    assert "--user omrwatchd" in patient.call("doctor").stdout
    assert "rights of nobody" in patient.call("doctor", "--user", "nobody").stdout


def test_unknown_user_is_a_usage_error(patient: Patient) -> None:
    """A name that is mistyped ends with 2 and a sentence."""
    patient.configure()
    done = patient.call("doctor", "--user", "no-such-user-here")
    assert done.returncode == 2
    assert "no user 'no-such-user-here'" in done.stderr
    assert "Traceback" not in done.stderr
