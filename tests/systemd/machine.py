"""A booted Debian: systemd as process 1, no network but loopback, and nothing of it stays."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import until

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "COLUMNS": "110",
    "SYSTEMD_PAGER": "",
    "HOME": "/root",
}
"""Of root's shell there; nothing of this machine's."""


NAME, ADMIN, SOURCES = "scan1", "admin", "/home/admin/omrwatchd"


class Machine:
    """Commands and files of a running container."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    @property
    def root(self) -> Path:
        """Its file system, as seen from here."""
        return Path(f"/proc/{self._leader}/root")

    @property
    def state(self) -> str:
        return self.try_("systemctl is-system-running").stdout.strip()

    def try_(self, command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A line for root's shell there."""
        enter = ["nsenter", f"--target={self._leader}", "--all", "--root", "--wd", "--"]
        return subprocess.run(
            [*enter, "bash", "-o", "pipefail", "-c", command],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip

    def run(self, command: str, timeout: float = 120) -> str:
        """The same, which must succeed; its standard output."""
        done = self.try_(command, timeout)
        if done.returncode != 0:
            told = self.try_("journalctl --sync; journalctl -q -n 30 -o cat").stdout
            raise AssertionError(
                f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{told}"
            )
        return done.stdout

    def as_admin(self, command: str, timeout: float = 120) -> str:
        """The same by somebody who may sudo, in a folder with the sources and the wheels."""
        quoted = shlex.quote(f"cd {SOURCES} && {command}")
        return self.run(f"runuser -u {ADMIN} -- bash -o pipefail -c {quoted}", timeout)

    def settle_in(self) -> None:
        """Its name, and that user; pip finds its packages in the wheels, for there is no network."""
        self.run(f"hostname {NAME} && echo 127.0.1.1 {NAME} >>/etc/hosts")
        self.run(f"useradd --create-home --groups sudo {ADMIN} && mkdir {SOURCES}")
        self.write("/etc/sudoers.d/admin", f"{ADMIN} ALL=(ALL) NOPASSWD: ALL\n")
        self.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /wheels\n")
        needed = "Makefile README.md LICENSE pyproject.toml config.example.toml deploy docs omrwatchd"
        self.run(f"cd /source && cp -R {needed} {SOURCES} && ln -s /wheels {SOURCES}/wheels")
        self.run(f"chown -R {ADMIN}: {SOURCES}")

    def write(self, path: str, text: str) -> None:
        """Into a file that stays the same, with its owner and rights; a new one is root's."""
        self.run(f"mkdir -p {Path(path).parent}")
        (self.root / path.lstrip("/")).write_text(text, encoding="utf-8")

    def seconds(self, command: str) -> float:
        """How long it takes; it must succeed."""
        began = time.monotonic()
        self.run(command)
        return time.monotonic() - began


@contextlib.contextmanager
def booted(tree: Path, log: Path, **binds: Path) -> Iterator[Machine]:
    """A machine on this tree, which is not changed; ``binds`` are seen there as /NAME, to read."""
    shares = [f"--bind-ro={path}:/{name}" for name, path in binds.items()]
    # the overlay is in memory and in the container's own mount namespace, so it ends with its last process;
    # and the container ends when this process does, however that comes about
    command = [
        "setpriv", "--pdeathsig", "TERM",
        "systemd-nspawn", "--quiet", "--settings=no", f"--directory={tree}", "--volatile=overlay", "--boot",
        "--machine=omrwatchd-test", f"--hostname={NAME}", "--register=no", "--keep-unit", "--private-network",
        "--console=pipe", *shares,
    ]  # fmt: skip
    with log.open("wb") as output:
        container = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        machine = Machine(until(lambda: _leader(container, log), what="the container's first process"))
        until(lambda: machine.state in ("running", "degraded"), 60, f"the boot ({log})")
        assert machine.state == "running", machine.run("systemctl --failed --no-legend")
        yield machine
    finally:
        container.terminate()  # is an orderly shutdown there
        try:
            container.wait(30)
        except subprocess.TimeoutExpired:
            container.kill()
            container.wait(30)


def _leader(container: subprocess.Popen[bytes], log: Path) -> int | None:
    """The container's process 1; before it there is for a moment a child that only prepares its mounts."""
    assert container.poll() is None, f"systemd-nspawn ended:\n{log.read_text(errors='replace')}"
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    with contextlib.suppress(FileNotFoundError):
        return next((int(child) for child in children if _command(child) == "systemd"), None)
    return None


def _command(process: str) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()
