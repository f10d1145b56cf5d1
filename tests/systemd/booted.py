"""The service under a real systemd, from `make install` to `make uninstall`, one step after the other.

Run by `make test-systemd`, as root; not by `make test`, whose pattern (test_*.py) this file does not match.
The reports of what it is good for stand in docs/OPERATIONS.md, The service. documented.py goes on where
it ends.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.written import OPERATIONS, block, spans
from tests.systemd.machine import Machine
from tests.systemd.station import TOKEN, Station, now
from tests.waiting import until

OFFLINE, WITH_DEMO = (
    'sudo make install PIP_FLAGS="--no-index --find-links=wheels"',
    "sudo make install EXTRAS=demo",
)
SLOW = 'max_rate = "2MiB"'
SHORT_WATCHDOG = "[Service]\nWatchdogSec=6\nRestartSec=1\n"
LIVENESS = "/opt/omrwatchd/lib/python*/site-packages/omrwatchd/ops/liveness.py"
IMPATIENT = {
    "server": "connect_timeout = 1\nread_timeout = 2",
    "upload": SLOW,
}
"""A thread of the worker may be silent for STEP_SECONDS and four times these."""


def install_steps() -> list[str]:
    """The lines for a shell in OPERATIONS.md, The service, Install; from the folders to the start."""
    return block("sh", "groupadd").splitlines()


def test_install_brings_program_user_unit_and_skeleton(machine: Machine) -> None:
    """`make install`, as documented; and once more, which changes nothing that was filled in."""
    commands = set(spans(OPERATIONS.read_text(encoding="utf-8")))
    assert commands >= {OFFLINE, WITH_DEMO}
    assert "Installed: Python 3" in machine.as_admin(OFFLINE, 300)
    machine.run("id omrwatchd && omrwatchd --version && systemctl cat omrwatchd")
    places = ("/etc/omrwatchd/token", "/etc/omrwatchd/config.toml", "/var/lib/omrwatchd")
    assert machine.run(f"stat -c '%a %U %G' {' '.join(places)}").splitlines() == [
        "600 root root",
        "640 root omrwatchd",
        "700 omrwatchd omrwatchd",
    ]
    machine.write("/etc/omrwatchd/config.toml", "# mine\n")
    machine.as_admin(WITH_DEMO, 300)
    assert machine.run("cat /etc/omrwatchd/config.toml") == "# mine\n"


def test_empty_and_missing_token_are_said_in_a_sentence(station: Station, machine: Machine) -> None:
    """A fresh install that is started too early fails, and the journal says what to fill in."""
    station.configure()
    machine.run("mkdir -p /srv/scans/drop")
    began = now()
    assert machine.try_("systemctl start omrwatchd").returncode != 0
    told = " ".join(entry["line"].get("text", "") for entry in station.journal(began))
    assert "/etc/omrwatchd/token" in told, told
    assert "Traceback" not in told
    machine.run("systemctl stop omrwatchd; rmdir /srv/scans/drop /srv/scans")


def test_documented_steps_lead_to_an_active_service(station: Station, machine: Machine) -> None:
    """Each line of the section Install, in its order; then the service is up and says so."""
    station.start_server()
    station.configure()
    machine.write("/etc/omrwatchd/token", f"{TOKEN}\n")
    steps = install_steps()
    assert len(steps) >= 5
    for step in steps:
        machine.run(step.removeprefix("sudo "))
    shown = station.show("ActiveState", "SubState", "User", "NRestarts", "Result")
    assert shown == {
        "ActiveState": "active", "SubState": "running", "User": "omrwatchd", "NRestarts": "0",
        "Result": "success",
    }  # fmt: skip
    station.await_status("waiting for files")


def test_running_unit_exposes_next_to_nothing(machine: Machine) -> None:
    """systemd's own rating of the unit as it runs, drop-ins included."""
    text = machine.run("systemd-analyze security --no-pager omrwatchd.service")
    found = re.search(r"Overall exposure level for omrwatchd.service: ([0-9.]+)", text)
    assert found, text[-300:]
    print(f"\n{found[0]}")
    assert float(found[1]) <= 1.2


def test_zip_is_delivered_and_the_journal_has_it_once(
    station: Station, machine: Machine, tmp_path: Path
) -> None:
    """Priorities as they should be, no time stamp beside the journal's own, no token anywhere."""
    began = now()
    station.save(tmp_path, "Übung 1.zip", 5)
    station.await_delivered("Übung 1.zip")
    entries = [entry for entry in station.journal(began) if entry["line"]["event"] == "file_completed"]
    assert [(entry["PRIORITY"], entry["line"]["file"]) for entry in entries] == [("6", "Übung 1.zip")]
    assert "ts" not in entries[0]["line"]
    (machine.root / "srv/scans/drop/empty.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    refused = until(lambda: [e for e in station.journal(began) if e["line"]["event"] == "file_refused"], 30)
    assert [entry["PRIORITY"] for entry in refused] == ["3"]
    machine.run("journalctl -q -u omrwatchd -p err -o cat | grep -q file_refused")
    assert machine.run("ls /srv/scans/failed").split() == ["empty.zip", "empty.zip.error.txt"]
    places = (
        "journalctl -q",
        "systemctl status omrwatchd",
        "systemctl show omrwatchd",
        "ps -efww",
        "omrwatchd check",
    )
    for place in (*places, f"cat /proc/{station.pid}/environ", "omrwatchd status --json"):
        assert TOKEN not in machine.run(place), place


def test_lines_of_the_documentation_do_what_they_say(machine: Machine) -> None:
    """What OPERATIONS.md has for the journal and for a look from inside the sandbox, as it is written."""
    text = OPERATIONS.read_text(encoding="utf-8")
    errors, follow, today = [
        line.split(" # ")[0].strip()
        for line in text.splitlines()
        if line.startswith("journalctl -u omrwatchd")
    ]
    assert "file_refused" in machine.run(errors)
    followed = machine.try_(f"timeout 2 {follow}")  # by itself it would never end
    assert (followed.returncode, followed.stderr, '"event"' in followed.stdout) == (124, "", True)
    assert '["Übung 1.zip",' in machine.run(today)
    [inside] = re.findall(r"`sudo (nsenter -m .+)`", text)
    assert re.search(r"^ok +daemon +Running: ", machine.run(inside), re.MULTILINE)


def test_good_configuration_is_taken_in_the_middle_of_an_upload(station: Station, tmp_path: Path) -> None:
    """`systemctl reload`: the same process, the new settings, and no chunk goes out twice for it."""
    station.configure(upload=SLOW)
    station.machine.run("systemctl reload omrwatchd")
    station.save(tmp_path, "reload.zip", 30)
    line = station.await_status("uploading reload.zip")
    print(f"\nSTATUS={station.await_status('MB/s') or line}")
    station.await_chunks("reload.zip", 4)
    process, began = station.pid, now()
    station.configure(upload='max_rate = "4MiB"')
    print(f"reload: {station.machine.seconds('systemctl reload omrwatchd'):.2f} s")
    until(lambda: station.events("config_reloaded", began))
    assert station.pid == process
    assert station.show("ActiveState") == {"ActiveState": "active"}
    station.await_delivered("reload.zip")
    assert sorted(station.chunks("reload.zip")) == list(range(len(set(station.chunks("reload.zip")))))


def test_wrong_configuration_is_refused_and_the_old_one_stays(station: Station, tmp_path: Path) -> None:
    """The reload fails with a sentence in the journal; the upload under way is not touched."""
    station.configure(upload=SLOW)
    station.machine.run("systemctl reload omrwatchd")
    station.save(tmp_path, "wrong.zip", 15)
    station.await_chunks("wrong.zip", 3)
    process, began = station.pid, now()
    station.configure(upload=SLOW + "\nchunk_sice = 3")
    assert station.machine.try_("systemctl reload omrwatchd").returncode != 0
    told = station.machine.run("journalctl -q -u omrwatchd -o cat -n 20")
    assert "unknown setting upload.chunk_sice. Did you mean chunk_size?" in told
    station.machine.run("kill -HUP $(systemctl show -P MainPID omrwatchd)")  # past the check of the unit
    until(lambda: station.events("config_refused", began))
    station.await_status("refused")
    assert (station.pid, station.show("ActiveState")) == (process, {"ActiveState": "active"})
    station.await_delivered("wrong.zip")
    station.configure(upload=SLOW)
    station.machine.run("systemctl reload omrwatchd")
    until(lambda: "refused" not in station.show("StatusText")["StatusText"])


def test_stop_is_fast_and_clean_and_a_start_goes_on(station: Station, tmp_path: Path) -> None:
    """In the middle of an upload, in under 5 s, with Result=success; no acknowledged chunk goes out again."""
    station.save(tmp_path, "stop.zip", 20)
    station.await_chunks("stop.zip", 4)
    seconds = station.machine.seconds("systemctl stop omrwatchd")
    shown = station.show("ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    before = station.chunks("stop.zip")
    print(f"\nstop in the middle of an upload: {seconds:.2f} s, {len(before)} chunks acknowledged")
    assert seconds < 5
    station.machine.run("systemctl start omrwatchd")
    station.await_delivered("stop.zip")
    after = station.chunks("stop.zip")
    assert sorted(after) == list(range(len(after)))


def test_killed_daemon_is_started_again(station: Station, tmp_path: Path) -> None:
    """SIGKILL in the middle of an upload: systemd restarts it after 10 s, and the upload goes on."""
    station.save(tmp_path, "kill.zip", 15)
    station.await_chunks("kill.zip", 4)
    process, began = station.pid, now()
    station.machine.run(f"kill -9 {process}")
    before = station.chunks("kill.zip")
    station.await_another_process(process)
    print(f"\nactive again after {now() - began:.1f} s")
    station.await_delivered("kill.zip")
    again = len(station.chunks("kill.zip")) - len(set(station.chunks("kill.zip")))
    assert again <= 4  # what was acknowledged in the moment of the kill, at most one a lane
    assert len(before) >= 4
    [resumed] = station.events("upload_started", began)
    assert resumed["resumed_chunks"] >= len(before) - 4


@contextlib.contextmanager
def frozen(machine: Machine, process: int, threads: str) -> Iterator[None]:
    """Some threads of the process stand still, as in a call that never returns."""
    unit = f"freeze-{process}"
    machine.run(
        f"systemd-run --quiet --unit={unit} python3 /source/tests/systemd/freeze.py {process} {threads}"
    )
    until(lambda: "frozen" in machine.run(f"journalctl -q -u {unit} -o cat"), what="the threads to be frozen")
    try:
        yield
    finally:
        machine.try_(f"systemctl stop {unit}")  # ends by itself when they are killed


def test_process_that_stands_still_is_killed_by_the_watchdog(station: Station, tmp_path: Path) -> None:
    """SIGSTOP: no sign of life at all. systemd kills and starts it, and the upload goes on."""
    station.drop_in("watchdog", SHORT_WATCHDOG)
    station.machine.run("systemctl restart omrwatchd")
    station.save(tmp_path, "stand.zip", 15)
    station.await_chunks("stand.zip", 4)
    process, began = station.pid, now()
    station.machine.run(f"kill -STOP {process}")
    station.await_another_process(process)
    print(f"\nactive again after {now() - began:.1f} s")
    told = station.machine.run("journalctl -q -u omrwatchd -o cat --since=-60s")
    assert "Watchdog timeout" in told
    station.await_delivered("stand.zip")


@pytest.mark.parametrize(
    ("name", "threads"), [("worker.zip", "3:4"), ("lanes.zip", "-4:")], ids=["worker", "chunk threads"]
)
def test_thread_that_hangs_is_noticed_and_the_upload_goes_on(
    station: Station, tmp_path: Path, name: str, threads: str
) -> None:
    """The rest of the process is well: it is the missing progress that keeps the watchdog hungry.

    A quarter of an hour's patience is too much for a test: that one constant is shortened where it is
    installed.
    In the order of their beginning the threads are the main one, the signals', inotify's, the worker … and
    the four lanes.
    """
    machine = station.machine
    machine.run(f"sed -i 's/^STEP_SECONDS = .*/STEP_SECONDS = 3.0/' {LIVENESS}")
    station.configure(**IMPATIENT)
    machine.run("systemctl restart omrwatchd")
    station.save(tmp_path, name, 15)
    station.await_chunks(name, 4)
    process, began = station.pid, now()
    with frozen(machine, process, threads):
        station.await_another_process(process, 90)
    print(f"\nactive again after {now() - began:.1f} s")
    [silent] = station.events("thread_silent", began)
    assert silent["thread"] == "worker"
    print(f"thread_silent: {silent['stack']}")
    station.await_delivered(name)
    [resumed] = station.events("upload_started", began)
    assert resumed["resumed_chunks"] >= 3
