from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parent.parent.parent / "deploy" / "systemd"
UNIT = "omrwatchd.service"
HIGHEST_EXPOSURE = 1.2

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (package systemd)"
)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


def in_place(folder: Path, *drop_ins: str) -> Path:
    """The unit with drop-ins, as installed; a program that exists stands for ours, which does not here."""
    text = (SYSTEMD / UNIT).read_text().replace("/opt/omrwatchd/bin/omrwatchd", "/bin/true")
    unit = folder / UNIT
    unit.write_text(text)
    for name in drop_ins:
        place = folder / f"{UNIT}.d" / Path(name).name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(SYSTEMD / name, place)
    return unit


def systemd_version() -> int:
    found = re.search(r"systemd (\d+)", analyze("--version").stdout)
    return int(found[1]) if found else 0


@needs_analyze
@pytest.mark.parametrize("drop_in", [None, "examples/folders.conf", "examples/share.conf", "backoff.conf"])
def test_unit_and_its_drop_ins_are_valid(tmp_path: Path, drop_in: str | None) -> None:
    """systemd has nothing to say about the unit: no unknown key, no bad value."""
    if drop_in == "backoff.conf" and systemd_version() < 254:
        pytest.skip("RestartSteps= is known to systemd from version 254 on")
    unit = in_place(tmp_path, *([drop_in] if drop_in else []))
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@needs_analyze
def test_unit_exposes_next_to_nothing(tmp_path: Path) -> None:
    """systemd's own rating of the sandbox is at most 1.2 of 10, with the folders' drop-in as well."""
    for drop_ins in ((), ("examples/folders.conf",)):
        unit = in_place(tmp_path, *drop_ins)
        limit = f"--threshold={round(HIGHEST_EXPOSURE * 10)}"
        done = analyze("security", "--offline=true", "--no-pager", limit, str(unit))
        assert done.returncode == 0, done.stdout[-300:]
        found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
        assert found, done.stdout[-300:]
        assert float(found[1]) <= HIGHEST_EXPOSURE


def test_scan_folders_are_one_entry() -> None:
    """Two sibling entries would be two mounts, and each rename to done/ a copy of gigabytes."""
    for example in ("folders.conf", "share.conf"):
        text = (SYSTEMD / "examples" / example).read_text()
        assert re.findall(r"^ReadWritePaths=(.*)$", text, re.MULTILINE) == ["/srv/scans"]
