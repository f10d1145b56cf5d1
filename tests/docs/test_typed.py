"""Every command of the documents is run by a test, as it is written; the ones that need no systemd here."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from omrwatchd.receiver import Receiver
from tests.docs.station import CONFIG, Station
from tests.docs.written import DOCUMENTS, OPERATIONS, ROOT, block, indented, lines_for_a_shell, spans
from tests.zips import write_zip

RUN_BY = {
    # tests/systemd: `make test-systemd`, in a booted Debian
    "systemd/booted.py::test_install_brings_program_user_unit_and_skeleton": [
        'sudo make install PIP_FLAGS="--no-index --find-links=wheels"',
        "sudo make install EXTRAS=demo",
    ],
    "systemd/booted.py::test_documented_steps_lead_to_an_active_service": [
        *block("sh", "groupadd").splitlines(),
    ],
    "systemd/booted.py::test_lines_of_the_documentation_do_what_they_say": [
        *(line for line in lines_for_a_shell(OPERATIONS) if line.startswith("journalctl ")),
        "jq -R 'fromjson?'",
        'sudo nsenter -m -t "$(systemctl show -P MainPID omrwatchd)" omrwatchd doctor --user omrwatchd',
    ],
    "systemd/booted.py::test_good_configuration_is_taken_in_the_middle_of_an_upload": [
        "systemctl reload omrwatchd",
    ],
    "systemd/documented.py::test_systemctl_status_says": ["systemctl status"],
    "systemd/documented.py::test_new_token_is_handed_over_at_a_restart": ["systemctl restart omrwatchd"],
    "systemd/documented.py::test_unit_and_all_drop_ins_are_valid_here": [
        "systemd-analyze security omrwatchd"
    ],
    "systemd/documented.py::test_lines_with_sudo_work_for_an_admin": [
        "sudo omrwatchd doctor --user omrwatchd",
    ],
    "systemd/documented.py::test_mail_comes_from_inside_the_sandbox": [
        "chmod 0755",
        *(line for line in lines_for_a_shell(OPERATIONS) if line.startswith("echo ")),
    ],
    "systemd/documented.py::test_backup_and_rollback": [
        line for line in block("sh", "before-rollback").splitlines() if not line.startswith("#")
    ],
    "systemd/leaving.py::test_demo_runs_where_it_is_installed": ["omrwatchd demo"],
    "systemd/leaving.py::test_uninstall_leaves_what_is_not_the_programs": ["sudo make uninstall"],
    "systemd/leaving.py::test_readme_leads_from_the_sources_to_a_delivered_file": [
        "OMRWATCHD_RECEIVER_TOKEN=secret omrwatchd receiver --dir /tmp/omr --port 8099",
        "sudo make install",
        "make install",
        "sudo install -d -o omrwatchd -g omrwatchd -m 2770"
        " /srv/scans /srv/scans/drop /srv/scans/done /srv/scans/failed",
        "sudo install -D -m 0644 /opt/omrwatchd/share/doc/omrwatchd/folders.conf"
        " /etc/systemd/system/omrwatchd.service.d/folders.conf",
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now omrwatchd",
    ],
    # here
    "docs/test_typed.py::test_files_are_added_and_split_by_hand": [
        *block("sh", "omrwatchd add").splitlines(),
    ],
    "docs/test_typed.py::test_daemon_is_run_by_hand": ["omrwatchd run", "omrwatchd run --until-idle"],
    "docs/test_typed.py::test_lines_and_settings_for_prometheus_work": [
        *block("sh", "promtool").splitlines(),
    ],
    "docs/test_console.py::test_commands_in_console_blocks_work": [
        *("omrwatchd " + words for words in ("check", "doctor", "doctor --json", "doctor --upload")),
        *("omrwatchd " + words for words in ("status", "resume", "retry ID")),
    ],
    "cli/test_output.py::test_reader_that_has_seen_enough_is_no_failure": ["omrwatchd status --watch"],
    "cli/test_output.py::test_verdict_does_not_depend_on_a_reader": ["omrwatchd summary --verify DIR"],
    "e2e/test_people.py::test_reset_empties_the_list_and_leaves_the_files": ["omrwatchd reset"],
    "e2e/test_control.py::test_unknown_outcome_is_only_sent_again_by_force": ["omrwatchd retry ID --force"],
}
"""A test below tests/, and the commands that it runs."""
BY_HAND = {
    "make demo": "runs `omrwatchd demo`",
    "make test": "runs this",
    "sudo make test-systemd": "runs the tests of tests/systemd",
    "make bench": "half an hour",
    ".venv/bin/pytest -m 'not slow'": "runs most of this",
    "python3 -m pip wheel --wheel-dir wheels . setuptools": "needs a network; what it makes is used offline",
}
"""What no test can run, and why not."""


def _without_comment(line: str) -> str:
    return line.partition(" # ")[0].strip()


def test_every_command_is_run_by_a_test() -> None:
    """A command that is new in the documents fails here until a test runs it, as does one that has gone."""
    written = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        written |= {*lines_for_a_shell(document), *spans(text), *indented(text)}
    run = {_without_comment(command) for commands in RUN_BY.values() for command in commands}
    assert written == run | BY_HAND.keys()


def test_tests_that_run_them_exist() -> None:
    """None of the names above is out of date."""
    for name in RUN_BY:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in names, name


def by_hand(folder: Path, base_url: str) -> Station:
    """A station without a daemon, for who types in its folder."""
    (folder / "scans" / "drop").mkdir(parents=True)
    (folder / "token").write_text("right-token")
    (folder / "config.toml").write_text(CONFIG.format(base_url=base_url, folder=folder))
    return Station(folder)


def test_files_are_added_and_split_by_hand(tmp_path: Path) -> None:
    """Two files are copied in with what was said of them, and a large one is split in the folder."""
    here = by_hand(tmp_path, "http://127.0.0.1:1/api")
    for name in ("a", "b"):
        write_zip(tmp_path / "scans" / f"{name}.zip")
    write_zip(tmp_path / "math-12b.zip", sheets=4000, size=4000)
    for line in block("sh", "omrwatchd add").splitlines():
        done = here.run(line)
        assert (done.returncode, done.stderr) == (0, ""), line
    assert sorted(path.name for path in (tmp_path / "scans" / "drop").iterdir()) == [
        "a.zip", "a.zip.toml", "b.zip", "b.zip.toml",
    ]  # fmt: skip
    assert len(list((tmp_path / "parts").glob("*.zip"))) == 2


@pytest.mark.slow
def test_daemon_is_run_by_hand(tmp_path: Path) -> None:
    """It delivers what is there and exits; and without that wish it runs until it is stopped."""
    until_idle, for_ever = "omrwatchd run --until-idle", "omrwatchd run"
    assert {until_idle, for_ever} <= set(lines_for_a_shell(OPERATIONS))
    with Receiver(tmp_path / "server", token="right-token") as receiver:
        here = by_hand(tmp_path, receiver.base_url)
        write_zip(tmp_path / "scans" / "drop" / "a.zip")
        done = here.run(until_idle)
        assert done.returncode == 0, done.stderr
        assert [batch.filename for batch in receiver.batches] == ["a.zip"]
        done = here.run(f"timeout --preserve-status --signal=TERM 5 {for_ever}")
        assert done.returncode == 0, done.stderr
        assert "SIGTERM" in done.stderr


def test_lines_and_settings_for_prometheus_work(tmp_path: Path) -> None:
    """The rules are checked as it is written, and the example of a prometheus.yml with them in it."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    [line] = block("sh", "promtool").splitlines()
    (tmp_path / "prometheus.yml").write_text(block("yaml", "# prometheus.yml"))
    rules = ROOT / "deploy" / "prometheus" / "omrwatchd.rules.yml"
    (tmp_path / rules.name).write_text(rules.read_text())
    for command, folder in ((line, ROOT), ("promtool check config prometheus.yml", tmp_path)):
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    [comment] = re.findall(r"^# (promtool .*)$", rules.read_text(), re.MULTILINE)
    assert line.endswith(comment)


def test_examples_in_deploy_are_those_of_the_documents() -> None:
    """The line for /etc/fstab stands in two places, as do the lines that follow a drop-in."""
    examples = ROOT / "deploy" / "systemd" / "examples"
    [cifs, _nfs] = [line.split() for line in block("text", "/etc/fstab").splitlines()[1:]]
    share, folders = ((examples / f"{name}.conf").read_text() for name in ("share", "folders"))
    assert " ".join(cifs) in share
    # mount.cifs(8): without the 0 in front a mode is a decimal number
    assert re.findall(r"_mode=(\d+)", " ".join(cifs)) == ["0660", "02770"]
    assert "systemctl daemon-reload && systemctl restart omrwatchd" in share
    assert "systemctl daemon-reload && systemctl restart omrwatchd" in folders
