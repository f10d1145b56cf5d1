"""Drop folders: rights, moves, mounts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omrwatchd.intake.mounts import Mount
from omrwatchd.intake.scan import is_ignored, is_wanted
from omrwatchd.ops.doctor import Level
from omrwatchd.ops.doctor.folders import noticing, share_clock, unmounted
from omrwatchd.settings import Watch
from tests.ops.doctor.conftest import Patient
from tests.zips import write_zip

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount or to own files as others")


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own at ``folder``."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=8m", *options)), "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_station_in_order_has_no_failure(patient: Patient) -> None:
    """A station where all is well: nothing fails, and the trials leave nothing behind."""
    found = patient.examine(upload=True)
    assert [finding for finding in found.values() if finding.level is Level.FAIL] == []
    assert {"drop:default", "done:default", "rights:default", "queue", "token_accepted", "api"} <= set(found)
    for name in ("drop", "done", "failed", "state"):
        assert os.listdir(patient.folder / name) == []


def test_trial_file_is_none_that_intake_takes(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is ignored, the daemon beside it takes a trial file for nothing to deliver."""
    names: list[str] = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (names.extend((str(a), str(b))), rename(a, b))[1])
    patient.examine()
    assert names
    for name in (os.path.basename(name).encode() for name in names):
        assert not is_wanted(name, ())
        assert is_ignored(name, Watch(drop=Path("/srv")).ignore)


def test_missing_drop_folder_fails(patient: Patient) -> None:
    """A folder that is not there is named, with what to do."""
    patient.drop.rmdir()
    finding = patient.examine()["drop:default"]
    assert finding.level is Level.FAIL
    assert str(patient.drop) in finding.summary
    assert "mount" in finding.advice


def test_folder_that_this_user_may_not_write_fails(patient: Patient) -> None:
    """With a user's own rights, a folder that is read-only for it fails, and so does filing from there."""
    patient.drop.chmod(0o555)
    patient.configure()
    found = patient.examine_as_other_user()
    assert found["drop:default"]["level"] == "fail"
    assert "Permission denied" in found["drop:default"]["summary"]
    assert found["done:default"]["level"] == "fail"


def test_target_folder_that_is_not_there_yet_is_fine(patient: Patient) -> None:
    """The daemon makes done/ itself: what counts is whether it may."""
    (patient.folder / "done").rmdir()
    finding = patient.examine()["done:default"]
    assert finding.level is Level.OK
    assert "will be made" in finding.summary
    assert not (patient.folder / "done").exists()


@needs_root
def test_read_only_file_system_fails(patient: Patient) -> None:
    """A share mounted read-only is told in the system's words, also to root."""
    with mounted(patient.drop, "ro"):
        finding = patient.examine()["drop:default"]
    assert finding.level is Level.FAIL
    assert "Read-only file system" in finding.summary


@needs_root
def test_other_file_system_is_a_warning(patient: Patient) -> None:
    """done/ on a disk of its own works, but moves are copies."""
    with mounted(patient.folder / "done"):
        found = patient.examine()
    assert found["done:default"].level is Level.WARN
    assert "copies" in found["done:default"].advice
    assert "ReadWritePaths" not in found["done:default"].advice
    assert found["failed:default"].level is Level.OK


@needs_root
def test_two_mounts_of_one_file_system_are_told_apart(patient: Patient) -> None:
    """Sibling ReadWritePaths= entries look like this: one disk, and still no rename between them."""
    done = patient.folder / "done"
    subprocess.run(["mount", "--bind", str(done), str(done)], check=True)
    try:
        finding = patient.examine()["done:default"]
    finally:
        subprocess.run(["umount", str(done)], check=True)
    assert finding.level is Level.WARN
    assert "ReadWritePaths" in finding.advice


@needs_root
def test_file_that_only_its_scanner_may_read_fails(patient: Patient) -> None:
    """A scan with mode 0600 of another user would never be delivered: it is named with its owner."""
    scan = write_zip(patient.drop / "scan.zip")
    scan.chmod(0o600)
    patient.configure()
    finding = patient.examine_as_other_user()["rights:default"]
    assert finding["level"] == "fail"
    assert "scan.zip can't be read" in finding["summary"]
    assert "owned by root, mode 0600" in finding["summary"]


@needs_root
def test_sticky_folder_keeps_others_files(patient: Patient) -> None:
    """In a folder with the sticky bit scans of others can't be moved to done/: told before and after."""
    patient.drop.chmod(0o1777)
    patient.configure()
    finding = patient.examine_as_other_user()["rights:default"]
    assert finding["level"] == "warn"
    write_zip(patient.drop / "scan.zip").chmod(0o644)
    finding = patient.examine_as_other_user()["rights:default"]
    assert finding["level"] == "fail"
    assert "sticky bit" in finding["summary"]
    assert "chmod -t" in finding["advice"]


@needs_root
def test_picture_folder_that_can_not_be_moved_fails(patient: Patient) -> None:
    """A folder of pictures is moved whole, which needs the right to write it."""
    (patient.drop / "room-12").mkdir()
    (patient.drop / "room-12" / "a.jpg").write_bytes(b"x")
    patient.configure('upload_type = "images"\ntask_id = "1"\n')
    finding = patient.examine_as_other_user()["rights:default"]
    assert finding["level"] == "fail"
    assert "room-12" in finding["summary"]


def test_share_that_fstab_lists_but_is_not_mounted_fails() -> None:
    """An empty mount point is not mistaken for an empty share."""
    watch = Watch(drop=Path("/srv/scan share/drop"))
    table = "# comment\nUUID=1 / ext4 defaults 0 1\n//nas/scans /srv/scan\\040share cifs ro 0 0\n"
    [finding] = unmounted(watch, Mount("ext4", "8:1", b"/"), table)
    assert finding.level is Level.FAIL
    assert "/srv/scan share" in finding.summary
    assert not list(unmounted(watch, Mount("cifs", "0:40", b"/srv/scan share"), table))


@pytest.mark.parametrize(
    ("kind", "observer", "level", "words"),
    [
        ("ext4", "auto", "ok", "at once, and it counts as finished when it has not changed for 5 s"),
        ("cifs", "auto", "ok", "looked at every 5 s; it counts as finished when it has not changed for 10 s"),
        ("nfs4", "hints", "warn", "does not tell"),
        ("xfs", "rescan", "ok", "looked at every 5 s"),
    ],
)
def test_kind_of_file_system_says_how_soon_files_are_noticed(
    kind: str, observer: str, level: str, words: str
) -> None:
    """Ops see from the mount what to expect, and a setting that does not fit it."""
    watch = Watch(drop=Path("/srv/drop"), observer=observer)
    finding = noticing(watch, Mount(kind, "8:1", b"/srv"))
    assert finding.level == level
    assert words in finding.summary


def test_clock_of_a_share_is_compared() -> None:
    """Ten minutes between the share's clock and ours are told, a slow answer is none."""
    watch = Watch(drop=Path("/srv/drop"))
    assert share_clock(watch, 1000.0, 990.0, 1050.0).level is Level.OK
    ahead = share_clock(watch, 1650.0, 990.0, 1050.0)
    assert ahead.level is Level.WARN
    assert "600 s ahead" in ahead.summary


@needs_root
def test_name_of_a_folder_that_can_not_be_read_is_no_word_to_the_terminal(patient: Patient) -> None:
    """Scanners' users choose it: what in it would move the cursor is shown as an escape."""
    patient.configure("recursive = true\n")
    (patient.drop / "\x1b[2Jgone\n").mkdir(mode=0o700)
    found = patient.examine_as_other_user()["rights:default"]
    assert found["level"] == "fail"
    assert "\\x1b[2Jgone\\n: Permission denied" in found["summary"]


def test_drop_folders_that_are_one_by_a_link_fail(patient: Patient) -> None:
    """As at the daemon's start, which it keeps from working."""
    (patient.folder / "link").symlink_to(patient.drop)
    patient.configure(f'[[watch]]\nname = "b"\ndrop = "{patient.folder}/link"\n')
    findings = json.loads(patient.call("doctor", "--json").stdout)
    [found] = [each for each in findings if each["name"] == "watches"]
    assert found["level"] == "fail"
    assert "are one folder" in found["summary"]
