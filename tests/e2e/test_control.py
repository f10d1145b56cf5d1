from __future__ import annotations

from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import sha256, write_zip


def test_cancel_and_retry_of_a_running_upload(machine: Machine) -> None:
    """A cancel ends the upload within a second and files the ZIP; a retry delivers it from there."""
    machine.receiver.add_fault(Fault(match="chunk", chunk_index=1, action="delay", seconds=30))
    before = sha256(write_zip(machine.drop / "scan.zip", size=4 * MIB))
    machine.start()
    until(lambda: len(machine.log("chunk_acknowledged")) == 3)
    assert "being cancelled" in machine.call("cancel", "1").stdout
    until(lambda: machine.names("failed") == ["scan.zip", "scan.zip.error.txt"])
    assert machine.receiver.batches == []
    machine.await_summary(1)
    again = machine.call("cancel", "1")
    assert (again.returncode, again.stderr) == (1, "omrwatchd: scan.zip is aborted and can't be cancelled.\n")
    assert "queued again" in machine.call("retry", "1").stdout
    until(lambda: machine.names("done") == ["scan.zip"] and machine.names("failed") == [])
    assert [batch.sha256 for batch in machine.receiver.batches] == [before]


def test_commands_work_while_the_daemon_is_stopped(machine: Machine) -> None:
    """Pause, prioritise, cancel a waiting file; the next start does as it was told; resume goes on."""
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "idle")
    assert "nothing new" in machine.call("pause").stdout
    for name in ("a.zip", "b.zip", "c.zip"):
        write_zip(machine.drop / name)
        until(lambda name=name: name in str(machine.status()["jobs"]))
    assert machine.stop(process) == 0
    assert "goes next" in machine.call("prioritise", "3").stdout
    assert "is cancelled" in machine.call("cancel", "1").stdout
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "paused")
    until(lambda: "a.zip" in machine.names("failed"))
    assert machine.receiver.batches == []
    machine.call("resume")
    machine.await_summary(3)
    assert [batch.filename for batch in machine.receiver.batches] == ["c.zip", "b.zip"]


def test_unknown_outcome_is_only_sent_again_by_force(machine: Machine) -> None:
    """retry asks to look at the server first; --force sends it; clear empties the list."""
    machine.receiver.add_fault(Fault(match="upload", action="lose_answer"))
    write_zip(machine.drop / "scan.zip")
    assert machine.start("--until-idle").wait(30) == 0
    refused = machine.call("retry", "1")
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert "queued again" in machine.call("retry", "1", "--force").stdout
    assert machine.start("--until-idle").wait(30) == 0
    assert len(machine.receiver.batches) == 2
    assert "1 finished file is cleared" in machine.call("clear").stdout
    assert machine.status()["jobs"] == []
    write_zip(machine.drop / "scan.zip")
    assert machine.start("--until-idle").wait(30) == 0
    assert machine.status()["jobs"][0]["error"]["code"] == "duplicate"


def test_wrong_words_get_one_sentence(machine: Machine) -> None:
    """No queue yet, an unknown id, a retry without an id: a sentence and the right exit code."""
    assert machine.call("cancel", "1").returncode == 1
    assert machine.start("--until-idle").wait(30) == 0
    for words, code in ((("cancel", "9"), 1), (("retry",), 2), (("prioritise", "x"), 2)):
        result = machine.call(*words)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
    assert "no file with the id 9" in machine.call("cancel", "9").stderr


def test_cancel_of_a_delivered_file_while_stopped_names_its_batch(machine: Machine) -> None:
    """Stopped at the gate, then cancelled: the record and the text beside the ZIP name its batch."""
    text = (machine.folder / "config.toml").read_text()
    gate = '[processing]\nstatus_path = "/processing/status"\nbusy_field = "queue.busy"\npoll_seconds = 1\n'
    (machine.folder / "config.toml").write_text(gate + text)
    machine.receiver.busy_polls = 1000
    write_zip(machine.drop / "scan.zip")
    process = machine.start()
    until(lambda: machine.status()["worker"]["state"] == "processing")
    assert machine.stop(process) == 0
    assert "put into the failed folder" in machine.call("cancel", "1").stdout
    machine.start()
    [line] = machine.await_summary(1)
    assert (line["status"], len(line["batch_ids"])) == ("aborted", 1)
    assert "it is on the server as batch" in line["error"]["summary"]
    assert line["batch_ids"][0] in (machine.folder / "failed" / "scan.zip.error.txt").read_text()


def test_commands_say_what_they_did_or_why_not(machine: Machine) -> None:
    """Each command on a delivered file: what makes no sense there is one sentence and exit code 1."""
    process = machine.start()
    write_zip(machine.drop / "scan.zip")
    machine.await_summary(1)
    for words, said in (
        (("cancel", "1"), "scan.zip is completed and can't be cancelled."),
        (("retry", "1"), "scan.zip is completed and can't be tried again."),
        (("prioritise", "1"), "scan.zip is completed and can't be moved up."),
        (("remove", "7"), "There is no file with the id 7."),
    ):
        done = machine.call(*words)
        assert (done.returncode, done.stdout, said in done.stderr) == (1, "", True), done.stderr
        assert done.stderr.count("\n") == 1
    for words, said in (
        (("retry", "--failed"), "Nothing has failed."),
        (("pause",), "Paused"),
        (("resume",), "goes on"),
        (("reset", "--yes"), "No file waits"),
        (("remove", "1"), "scan.zip is removed from the list."),
    ):
        done = machine.call(*words)
        assert (done.returncode, done.stderr, said in done.stdout) == (0, "", True), done.stdout
    assert machine.status()["jobs"] == []
    assert machine.stop(process) == 0
