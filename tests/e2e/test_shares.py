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


def test_one_broken_watch_at_the_start_leaves_the_others_at_work(machine: Machine, tmp_path: Path) -> None:
    """One drop folder is missing, one read-only, one is good; each of the two works when it is mended."""
    good, late, locked = tmp_path / "good", tmp_path / "late", tmp_path / "locked"
    for station in (good, locked):
        (station / "drop").mkdir(parents=True)
    config = machine.folder / "config.toml"
    text = config.read_text()
    first = text.index("[[watch]]")
    watches = [
        f'[[watch]]\nname = "{place.name}"\ndrop = "{place}/drop"\nsettle_seconds = 0.5\n'
        for place in (late, locked, good)
    ]
    config.write_text(text[:first] + "".join(watches))
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", locked)
    with unmounted_at_the_end(locked):
        (locked / "drop").mkdir()
        write_zip(locked / "drop" / "locked.zip", seed=2)
        mount("-o", "remount,ro", locked)
        drain = machine.call("run", "--until-idle")  # it would wait for ever
        assert drain.returncode == 2
        assert drain.stderr.count("\n") == 4
        process = machine.start()
        write_zip(good / "drop" / "good.zip")
        machine.await_summary(1)
        lost = until(lambda: machine.log("drop_folder_lost")[1:] and machine.log("drop_folder_lost"))
        assert {event["watch"]: event["reason"] for event in lost} == {
            "late": "No such file or directory",
            "locked": f"{locked}/drop can't be written by this user",
        }
        assert len(machine.receiver.batches) == 1
        mount("-o", "remount,rw", locked)
        (late / "drop").mkdir(parents=True)
        write_zip(late / "drop" / "late.zip", seed=3)
        machine.await_summary(3)
        assert machine.stop(process) == 0
        for place in (good, late, locked):
            assert [file.name for file in (place / "done").iterdir()] == [f"{place.name}.zip"]
