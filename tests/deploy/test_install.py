"""`make install`, `make uninstall`: nothing but their own is touched. With DESTDIR, which needs no root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.ops.documents import ROOT


def run(action: str, destination: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DESTDIR": str(destination), "SYSTEM_PYTHON": "/bin/false"} | variables
    command = ["sh", str(ROOT / "deploy" / "install.sh"), action]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("action", ["install", "uninstall"])
@pytest.mark.parametrize("prefix", ["/usr/local", "/", "opt/omrwatchd"])
def test_folder_that_is_not_ours_alone_is_refused(tmp_path: Path, action: str, prefix: str) -> None:
    """PREFIX=/usr/local, as other programs take it, would have made an uninstall delete all that is there."""
    others = tmp_path / "usr" / "local" / "bin" / "others"
    others.parent.mkdir(parents=True)
    others.write_text("precious")
    done = run(action, tmp_path, PREFIX=prefix)
    assert done.returncode == 1
    assert "PREFIX" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [others]


def test_uninstall_leaves_configuration_state_and_what_others_put_beside(tmp_path: Path) -> None:
    """The program and the service's files go, and nothing else."""
    kept = ["etc/omrwatchd/config.toml", "var/lib/omrwatchd/queue.db", "usr/local/bin/others", "opt/others/x"]
    units = "usr/local/lib/systemd/system"
    gone = [
        "opt/omrwatchd/share/doc/omrwatchd/README.md",
        "opt/omrwatchd/bin/omrwatchd",
        f"{units}/omrwatchd.service",
        f"{units}/omrwatchd.service.d/backoff.conf",
        "usr/lib/sysusers.d/omrwatchd.conf",
        "usr/lib/tmpfiles.d/omrwatchd.conf",
    ]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for _ in range(2):
        done = run("uninstall", tmp_path)
        assert done.returncode == 0, done.stderr
        left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
        assert sorted(left) == sorted(kept)
