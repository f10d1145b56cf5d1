"""What `make test-systemd` needs of this machine; it installs nothing itself."""

from __future__ import annotations

import os
import shutil
import sys

PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "apt-get": "apt",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
"""And the Debian package that each comes in."""


def what_is_missing() -> str:
    """One sentence; empty when all is there."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    needs = []
    if os.geteuid() != 0:
        needs.append("root (sudo make test-systemd)")
    if missing:
        needs.append(f"the packages {' '.join(missing)} (apt-get install {' '.join(missing)})")
    return f"The test with a real systemd needs {' and '.join(needs)}." if needs else ""


if __name__ == "__main__":
    sys.exit(what_is_missing() or 0)
