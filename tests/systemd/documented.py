"""What docs/OPERATIONS.md has for ops to type, to copy and to expect, as it is written.

Run by `make test-systemd` on the station that booted.py has installed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from email.header import decode_header, make_header
from pathlib import Path

import pytest

from tests.docs.written import OPERATIONS, block, blocks, lines_for_a_shell, section
from tests.ops.documents import table_rows
from tests.systemd.machine import Machine
from tests.systemd.station import CONFIG, TOKEN, Station, now
from tests.waiting import until
from tests.zips import sha256, write_zip

TEXT = OPERATIONS.read_text(encoding="utf-8")
STATUS_SAYS = "| `systemctl status` says | because | what to do |"
DROP_INS = "/etc/systemd/system/omrwatchd.service.d"
FSTAB = [line for line in block("text", "/etc/fstab").splitlines() if not line.startswith("#")]
NOT_A_ZIP = b"PK\x05\x06" + bytes(18)


@pytest.fixture(autouse=True, scope="module")
def _as_installed(station: Station, machine: Machine) -> None:
    """What booted.py has shortened is as it should be again."""
    machine.run(f"rm -f {DROP_INS}/watchdog.conf && systemctl daemon-reload")
    station.configure()
    machine.run("systemctl restart omrwatchd")


def _line(beginning: str) -> str:
    """The one line for a shell that begins so."""
    [found] = {line for line in lines_for_a_shell(OPERATIONS) if line.startswith(beginning)}
    return found


def _span(words: str) -> str:
    """The command between backticks that has these words in it."""
    found = {span for span in re.findall(r"`([^`\n]+)`", TEXT) if words in span}
    assert len(found) == 1, found
    return found.pop()


def typed(beginning: str) -> list[str]:
    """The lines of the console blocks that begin so."""
    lines = [line for text in blocks(OPERATIONS, "console") for line in text.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith(f"$ {beginning}")]


def refuse(machine: Machine, name: str) -> None:
    """Save something that is no answer sheets."""
    (machine.root / "srv/scans/drop" / name).write_bytes(NOT_A_ZIP)


# the service


def _wrong_configuration(station: Station) -> None:
    station.machine.write(CONFIG, "[sevrer]\n")


def _no_token(station: Station) -> None:
    station.machine.run("mv /etc/omrwatchd/token /etc/omrwatchd/token.away")


def _no_folder(station: Station) -> None:
    station.drop_in("nowhere", "[Service]\nReadWritePaths=/srv/nowhere\n")


def _no_share(station: Station) -> None:
    """share.conf and a line for /etc/fstab whose NAS is away."""
    machine = station.machine
    machine.run(
        f"mkdir -p {DROP_INS} && cp /opt/omrwatchd/share/doc/omrwatchd/share.conf {DROP_INS}/share.conf"
    )
    machine.write("/etc/fstab", FSTAB[0] + "\n")
    machine.run("systemctl daemon-reload")


def _hanging(station: Station) -> None:
    station.drop_in("watchdog", "[Service]\nWatchdogSec=3\nRestartSec=5\n")
    station.machine.run("systemctl start omrwatchd && kill -STOP $(systemctl show -P MainPID omrwatchd)")


CAUSES: dict[str, Callable[[Station], None]] = {
    "(code=exited, status=2)": _wrong_configuration,
    "status=243/CREDENTIALS": _no_token,
    "status=226/NAMESPACE": _no_folder,
    "Dependency failed": _no_share,
    "Result: watchdog": _hanging,
}


def test_table_of_what_systemctl_status_says_is_whole() -> None:
    """Each row of it is brought about below."""
    assert [row[0].strip("`") for row in table_rows(TEXT, STATUS_SAYS)] == list(CAUSES)


@pytest.mark.parametrize("words", CAUSES)
def test_systemctl_status_says(station: Station, machine: Machine, words: str) -> None:
    """The words of the table, for its cause; and the service is well when that is mended."""
    machine.run("systemctl stop omrwatchd")
    CAUSES[words](station)
    machine.try_("systemctl start omrwatchd")
    until(lambda: words in machine.try_("systemctl status omrwatchd").stdout, 30, words)
    if CAUSES[words] is _wrong_configuration:
        assert "unknown setting sevrer" in machine.run(_line("journalctl -u omrwatchd -p err"))
    machine.try_("mv /etc/omrwatchd/token.away /etc/omrwatchd/token")
    machine.run(
        f"rm -f {DROP_INS}/{{nowhere,share,watchdog}}.conf && : >/etc/fstab && systemctl daemon-reload"
    )
    station.configure()
    machine.run("systemctl reset-failed; systemctl restart omrwatchd")
    station.await_status("waiting for files")


@pytest.mark.parametrize("line", FSTAB, ids=["cifs", "nfs"])
def test_line_for_fstab_is_understood(machine: Machine, line: str) -> None:
    """systemd makes a mount of it that waits for the network and does not hold up the boot."""
    machine.write("/etc/fstab", line + "\n")
    try:
        machine.run("systemctl daemon-reload")
        checked = machine.run("findmnt --verify --verbose")
        assert "target exists" in checked
        assert not re.search(r"\[[EW]\]", checked), checked
        shown = machine.run(
            "systemctl show srv-scans.mount -p What,Where,Type,Options,After,WantedBy,RequiredBy"
        )
        assert f"What={line.split()[0]}\n" in shown
        assert f"Options={line.split()[3]}\n" in shown
        assert "network-online.target" in shown
        assert "RequiredBy=\n" in shown
    finally:
        machine.run(": >/etc/fstab && systemctl daemon-reload")


def test_share_that_is_late_is_taken_when_it_comes(
    station: Station, machine: Machine, tmp_path: Path
) -> None:
    """`ReadWritePaths=-…`: the service starts without the share, and may write there once it is mounted."""
    assert "`ReadWritePaths=-/srv/scans` without `RequiresMountsFor=`" in TEXT
    station.drop_in("late", "[Service]\nReadWritePaths=-/srv/late\n")
    station.configure(watch='name = "a"\ndrop = "/srv/scans/drop"\nsettle_seconds = 1\n\n'
                      '[[watch]]\nname = "late"\ndrop = "/srv/late/drop"\nsettle_seconds = 1\n')  # fmt: skip
    began = now()
    machine.run("mkdir /srv/late && systemctl restart omrwatchd")
    until(lambda: station.events("drop_folder_lost", began), 30, "the folder to be missed")
    machine.run(
        "mount -t tmpfs share /srv/late && cd /srv/late"
        " && install -d -o omrwatchd -g scans -m 2770 drop done failed"
    )
    file = write_zip(tmp_path / "late.zip", sheets=3)
    station.hashes["late.zip"] = sha256(file)
    (machine.root / "srv/late/drop/late.zip").write_bytes(file.read_bytes())
    until(lambda: (machine.root / "srv/late/done/late.zip").exists(), 60, "late.zip in done/")
    machine.run(f"systemctl stop omrwatchd && umount /srv/late && rm {DROP_INS}/late.conf && rmdir /srv/late")
    station.configure()
    machine.run("systemctl daemon-reload && systemctl start omrwatchd")


def test_restarts_become_slower(station: Station, machine: Machine) -> None:
    """Where systemd knows RestartSteps= (254): what can't start is tried less and less often."""
    version = int(machine.run("systemctl --version").split()[1])
    if version < 254:
        pytest.skip(f"systemd {version} does not know RestartSteps=: 254 and newer do (SUITE=trixie)")
    shown = station.show("RestartSteps", "RestartMaxDelayUSec")
    assert shown == {"RestartSteps": "6", "RestartMaxDelayUSec": "5min"}
    station.drop_in("quick", "[Service]\nRestartSec=500ms\n")  # the first of them; the longest stays 5 min
    machine.run("systemctl stop omrwatchd")
    station.machine.write(CONFIG, "[sevrer]\n")
    machine.try_("systemctl start omrwatchd")
    waits = []
    for number in range(3):
        until(lambda n=number: int(station.show("NRestarts")["NRestarts"]) > n, 60, "another restart")  # type: ignore[misc]
        waits.append(station.show("RestartUSecNext")["RestartUSecNext"])
    print(f"\nafter 500ms: {', '.join(waits)}")
    seconds = [_seconds(wait) for wait in waits]
    assert 0.5 < seconds[0] < seconds[1] < seconds[2] < 300
    machine.run(f"rm {DROP_INS}/quick.conf && systemctl daemon-reload && systemctl stop omrwatchd")
    station.configure()
    machine.run("systemctl reset-failed; systemctl start omrwatchd")


def _seconds(span: str) -> float:
    """What systemd writes as '1min 2.5s'."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(us|ms|s|min)", span))


def test_unit_and_all_drop_ins_are_valid_here(machine: Machine) -> None:
    """As installed, the slower restarts included; and the rating is the promised one."""
    for example in ("folders", "share"):
        machine.run(
            f"mkdir -p {DROP_INS} && cp /opt/omrwatchd/share/doc/omrwatchd/{example}.conf {DROP_INS}/try.conf"
        )
        done = machine.try_("systemd-analyze verify --man=no omrwatchd.service")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    machine.run(f"rm {DROP_INS}/try.conf")
    [rated] = re.findall(r"exposure level for \S+: ([0-9.]+)", machine.run(_span("systemd-analyze security")))
    assert float(rated) <= 1.2


def test_new_token_is_handed_over_at_a_restart(station: Station, machine: Machine, tmp_path: Path) -> None:
    """A wrong one holds the queue and costs no file anything; the right one, as documented, ends that."""
    began = now()
    machine.write("/etc/omrwatchd/token", "outdated\n")
    machine.run(_span("systemctl restart"))
    station.save(tmp_path, "token.zip", 2)
    until(lambda: station.events("queue_held", began), 30, "the queue to be held")
    assert station.events("queue_held", began)[0]["code"] == "token_rejected"
    machine.write("/etc/omrwatchd/token", f"{TOKEN}\n")
    machine.run(_span("systemctl restart"))
    station.await_delivered("token.zip")


def test_lines_with_sudo_work_for_an_admin(machine: Machine) -> None:
    """Somebody who is not root types them."""
    for words in ("sudo omrwatchd doctor", "sudo nsenter"):
        told = machine.as_admin(_span(words))
        assert re.search(r"^ok +daemon +Running: ", told, re.MULTILINE), told
        assert ", 0 failed" in told, told


def test_commands_are_about_the_service(station: Station, machine: Machine) -> None:
    """Typed with sudo, with the daemon or without, they see and steer its queue, and spoil no rights."""
    for state in ("start", "stop"):
        machine.run(f"systemctl {state} omrwatchd")
        assert "token.zip" in machine.as_admin("sudo omrwatchd status")
        machine.as_admin("sudo omrwatchd pause")
        if state == "start":
            station.await_status("paused by an operator")
        machine.as_admin("sudo omrwatchd resume")
        owners = machine.run("stat -c '%U %a %n' /var/lib/omrwatchd/*").splitlines()
        assert all(line.startswith("omrwatchd 6") for line in owners), owners
    machine.run("systemctl start omrwatchd")
    told = machine.try_("runuser -u admin -- omrwatchd status")
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert "use sudo" in told.stderr
    assert machine.try_("ls /root/.local/state").returncode == 2


# sharing


@pytest.fixture
def samba(machine: Machine) -> Iterator[Callable[[str], str]]:
    """smbd with the section of the document, and a scanner who is in the group; runs smbclient's commands."""
    machine.run(
        "useradd --no-create-home --groups scans scanner && printf 'pw\\npw\\n' | smbpasswd -s -a scanner"
    )
    machine.run("cp /etc/samba/smb.conf /etc/samba/smb.conf.orig")
    machine.write("/etc/samba/smb.conf", "[global]\n" + block("ini", "[scans]"))
    checked = machine.try_("testparm -s")
    assert (checked.returncode, "force group = scans" in checked.stdout) == (0, True), checked
    assert not re.search(r"unknown|ignoring|error", checked.stderr, re.IGNORECASE), checked.stderr
    machine.run("systemctl restart smbd")

    def commands(words: str) -> str:
        return machine.run(f"smbclient //127.0.0.1/scans -U scanner%pw -c '{words}'")

    yield commands
    machine.run("systemctl stop smbd && mv /etc/samba/smb.conf.orig /etc/samba/smb.conf && userdel scanner")


def test_scanner_saves_over_samba(
    station: Station, machine: Machine, samba: Callable[[str], str], tmp_path: Path
) -> None:
    """It is delivered; what failed and what is going on can be read by the group, and taken away."""
    file = write_zip(tmp_path / "samba.zip", sheets=8, size=3_000_000)
    station.hashes["samba.zip"] = sha256(file)
    (machine.root / "var/tmp/samba.zip").write_bytes(file.read_bytes())
    (machine.root / "var/tmp/cut.zip").write_bytes(NOT_A_ZIP)
    samba("put /var/tmp/samba.zip drop/samba.zip; put /var/tmp/cut.zip drop/cut.zip")
    station.await_delivered("samba.zip")
    assert machine.run("stat -c '%a %U %G' /srv/scans/done/samba.zip") == "660 scanner scans\n"
    until(lambda: (machine.root / "srv/scans/failed/cut.zip.error.txt").exists(), 30, "the text in failed/")
    assert "cut.zip was not delivered" in samba("get failed/cut.zip.error.txt -")
    assert "omrwatchd" in samba("get drop/_omrwatchd-status.txt -")
    samba("del failed/cut.zip; del failed/cut.zip.error.txt")
    samba("mkdir drop/room-12")
    assert machine.run("stat -c '%a %G' /srv/scans/drop/room-12") == "2770 scans\n"
    samba("rmdir drop/room-12")


# metrics, notifications


def test_mail_comes_from_inside_the_sandbox(station: Station, machine: Machine) -> None:
    """The program, the settings and the line to try it, as written; msmtp hands on to a mail server."""
    began = now()
    machine.run("systemd-run --quiet --unit=mail python3 /source/tests/systemd/mail_server.py 2525")
    machine.write("/etc/msmtprc", "account default\nhost 127.0.0.1\nport 2525\nfrom scan1@example.org\n")
    program = block("sh", "#!/bin/sh")
    [place] = re.findall(r"^# (/\S+)$", program, re.MULTILINE)
    machine.write(place, program)
    machine.run(f"chmod 0755 {place}")
    machine.as_admin(_line("echo "))
    subjects = until(lambda: _subjects(machine), 30, "the mail")
    assert subjects == ["omrwatchd on test: queue_held try"], subjects

    settings = (machine.root / CONFIG.lstrip("/")).read_text()
    machine.write(CONFIG, settings + block("toml", "[notify]") + block("toml", "[metrics]"))
    machine.run("systemctl reload omrwatchd")
    until(lambda: station.events("config_reloaded", began), 30, "the reload")
    refuse(machine, "Prüfung 1.zip")
    until(lambda: len(_subjects(machine)) > 1, 30, "the second mail")
    assert _subjects(machine)[1:] == ["omrwatchd on scan1: file_refused Prüfung 1.zip"]
    assert "code: no_sheets\n" in machine.run("journalctl -q -u mail -o cat")
    assert station.events("notify_failed", began) == []
    [address] = re.findall(r"`(http://127\.0\.0\.1\S+/metrics)` answers", TEXT)
    served = machine.run(f"curl --silent --fail {address}")
    assert 'omrwatchd_files_failed_total{code="no_sheets"} 1.0' in served
    station.configure()
    machine.run("systemctl restart omrwatchd; rm /srv/scans/failed/Prüfung*")


def _subjects(machine: Machine) -> list[str]:
    told = machine.run("journalctl --sync; journalctl -q -u mail -o cat")
    found = re.findall(r"^Subject: (.*)$", told, re.MULTILINE)
    return [str(make_header(decode_header(subject))) for subject in found]


# the record and the queue


def test_summary_log_is_rotated(station: Station, machine: Machine, tmp_path: Path) -> None:
    """By the file of the document; the daemon, which is not told, goes on in a new one."""
    [query] = typed("jq ")
    assert re.search(r"\tPrüfung 1\.zip\tno_sheets$", machine.run(query), re.MULTILINE)
    [place] = re.findall(r"`(/etc/logrotate\.d/\w+)`", section(OPERATIONS, "## The summary log"))
    machine.write(place, block("text", "/var/lib/omrwatchd/summary.jsonl {"))
    before = machine.run("cat /var/lib/omrwatchd/summary.jsonl")
    machine.run(f"logrotate --force {place}")
    assert machine.run("zcat /var/lib/omrwatchd/summary.jsonl.1.gz") == before
    assert machine.try_("test -e /var/lib/omrwatchd/summary.jsonl").returncode == 1
    station.save(tmp_path, "rotated.zip", 2)
    station.await_delivered("rotated.zip")
    names = until(lambda: machine.try_("jq -r .name /var/lib/omrwatchd/summary.jsonl").stdout, 30, "the line")
    assert names == "rotated.zip\n"
    assert machine.run("stat -c %U /var/lib/omrwatchd/summary.jsonl*").split() == ["omrwatchd"] * 2


def test_backup_and_rollback(station: Station, machine: Machine, tmp_path: Path) -> None:
    """The backup is taken in the middle of an upload; after the way back nothing is sent a second time."""
    station.configure(upload='max_rate = "2MiB"')
    machine.run("systemctl reload omrwatchd")
    station.save(tmp_path, "before.zip", 12)
    station.await_chunks("before.zip", 3)
    backup, check = typed("sqlite3 ")
    machine.run(backup)
    assert machine.run(check) == "ok\n"
    station.await_delivered("before.zip")
    station.save(tmp_path, "after.zip", 2)
    station.await_delivered("after.zip")
    steps = block("sh", "before-rollback").replace("/path/to/", "/var/lib/omrwatchd/")
    began = now()
    machine.run(f"set -e\n{steps}")
    station.await_status("waiting for files")
    shown = machine.run("omrwatchd status --json")
    assert '"after.zip"' not in shown
    until(lambda: station.events("file_aborted", began), 60, "the file that is gone")
    assert station.events("file_aborted", began)[0]["code"] == "file_gone"
    assert ", 0 failed" in machine.run("omrwatchd doctor --user omrwatchd")


@contextlib.contextmanager
def _queue_away(machine: Machine) -> Iterator[None]:
    machine.run("systemctl stop omrwatchd && cd /var/lib/omrwatchd && mkdir away && mv queue.db* away/")
    machine.run("systemctl start omrwatchd")
    yield
    machine.run(
        "systemctl stop omrwatchd && cd /var/lib/omrwatchd && rm queue.db* && mv away/* . && rmdir away"
    )
    machine.run("systemctl start omrwatchd")


def test_lost_queue_is_made_anew(station: Station, machine: Machine, tmp_path: Path) -> None:
    """Without a backup: `queue.db*` is moved away, and what lies in the drop folder is taken up."""
    assert "move `queue.db*` away and start: a new queue is made" in TEXT
    with _queue_away(machine):
        station.save(tmp_path, "anew.zip", 2)
        station.await_delivered("anew.zip")
