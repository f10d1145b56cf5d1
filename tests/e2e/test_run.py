from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip


def test_dropped_files_are_delivered_and_filed(machine: Machine) -> None:
    """A small and a large ZIP arrive with their SHA-256, lie in done/, and have a summary line each."""
    process = machine.start()
    sums = {}
    for name, size in (("small.zip", 5_000), ("large.zip", 6 * MIB)):
        path = write_zip(machine.folder / name, size=size, sheets=7)
        sums[name] = sha256(path)
        path.rename(machine.drop / name)
    lines = machine.await_summary(2)
    assert machine.stop(process) == 0
    assert {batch.filename: batch.sha256 for batch in machine.receiver.batches} == sums
    assert machine.names("done") == ["large.zip", "small.zip"]
    assert machine.names("drop") == []
    assert [(line["status"], line["sheets"]) for line in lines] == [("completed", 7)] * 2
    assert machine.receiver.max_concurrent <= 4


def test_files_that_lay_there_before_the_start_are_delivered(machine: Machine) -> None:
    """`run --until-idle` drains the folder and exits with 0."""
    for number in range(3):
        write_zip(machine.drop / f"scan-{number}.zip")
    process = machine.start("--until-idle")
    assert process.wait(30) == 0
    assert machine.names("done") == ["scan-0.zip", "scan-1.zip", "scan-2.zip"]
    assert len(machine.summary()) == 3
    assert process.poll() == 0


def test_delivery_goes_on_without_a_log(machine: Machine) -> None:
    """A reader of the log that goes away, as a killed `tee`, takes no file with it."""
    ears, mouth = os.pipe()
    process = subprocess.Popen(machine.command("run"), stderr=mouth, stdin=subprocess.DEVNULL)
    machine.running.append(process)
    os.close(mouth)
    assert os.read(ears, 4096)
    os.close(ears)
    write_zip(machine.drop / "scan.zip")
    machine.await_summary(1, 20)
    assert machine.names("done") == ["scan.zip"]
    process.terminate()
    process.wait(5)


def test_growing_file_is_waited_for(machine: Machine) -> None:
    """A ZIP written in pieces, with pauses longer than one scan, is uploaded once and whole."""
    whole = write_zip(machine.folder / "whole.zip", size=400_000)
    data = whole.read_bytes()
    machine.start()
    pause = threading.Event()
    with (machine.drop / "scan.zip").open("wb") as file:
        for start in range(0, len(data), 100_000):
            file.write(data[start : start + 100_000])
            file.flush()
            pause.wait(0.4)  # the scanner at work: shorter than settle_seconds, longer than a scan
    machine.await_summary(1)
    assert [batch.sha256 for batch in machine.receiver.batches] == [sha256(whole)]


def test_bad_files_go_to_failed_with_a_sentence_each(machine: Machine) -> None:
    """Cut off, empty, without pictures: each in failed/ with its reason; the good one is delivered."""
    machine.configure(give_up=1)
    good = write_zip(machine.drop / "good.zip", size=50_000)
    (machine.drop / "cut.zip").write_bytes(good.read_bytes()[:25_000])
    (machine.drop / "empty.zip").touch()
    shutil.make_archive(str(machine.drop / "letters"), "zip", Path(__file__).parent)
    process = machine.start("--until-idle")
    assert process.wait(30) == 0
    assert machine.names("done") == ["good.zip"]
    bad = ["cut.zip", "empty.zip", "letters.zip"]
    assert machine.names("failed") == sorted([*bad, *(f"{name}.error.txt" for name in bad)])
    texts = {name: (machine.folder / "failed" / f"{name}.error.txt").read_text() for name in bad}
    assert "not a complete ZIP" in texts["cut.zip"]
    assert "empty" in texts["empty.zip"]
    assert "no pictures" in texts["letters.zip"].lower() or "no sheet" in texts["letters.zip"].lower()
    assert [line["status"] for line in machine.summary()].count("error") == 3
    jobs = {job["name"]: job for job in machine.status()["jobs"]}
    assert jobs["cut.zip"]["error"]["code"] == "not_a_zip"
    assert jobs["cut.zip"]["error"]["summary"] in texts["cut.zip"]


def test_sigterm_in_mid_upload_and_the_next_start_goes_on(machine: Machine) -> None:
    """A stop exits 0 within 5 s while an answer is awaited; the next run sends only what is missing."""
    machine.receiver.add_fault(Fault(match="chunk", chunk_index=5, action="delay", seconds=30))
    path = write_zip(machine.folder / "scan.zip", size=9 * MIB)
    before = sha256(path)
    path.rename(machine.drop / "scan.zip")
    process = machine.start()
    until(lambda: len(machine.log("chunk_acknowledged")) == 8)
    assert machine.status()["worker"]["state"] == "uploading"
    assert machine.stop(process) == 0
    stopped = machine.status()
    assert stopped["worker"]["state"] == "stopped"
    assert [job["status"] for job in stopped["jobs"]] == ["pending"]
    first = len(machine.receiver.requests)
    assert machine.start("--until-idle").wait(30) == 0
    assert {r.chunk_index for r in machine.receiver.requests[first:]} == {5, 9}
    assert [batch.sha256 for batch in machine.receiver.batches] == [before]


def test_kill_in_mid_upload_and_the_next_start_goes_on(machine: Machine) -> None:
    """After SIGKILL the next run resumes at the missing chunks: one batch, whole, one summary line."""
    machine.receiver.add_fault(Fault(match="chunk", chunk_index=5, action="delay", seconds=30))
    path = write_zip(machine.folder / "scan.zip", size=9 * MIB)
    before = sha256(path)
    path.rename(machine.drop / "scan.zip")
    process = machine.start()
    until(lambda: len(machine.log("chunk_acknowledged")) == 8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = len(machine.receiver.requests)
    assert machine.start("--until-idle").wait(30) == 0
    assert {r.chunk_index for r in machine.receiver.requests[first:]} == {5, 9}
    assert [batch.sha256 for batch in machine.receiver.batches] == [before]
    assert len(machine.summary()) == 1


def test_second_daemon_is_refused(machine: Machine) -> None:
    """A second `run` on the same queue exits 1 with one sentence; the first goes on."""
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "idle")
    second = machine.call("run")
    assert second.returncode == 1
    assert "already works on this queue" in second.stderr
    assert "Traceback" not in second.stderr
    assert machine.stop(process) == 0


def test_status_has_the_promised_shape(machine: Machine) -> None:
    """`status --json` prints the object that the documentation promises, before and after a delivery."""
    empty = machine.status()
    assert empty["worker"]["state"] == "stopped"
    assert (empty["jobs"], empty["arriving"]) == ([], [])
    write_zip(machine.drop / "scan.zip", sheets=4)
    assert machine.start("--until-idle").wait(30) == 0
    document = machine.status()
    assert set(document) == {"worker", "jobs", "arriving"}
    assert set(document["worker"]) == {"state", "reason", "cooldown_left", "heartbeat"}
    [job] = document["jobs"]
    [part] = job.pop("parts")
    size = job["bytes"]
    assert job == {
        "id": 1,
        "name": "scan.zip",
        "status": "completed",
        "bytes": size,
        "bytes_sent": size,
        "sheets": 4,
        "attempts": 1,
        "upload_type": "zip_with_qr",
        "task_id": None,
        "path": str(machine.folder / "done" / "scan.zip"),
        "error": None,
    }
    assert part == {
        "index": 0,
        "sheets": 4,
        "bytes": size,
        "status": "completed",
        "batch_id": machine.receiver.batches[0].batch_id,
    }
    assert "scan.zip" in machine.call("status").stdout
    assert machine.call("summary").returncode == 0
    assert "scan.zip" in machine.call("summary", "--format", "csv").stdout


def test_arriving_file_is_shown(machine: Machine) -> None:
    """A file that is not finished is listed as arriving, with the reason."""
    whole = write_zip(machine.folder / "whole.zip", size=50_000).read_bytes()
    (machine.drop / "half.zip").write_bytes(whole[:30_000])
    machine.start()
    until(lambda: "not a complete ZIP" in str(machine.status()["arriving"]))
    [file] = machine.status()["arriving"]
    assert (file["name"], file["bytes"]) == ("half.zip", 30_000)


def test_names_that_are_no_utf8_and_have_line_breaks_go_through(machine: Machine) -> None:
    """A Latin-1 name and one with a line break and quotes are delivered, logged and filed as they are."""
    names = [b"Pr\xfcfung.zip", b'a "b"\n.zip']
    for seed, name in enumerate(names):
        path = write_zip(machine.folder / "x.zip", seed=seed)
        os.rename(path, os.path.join(os.fsencode(machine.drop), name))
    assert machine.start("--until-idle").wait(30) == 0
    assert sorted(os.listdir(os.fsencode(machine.folder / "done"))) == sorted(names)
    assert len(machine.receiver.batches) == 2
    assert len(machine.log("file_completed")) == 2
    assert len(machine.status()["jobs"]) == 2
    assert machine.call("status").returncode == 0


def test_token_reaches_no_log_and_no_output(machine: Machine) -> None:
    """Neither debug log, status, check, doctor nor an error text holds the token, accepted or rejected."""
    (machine.folder / "token").write_text("t0p-s3cret")
    write_zip(machine.drop / "scan.zip")
    process = machine.start()
    until(lambda: machine.log("queue_held"))
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    outputs = [machine.call(word).stdout for word in ("status", "check", "doctor")]
    assert machine.stop(process) == 0
    assert b"t0p-s3cret" not in arguments + (machine.folder / "log.jsonl").read_bytes()
    assert "t0p-s3cret" not in "".join(outputs)


@pytest.mark.parametrize(
    ("command", "spoil", "words"),
    [
        ("check", "unknown", "unknown setting upload.chunk_sice"),
        ("check", "nested", "inside watch.done"),
        ("check", "no config", "There is no configuration file"),
        ("run", "unknown", "unknown setting upload.chunk_sice"),
        ("run", "missing folder", "watch.drop"),
        ("run", "no token", "server.token_file"),
        ("run", "nested", "inside watch.done"),
        ("run", "no config", "There is no configuration file"),
    ],
)
def test_bad_configuration_is_one_sentence_and_exit_2(
    machine: Machine, command: str, spoil: str, words: str
) -> None:
    """`check` and `run` name the key and end with 2, without a traceback."""
    config = machine.folder / "config.toml"
    text = config.read_text()
    if spoil == "unknown":
        config.write_text(text.replace("chunk_size", "chunk_sice"))
    elif spoil == "missing folder":
        machine.drop.rmdir()
    elif spoil == "no token":
        (machine.folder / "token").unlink()
    elif spoil == "nested":
        config.write_text(text + f'done = "{machine.folder}"\n')
    else:
        config.unlink()
    result = machine.call(command)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_folder_that_can_not_be_written_is_named(machine: Machine) -> None:
    """`run` by a user without rights names the folder's key and exits 2."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    config = machine.folder / "config.toml"
    open_folder = Path("/tmp") / f"omrwatchd-test-{os.getpid()}"
    shutil.copytree(machine.folder / "drop", open_folder / "drop")
    try:
        (open_folder / "token").write_text("t")
        (open_folder / "token").chmod(0o644)
        text = config.read_text().replace(str(machine.folder), str(open_folder))
        (open_folder / "config.toml").write_text(text)
        for folder in (open_folder, open_folder / "drop"):
            folder.chmod(0o755)
        program = (
            "import os, sys; from omrwatchd.cli.main import entry;"
            "import encodings.utf_8_sig, omrwatchd.ops.preflight, omrwatchd.service, omrwatchd.settings;"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
            f"sys.argv = ['omrwatchd', '--config', '{open_folder}/config.toml', 'run']; entry()"
        )
        python = machine.command()[0]
        result = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        assert result.returncode == 2, result.stderr
        assert "watch.drop" in result.stderr
        assert "can't be written" in result.stderr
        assert "Traceback" not in result.stderr
    finally:
        shutil.rmtree(open_folder)


def writer_of(fifo: Path) -> int:
    """As soon as somebody reads it."""

    def being_read() -> int | None:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: nobody reads yet
            return None

    descriptor = until(being_read)
    assert descriptor is not None
    return descriptor


def test_sigterm_while_it_still_starts_is_a_clean_stop(machine: Machine) -> None:
    """A stop before the daemon is up ends it with 0, too: here while it reads its configuration."""
    config = machine.folder / "config.toml"
    config.unlink()
    os.mkfifo(config)
    process = machine.start()
    writer = writer_of(config)
    try:
        assert machine.stop(process) == 0
    finally:
        os.close(writer)
    assert (machine.folder / "log.jsonl").read_text() == ""


def test_sighup_while_it_still_starts_is_a_reload_once_it_has(machine: Machine) -> None:
    """It ends nothing, and what was changed since the configuration was read is not forgotten."""
    config = machine.folder / "config.toml"
    text = config.read_text()
    config.unlink()
    os.mkfifo(config)
    process = machine.start()
    writer = writer_of(config)
    process.send_signal(signal.SIGHUP)
    config.unlink()
    config.write_text(text)
    os.write(writer, text.encode())
    os.close(writer)
    until(lambda: machine.log("config_reloaded"))
    assert len(machine.log("daemon_started")) == 1
    assert machine.stop(process) == 0


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--dir", "/proc/none", "--token", "t", "--port", "0"], 1, "/proc/none"),
        (["--dir", "{folder}", "--token", " ", "--port", "0"], 2, "--token is empty"),
        (["--dir", "{folder}", "--token", "t", "--host", "203.0.113.1", "--port", "0"], 1, "203.0.113.1"),
    ],
)
def test_receiver_that_can_not_work_says_so(
    machine: Machine, words: list[str], code: int, sentence: str
) -> None:
    """A folder, a token or an address that can't be used: one sentence, no traceback."""
    result = machine.call("receiver", *(word.format(folder=machine.folder / "r") for word in words))
    assert result.returncode == code
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", ["folder", "unreadable"])
def test_config_that_is_no_readable_file_is_one_sentence(machine: Machine, kind: str) -> None:
    """A folder in its place (or none that can be read) is said as every other mistake is."""
    config = machine.folder / "config.toml"
    config.unlink()
    config.mkdir()
    if kind == "unreadable":
        config.rmdir()
        config.symlink_to(config)
    result = machine.call("status")
    assert result.returncode == 2
    assert f"The configuration {config} can't be read" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
