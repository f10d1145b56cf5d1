"""What it costs to tell people how far an upload is."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest

from omrwatchd.settings import MIB
from tests.e2e.conftest import Machine
from tests.waiting import until
from tests.zips import write_zip

_SYNC = re.compile(r"^\d+ +(\d+\.\d+) (?:fsync|fdatasync)\(", re.MULTILINE)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_progress_is_not_fsynced_and_comes_twice_a_second_at_most(machine: Machine) -> None:
    """In one long request: SQLite counts the commits of the queue, strace the fsyncs of the daemon."""
    machine.configure(direct_limit="64MiB", upload='\nmax_rate = "2MiB"')
    traced = machine.folder / "trace"
    command = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", "trace=fsync,fdatasync", "-o", str(traced)]
    with (machine.folder / "log.jsonl").open("ab") as log:
        process = subprocess.Popen([*command, *machine.command("run", "--until-idle")], stderr=log)
    machine.running.append(process)
    until(lambda: (machine.folder / "state" / "queue.db").exists(), what="the queue")
    write_zip(machine.drop / "scan.zip", size=16 * MIB)
    with closing(sqlite3.connect(machine.folder / "state" / "queue.db")) as queue:

        def sent() -> int:
            return int(queue.execute("SELECT coalesce(max(bytes_sent), 0) FROM parts").fetchone()[0])

        def commits() -> int:
            """A number that is another one after each commit of the daemon."""
            return int(queue.execute("PRAGMA data_version").fetchone()[0])

        until(lambda: sent() > 1 * MIB, 60, "the upload")
        began, seen, changes = time.time(), commits(), 0
        while sent() < 13 * MIB:
            changes += (now := commits()) != seen
            seen = now
            time.sleep(0.002)  # a commit is looked for much more often than one can come
        ended = time.time()
    assert process.wait(60) == 0
    syncs = [float(moment) for moment in _SYNC.findall(traced.read_text())]
    assert len([moment for moment in syncs if began <= moment <= ended]) == 0
    assert len(syncs) > 5, "the changes of state before and after it are fsynced"
    print(f"\n{changes} commits in {ended - began:.1f} s, {len(syncs)} fsyncs in all, none of them then")
    assert ended - began > 4
    assert ended - began < 2 * changes, "it is told all along"
    assert changes <= 2 * (ended - began) + 1
