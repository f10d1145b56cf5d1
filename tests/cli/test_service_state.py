"""On a station that `make install` has set up, the commands are about the service's queue."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounts import needs_root

CONFIG = """
[server]
base_url = "http://127.0.0.1:1/api"
token = "t"
[[watch]]
drop = "/var/lib/drop"
"""
INSTALLED = """
for place in /etc /var/lib; do
    over={folder}$place
    mkdir -p $over
    mount -t tmpfs over $over
    mkdir $over/upper $over/work
    mount -t overlay -o lowerdir=$place,upperdir=$over/upper,workdir=$over/work overlay $place
done
mkdir -p /etc/omrwatchd /var/lib/omrwatchd /var/lib/drop
cp {folder}/config.toml /etc/omrwatchd/config.toml
unset STATE_DIRECTORY OMRWATCHD_CONFIG
"""
"""For a shell in a mount namespace of its own: nothing of it is left behind."""


@needs_root
@pytest.mark.parametrize(
    ("words", "queue"),
    [
        ("doctor", "/var/lib/omrwatchd/queue.db"),
        ("--config /etc/omrwatchd/config.toml doctor", "/var/lib/omrwatchd/queue.db"),
        ("--config {folder}/config.toml doctor", "{folder}/state/omrwatchd/queue.db"),
    ],
)
def test_commands_look_at_the_queue_of_their_configuration(tmp_path: Path, words: str, queue: str) -> None:
    """The service's configuration means the service's state folder; any other one the user's own."""
    (tmp_path / "config.toml").write_text(CONFIG)
    script = INSTALLED.format(folder=shlex.quote(str(tmp_path)))
    command = f"{sys.executable} -m omrwatchd {words.format(folder=tmp_path)}"
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-e", "-c", f"{script}\nXDG_STATE_HOME={tmp_path}/state {command}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert f"There is no queue {queue.format(folder=tmp_path)} yet" in done.stdout, done.stdout + done.stderr
