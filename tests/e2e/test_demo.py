from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_demo_delivers_everything_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """`omrwatchd demo` ends with 0, all its checks good, and its folder gone."""
    result = subprocess.run(
        [sys.executable, "-m", "omrwatchd", "demo"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAILED" not in result.stdout
    assert "final-exam-2026.zip arrived whole" in result.stdout
    assert "cooldown" in result.stdout
    assert list(tmp_path.iterdir()) == []
