"""A folder of pictures, by the whole product."""

from __future__ import annotations

import os
import shutil

from tests.e2e.conftest import Machine
from tests.pictures import write_pictures


def test_folder_of_pictures_is_delivered_and_moved(machine: Machine) -> None:
    """Copied in picture by picture, it is one batch of its pictures, and lies whole in done/."""
    config = machine.folder / "config.toml"
    config.write_text(config.read_text() + 'upload_type = "images"\ntask_id = "7"\n')
    source = write_pictures(machine.folder / "Klasse 7b", [f"{n:02}.jpg" for n in range(5)])
    names = sorted(os.listdir(source))
    process = machine.start("--until-idle")
    shutil.copytree(source, machine.drop / "Klasse 7b")
    assert process.wait(60) == 0
    [batch] = machine.receiver.batches
    assert (batch.upload_type, batch.task_id) == ("images", "7")
    assert sorted(file.name for file in batch.files) == names
    assert sorted(os.listdir(machine.folder / "done" / "Klasse 7b")) == names
    assert machine.names("drop") == []
    [line] = machine.summary()
    assert (line["status"], line["sheets"]) == ("completed", len(names))
