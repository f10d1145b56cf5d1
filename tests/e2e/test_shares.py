"""The whole daemon while its drop folder's share comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Machine
from tests.mounts import mount, needs_root, unmount, unmounted_at_the_end
from tests.waiting import until
from tests.zips import write_zip

pytestmark = needs_root


@pytest.fixture
def server(machine: Machine) -> Iterator[Path]:
    """The folder that the share's server has; the station's drop folder is where it is mounted."""
    place = machine.folder / "server-of-files"
    place.mkdir()
    mount("--bind", place, machine.drop)
    with unmounted_at_the_end(machine.drop):
        yield place


def test_share_that_vanishes_and_returns_costs_no_file_anything(machine: Machine, server: Path) -> None:
    """Three files wait: while their share is away none is failed, the reason is told, and all go then."""
    process = machine.start()
    until(lambda: machine.call("pause").returncode == 0)
    until(lambda: machine.status()["worker"]["state"] == "paused")
    for number in range(3):
        write_zip(machine.drop / f"scan-{number}.zip", seed=number)
    until(lambda: len(machine.status()["jobs"]) == 3)
    unmount(machine.drop)
    machine.call("resume")
    until(lambda: "away" in str(machine.status()["worker"]["reason"]), 60, "the reason in status")
    assert machine.status()["worker"]["state"] == "held"
    assert [job["status"] for job in machine.status()["jobs"]] == ["pending"] * 3
    mount("--bind", server, machine.drop)
    machine.await_summary(3)
    machine.stop(process)
    assert machine.names("failed") == []
    assert machine.names("done") == ["scan-0.zip", "scan-1.zip", "scan-2.zip"]
    assert len(machine.receiver.batches) == 3


def test_daemon_that_starts_before_its_share_waits_for_it(machine: Machine, server: Path) -> None:
    """After a reboot with files in the queue and the file server late: each is delivered once, by itself."""
    process = machine.start()
    until(lambda: machine.call("pause").returncode == 0)
    until(lambda: machine.status()["worker"]["state"] == "paused")
    write_zip(machine.drop / "scan.zip")
    until(lambda: machine.status()["jobs"])
    machine.stop(process)
    unmount(machine.drop)
    process = machine.start()
    machine.call("resume")
    until(lambda: machine.log("drop_folder_lost"))
    until(lambda: machine.status()["worker"]["state"] == "held")
    mount("--bind", server, machine.drop)
    machine.await_summary(1)
    machine.stop(process)
    assert [line["status"] for line in machine.summary()] == ["completed"]
    assert machine.names("done") == ["scan.zip"]
