"""Whatever dies, and whenever: each dropped file ends exactly once, and an outage costs nobody any work.

More of it by hand: SOAK_SEED=7 SOAK_FILES=200 SOAK_SECONDS=400 python -m pytest tests/e2e/test_soak.py -n0 -s
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Machine
from tests.e2e.soak.account import Account
from tests.e2e.soak.scanner import Scanner
from tests.e2e.soak.station import ServerProcess, Station

SEED = os.environ.get("SOAK_SEED", "1")
FILES = int(os.environ.get("SOAK_FILES", "20"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "25"))


@pytest.fixture
def station(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Station]:
    (tmp_path / "drop").mkdir()
    (tmp_path / "token").write_text("token-1")
    server = ServerProcess(tmp_path / "server", "token-1", SEED)
    machine = Machine(tmp_path, server)  # type: ignore[arg-type]
    try:
        yield Station(machine, server, SEED, looks_up=request.param)
    finally:
        for process in machine.running:
            if process.poll() is None:
                process.kill()
            process.wait()
        server.close()


@pytest.mark.timeout(3 * SECONDS + 10 * FILES + 120)
@pytest.mark.parametrize("station", [False, True], ids=["review", "lookup"], indirect=True)
def test_soak(station: Station) -> None:
    """Kills, stops, reloads, outages and commands at random moments, while files come in all ways."""
    scanner = Scanner(station.machine.folder, SEED, FILES, SECONDS)
    station.storm(scanner, SECONDS)
    station.drain(60 + 3 * FILES)
    account = Account(station, scanner.dropped)
    complaints = station.complaints + account.complaints()
    print(f"\n{summary_of(account)}")
    assert not complaints, "\n".join(complaints)
    look_on_the_server(station, account)
    station.end()
    complaints = Account(station, scanner.dropped).complaints()
    assert not complaints, "\n".join(complaints)


def look_on_the_server(station: Station, account: Account) -> None:
    """A person has what is in doubt, and not there, sent again: nothing stays undelivered."""
    made = {batch["name"] for batch in account.batches}
    for job in account.jobs:
        missing = [part for part in job["parts"] if part["name"] not in made]
        if job["error_code"] == "outcome_unknown" and len(missing) == sum(
            not part["batch_id"] for part in job["parts"]
        ):
            station.force(job["id"])
    station.drain(120)


def summary_of(account: Account) -> str:
    ends = Counter(job["error_code"] or job["status"] for job in account.jobs)
    fates = Counter(line["fate"] for line in account.requests)
    what = Counter(kind for _, kind in account.station.events)
    stops = sorted((round(stop.seconds, 2) for stop in account.station.stops), reverse=True)
    lines = [f"files {dict(ends)}", f"requests {dict(fates)}", f"events {dict(what)}", f"stops {stops[:10]}"]
    return "\n".join([*lines, *account.explained])
