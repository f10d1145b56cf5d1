"""A scanner station in the booted machine: its service, its folders, and a reference server on loopback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.systemd.machine import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip

TOKEN = "t0ken-of-the-systemd-test"
CONFIG = "/etc/omrwatchd/config.toml"
SERVER = "http://127.0.0.1:8099"
MB = 1_000_000


class Station:
    """What an operator and a scanner do, and what they see."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.hashes: dict[str, str] = {}

    # the service

    def show(self, *properties: str) -> dict[str, str]:
        text = self.machine.run(f"systemctl show omrwatchd -p {','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    @property
    def pid(self) -> int:
        return int(self.show("MainPID")["MainPID"])

    def await_status(self, words: str, seconds: float = 30) -> str:
        """The line that `systemctl status` shows, once it has these words in it."""
        return until(
            lambda: text if words in (text := self.show("StatusText")["StatusText"]) else "", seconds, words
        )

    def await_another_process(self, than: int, seconds: float = 60) -> int:
        """The pid of the service once it is active as another process; 0 stands for none."""
        return until(
            lambda: (
                self.pid if self.show("ActiveState")["ActiveState"] == "active" and self.pid != than else 0
            ),
            seconds,
            "another process of the service",
        )

    def drop_in(self, name: str, text: str) -> None:
        self.machine.write(f"/etc/systemd/system/omrwatchd.service.d/{name}.conf", text)
        self.machine.run("systemctl daemon-reload")

    def configure(self, **more: str) -> None:
        """The smallest configuration of the README, chunks of 1 MiB, and lines for some sections."""
        upload = 'chunk_size = "1MiB"\ndirect_limit = "1MiB"\n' + more.pop("upload", "")
        sections = {
            "server": f'base_url = "{SERVER}/api"\n' + more.pop("server", ""),
            "upload": upload,
            "queue": "cooldown_seconds = 0.5\n",
            "watch": 'drop = "/srv/scans/drop"\nsettle_seconds = 1\n',
        } | more
        headings = {name: f"[[{name}]]" if name == "watch" else f"[{name}]" for name in sections}
        self.machine.write(CONFIG, "".join(f"{headings[name]}\n{text}\n" for name, text in sections.items()))

    def journal(self, since: float = 0.0) -> list[dict[str, Any]]:
        """The daemon's own lines, as the journal has them, each with its event in `line`."""
        text = self.machine.run(
            "journalctl --sync; journalctl _SYSTEMD_UNIT=omrwatchd.service -o json --no-pager -q"
        )
        entries = [json.loads(entry) for entry in text.splitlines()]
        for entry in entries:
            message = str(entry["MESSAGE"])
            entry["line"] = json.loads(message) if message.startswith("{") else {"event": "", "text": message}
        return [entry for entry in entries if float(entry["__REALTIME_TIMESTAMP"]) / 1e6 >= since]

    def events(self, name: str, since: float = 0.0) -> list[dict[str, Any]]:
        return [entry["line"] for entry in self.journal(since) if entry["line"]["event"] == name]

    # the scanner

    def save(self, folder: Path, name: str, megabytes: int) -> None:
        """Save a ZIP into the drop folder as a scanner does, in the folder's group."""
        file = write_zip(folder / name, sheets=8, size=megabytes * MB)
        self.hashes[name] = sha256(file)
        target = self.machine.root / "srv/scans/drop" / name
        with target.open("wb") as there:
            there.write(file.read_bytes())
        self.machine.run(f"chgrp scans '/srv/scans/drop/{name}' && chmod 0660 '/srv/scans/drop/{name}'")

    # the server

    def start_server(self) -> None:
        self.machine.run(
            f"systemd-run --quiet --unit=omr-server --setenv=OMRWATCHD_RECEIVER_TOKEN={TOKEN} "
            "omrwatchd receiver --dir /var/tmp/omr --port 8099 --control"
        )
        until(self.server_state, 30, "the server")

    def server_state(self) -> dict[str, Any]:
        ask = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())"
        done = self.machine.try_(f"python3 -c '{ask}' {SERVER}/_control/state")
        state: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return state

    def chunks(self, name: str) -> list[int]:
        """The chunks of a file that the server has acknowledged, in the order in which it did."""
        requests = self.server_state()["requests"]
        return [
            int(request["chunk_index"])
            for request in requests
            if request["filename"] == name and request["kind"] == "chunk" and request["status"] == 200
        ]

    def await_chunks(self, name: str, number: int) -> None:
        until(lambda: len(self.chunks(name)) >= number, 60, f"{number} chunks of {name}")

    def await_delivered(self, name: str, seconds: float = 90) -> None:
        """It is one batch on the server, byte for byte, and lies in done/ alone."""
        until(lambda: (self.machine.root / "srv/scans/done" / name).exists(), seconds, f"{name} in done/")
        batches = [batch for batch in self.server_state()["batches"] if batch["filename"] == name]
        assert [batch["sha256"] for batch in batches] == [self.hashes[name]]
        assert sha256(self.machine.root / "srv/scans/done" / name) == self.hashes[name]
        assert not (self.machine.root / "srv/scans/drop" / name).exists()


def now() -> float:
    """Seconds since the epoch: the container has this machine's clock."""
    return time.time()
