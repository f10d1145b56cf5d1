"""The end of the station, and a new one by the README; after booted.py and documented.py."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.written import OPERATIONS, README, indented, lines_for_a_shell, section, spans
from tests.systemd.machine import Machine
from tests.systemd.station import CONFIG, SERVER, Station
from tests.waiting import until
from tests.zips import sha256, write_zip


def test_nothing_came_twice_and_nothing_is_left(station: Station, machine: Machine) -> None:
    """After all of this: each file one batch and one line in the record, and drop/ is empty."""
    assert not station.server_state()["duplicate_batches"]
    assert sorted(batch["filename"] for batch in station.server_state()["batches"]) == sorted(station.hashes)
    names = machine.run(
        "zcat -f /var/lib/omrwatchd/summary.jsonl* | jq -r 'select(.status == \"completed\") | .name'"
    )
    assert sorted(names.splitlines()) == sorted(station.hashes)
    assert set(machine.run("ls /srv/scans/drop").split()) <= {"_omrwatchd-status.txt"}
    assert machine.run("systemctl --failed --no-legend").strip() == ""


def test_demo_runs_where_it_is_installed(machine: Machine) -> None:
    """`make install EXTRAS=demo` has brought what it needs."""
    assert "omrwatchd demo" in lines_for_a_shell(OPERATIONS)
    assert "the daemon stopped cleanly" in machine.run("omrwatchd demo")


def test_uninstall_leaves_what_is_not_the_programs(machine: Machine) -> None:
    """Program, unit and command are gone; configuration, token, queue, record and scans are not."""
    machine.as_admin("sudo make uninstall")
    assert machine.try_("systemctl cat omrwatchd.service").returncode != 0
    assert machine.try_("command -v omrwatchd || test -e /opt/omrwatchd").returncode != 0
    machine.run(
        "test -s /etc/omrwatchd/config.toml -a -s /etc/omrwatchd/token -a -s /var/lib/omrwatchd/queue.db"
    )


def test_readme_leads_from_the_sources_to_a_delivered_file(machine: Machine, tmp_path: Path) -> None:
    """Its section Install on a machine that has never seen the program, step by step, by an admin."""
    machine.run("systemctl stop omr-server && userdel omrwatchd")
    machine.run("rm -rf /etc/omrwatchd /etc/systemd/system/omrwatchd.service.d /var/lib/omrwatchd /srv/scans")
    text = section(README, "## Install")
    steps = sorted(
        {*spans(text), *indented(text)}, key=lambda command: text.index(command)
    )  # in the order of the text
    assert len(steps) == 6
    install, *others = steps
    machine.as_admin(install)
    machine.as_admin(f"{install} EXTRAS=demo")  # for the server alone
    [smallest] = re.findall(r"^ {7}\[server\]\n(?:.*\n)+? {7}drop = .*$", text, re.MULTILINE)
    settings = re.sub(r"^ {7}", "", smallest, flags=re.MULTILINE)
    machine.write(CONFIG, settings.replace("https://omr.example.org", SERVER))
    server = next(line for line in lines_for_a_shell(OPERATIONS) if " receiver " in line)
    machine.run(f"systemd-run --quiet --unit=readme-server bash -c '{server}'")
    machine.write("/etc/omrwatchd/token", re.findall(r"TOKEN=(\w+)", server)[0] + "\n")
    for step in others:
        machine.as_admin(step)
    file = write_zip(tmp_path / "readme.zip", sheets=3)
    (machine.root / "srv/scans/drop/readme.zip").write_bytes(file.read_bytes())
    done = machine.root / "srv/scans/done/readme.zip"
    until(done.exists, 60, "readme.zip in done/")
    assert sha256(done) == sha256(file)
    until(lambda: "1 delivered" in machine.as_admin("sudo omrwatchd summary"), 30, "its line in the summary")
    machine.as_admin("sudo make uninstall")
