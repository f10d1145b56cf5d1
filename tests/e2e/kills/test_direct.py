"""SIGKILL at every step of what goes out in one request: delivered once or, in doubt, reviewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Machine
from tests.e2e.kills.conftest import Zygote
from tests.pictures import write_pictures
from tests.zips import sha256, write_zip

pytestmark = pytest.mark.timeout(600)


def contents(path: Path) -> list[tuple[str, str]]:
    """The name and SHA-256 of a file, or of each picture in a folder."""
    return [(each.name, sha256(each)) for each in (sorted(path.iterdir()) if path.is_dir() else [path])]


def drop_direct(machine: Machine, name: str, seed: int, pictures: int) -> list[tuple[str, str]]:
    """A new file, or a folder of pictures that two requests hold; what it contains."""
    if pictures == 0:
        return contents(write_zip(machine.drop / name, size=200_000, seed=seed))
    made = write_pictures(machine.folder / name, [f"{n:02}.jpg" for n in range(pictures)], size=600_000)
    made.rename(machine.drop / name)
    return contents(machine.drop / name)


@pytest.mark.parametrize(
    ("pictures", "other_disk"),
    [(0, False), (4, False), (4, True)],
    ids=["file", "pictures", "pictures to another disk"],
)
def test_direct_upload_killed_at_each_step(
    machine: Machine, zygote: Zygote, done: Callable[[bool], None], pictures: int, other_disk: bool
) -> None:
    """Once or, where the answer was lost, reviewed: it can't be looked up; never a second batch."""
    done(other_disk)
    watch = '\nupload_type = "images"\ntask_id = "7"' if pictures else ""
    machine.configure(settle=3, direct_limit="2MiB", cooldown=0.5, lookup="", watch=watch)
    reviewed = survived = 0
    for step in range(1, 200):
        name = f"room-{step:03}" if pictures else f"scan-{step:03}.zip"
        content = drop_direct(machine, name, step, pictures)
        zygote.start(kill_at=step)
        survived += zygote.ended() == 0
        zygote.start()
        assert zygote.ended() == 0
        made = [
            (file.name, file.sha256)
            for batch in machine.receiver.batches
            for file in batch.files
            if (file.name, file.sha256) in content
        ]
        [line] = [line for line in machine.summary() if line["name"] == name]
        if line["status"] == "completed":
            assert sorted(made) == content
            assert contents(machine.folder / "done" / name) == content
        else:
            assert line["error"]["code"] == "outcome_unknown"
            assert len(made) == len(set(made))
            assert contents(machine.folder / "failed" / name) == content
            reviewed += 1
        if survived == 2:
            break
    print(f"\nkilled at each of {step - survived} steps, {reviewed} to be reviewed")
    assert machine.receiver.duplicate_batches == []
    assert machine.names("drop") == []
    assert 0 < reviewed < 5 * max(1, pictures // 2)
