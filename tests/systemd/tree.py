"""A Debian of its own, made once by debootstrap, and the wheels that the product needs in it; both are kept.

Everything comes from where this machine itself has its packages from: its apt's mirror, its pip's index.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = (
    "ca-certificates", "curl", "dbus", "jq", "logrotate", "make", "msmtp-mta", "procps",
    "python3-venv", "samba", "smbclient", "sqlite3", "sudo", "systemd-sysv",
)  # fmt: skip
NEVER = ("nmbd", "samba-ad-dc")
"""Services that are not started: nmbd waits for a network for ever."""
RELEASE = "trixie"
"""Of Debian, where it runs here: its systemd (257) knows all that deploy/ uses. SUITE names another one."""
SOURCE_ONLY = ("sdnotify",)
"""Has no wheel on the index: made here, in plain Python, so it fits the tree's Python as well."""


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base, "omrwatchd-systemd")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def debian() -> Path:
    """The tree; made when it is not there yet (a minute or two)."""
    suite, mirror = _suite(), _mirror()
    tree = cache() / f"{suite}-{_digest(' '.join(PACKAGES + NEVER))}"
    if tree.is_dir():
        return tree
    unfinished = tree.with_suffix(".new")
    _remove(unfinished)
    # what debootstrap mounts is gone with the namespace, and its processes with it, however this ends
    private = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    wanted = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
    _call([*private, "debootstrap", *wanted, suite, str(unfinished), mirror])
    _call(["systemctl", f"--root={unfinished}", "--quiet", "mask", *NEVER])
    unfinished.rename(tree)
    return tree


def _suite() -> str:
    """$SUITE, else the newest release that this machine's mirror is sure to have."""
    here = platform.freedesktop_os_release()
    return os.environ.get("SUITE") or (RELEASE if here["ID"] == "debian" else here["VERSION_CODENAME"])


def _mirror() -> str:
    """Where apt here has its main packages from; a mirror has all releases."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = _call(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT) $(REPO_URI)"])
    for line in targets.splitlines():
        words = line.split()
        if len(words) == 4 and words[1:3] == [own, "main"]:
            return words[3]
    raise RuntimeError(f"apt knows no mirror of {own or 'this release'}: run apt-get update.")


def wheels(tree: Path) -> Path:
    """A folder with all that `pip install` of the product and its extra `demo` asks for, in the tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = sorted([
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["demo"],
        *project["build-system"]["requires"],
    ])  # fmt: skip
    version = _call(
        ["chroot", str(tree), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    )
    folder = cache() / f"wheels-{version.strip()}-{_digest(' '.join(wanted))}"
    if folder.is_dir():
        return folder
    unfinished = folder.with_suffix(".new")
    _remove(unfinished)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _call([*pip, "wheel", "--no-deps", "--wheel-dir", str(unfinished), *SOURCE_ONLY])
    _call([
        *pip, "download", "--only-binary=:all:", "--python-version", version.strip(),
        "--find-links", str(unfinished), "--dest", str(unfinished), *wanted,
    ])  # fmt: skip
    unfinished.rename(folder)
    return folder


def _remove(unfinished: Path) -> None:
    """What an interrupted run left; nothing of it is mounted any more."""
    if unfinished.exists():
        shutil.rmtree(unfinished)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
