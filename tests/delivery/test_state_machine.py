"""The queue's and the worker's rules against a server, a disk and an operator that do their worst.

A real store, worker, pool and filing; the server is a script. A crash is an exception that no code of ours
catches, after which nothing but the database and the files is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event as Bell
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from omrwatchd.delivery.closing import Closing
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.desk import Tools
from omrwatchd.delivery.filing import Filing
from omrwatchd.delivery.last_answer import LastAnswer
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.probe import Probe
from omrwatchd.delivery.processing import ProcessingGate
from omrwatchd.delivery.retry import Pause
from omrwatchd.delivery.summary import SummaryLog
from omrwatchd.delivery.upload import Road
from omrwatchd.delivery.worker import Worker
from omrwatchd.errors import Problem
from omrwatchd.intake.parts import parts_of
from omrwatchd.model import ACTIVE, FINAL, Identity, Job, NewJob, NewPart, Status
from omrwatchd.queue.control import Control
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import Settings, Split, Upload
from omrwatchd.sheets.archive import Archive, read_archive
from omrwatchd.sheets.part import VirtualPart
from omrwatchd.sheets.source import FileSource
from omrwatchd.sheets.split import PartPlan, layout
from tests.delivery.scripted import DEEDS, Crash, ScriptedServer
from tests.sources import sent
from tests.zips import write_zip

EXAMPLES = int(os.environ.get("DELIVERY_EXAMPLES", "40"))
CHUNK = 1000
TALLY: Counter[str] = Counter()
"""What the machines of a run have been through."""
PATIENCE = 60
"""Rests behind the script's last deed, half an hour of them, after which a worker is held for good."""


class PassingClock:
    """Waits pass at once, and a rest that follows others is a longer one: a machine may sleep.

    Worn out by too many rests, or by nothing to do, it ends the worker.
    """

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self._lock = threading.Lock()
        self.rests = 0
        self.worker: Worker | None = None
        self.store: Store | None = None
        self.server: ScriptedServer | None = None
        self._deeds_left = 0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: Bell, seconds: float | None) -> bool:
        if event.is_set():
            return True
        with self._lock:
            self.time += (seconds or 0.0) * (1 + self.rests)
        if self.worker is not None and event is self.worker.bell:
            assert self.store is not None
            assert self.server is not None
            left, self._deeds_left = self._deeds_left, len(self.server.script)
            self.rests = self.rests + 1 if left == self._deeds_left else 0
            if self.rests > PATIENCE or not self.store.busy():
                self.worker.stop()
        return event.is_set()


class Deliveries(RuleBasedStateMachine):
    """Rules: files come, a script for the server is laid, the daemon runs, operators interfere."""

    template: Path

    @initialize(
        edge=st.sampled_from([None, 300]),
        on_unknown=st.sampled_from(["review", "resend"]),
        lookup=st.booleans(),
    )
    def begin(self, edge: int | None, on_unknown: str, lookup: bool) -> None:
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
        self.drop = self.folder / "drop"
        self.drop.mkdir()
        shutil.copy(self.template, self.folder / "queue.db")
        (self.folder / "token").write_text("token-0")
        self.settings = Settings(  # type: ignore[call-arg]
            server={"base_url": "http://server/api", "token_file": self.folder / "token"},  # type: ignore[arg-type]
            queue={"path": self.folder / "queue.db", "cooldown_seconds": 5},  # type: ignore[arg-type]
            summary={"path": self.folder / "summary.jsonl"},  # type: ignore[arg-type]
            watch=({"drop": self.drop, "status_board": False},),  # type: ignore[arg-type]
        )
        plain = {name: field.default for name, field in Upload.model_fields.items()}
        chosen = {
            "chunk_size": CHUNK,
            "direct_limit": 1800,
            "edge_chunk_size": edge,
            "on_unknown": on_unknown,
        }
        self.upload = Upload.model_construct(**(plain | chosen))
        self.lookup_path = "/lookup/{upload_id}" if lookup else ""
        self.clock = PassingClock()
        self.engine = open_database(self.folder / "queue.db", create=True)
        self.quick = open_quick(self.folder / "queue.db")
        self.store = self.clock.store = Store(self.engine, self.clock)
        self.control = Control(self.engine, self.clock)
        self.server = self.clock.server = ScriptedServer(self.deed)
        self.pool = ThreadPoolExecutor(4)
        self.files: dict[str, list[bytes]] = {}
        """What each file held, by its name, over time."""
        self.batches: dict[str, tuple[str, list[bytes]]] = {}
        """Of each batch that may be made, by its name: its file, and what it may hold."""
        self.words: dict[str, int] = {}
        """How often an operator asked for a file with --force."""
        self.removed: set[str] = set()
        self.made = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            TALLY.update(self.server.deeds)
            TALLY["files"] += self.made
            TALLY["batches"] += len(self.server.batches)
            self.pool.shutdown()
            self.quick.dispose()
            self.engine.dispose()
            shutil.rmtree(self.folder)

    # what happens

    @rule(chunks=st.integers(1, 6), odd=st.integers(1, CHUNK))
    def drop_file(self, chunks: int, odd: int) -> None:
        self.made += 1
        name = f"scan-{self.made:03}.zip"
        path = self.drop / name
        path.write_bytes(random.Random(name).randbytes((chunks - 1) * CHUNK + odd))
        self.admit(path, None)

    @rule(sheets=st.integers(3, 7), size=st.integers(300, 900))
    def drop_parts(self, sheets: int, size: int) -> None:
        """Two sheets a part: some go in one request, some in chunks."""
        self.made += 1
        path = write_zip(self.drop / f"scan-{self.made:03}.zip", sheets=sheets, size=sheets * size)
        with path.open("rb") as file:
            self.admit(path, read_archive(file.fileno(), path.name))

    @rule()
    def settle_again(self) -> None:
        """As intake does with a file that was changed, once no row is open for it."""
        for path in sorted(self.drop.glob("*.zip")):
            if self.is_changed(path) and os.fsencode(path) not in self.store.open_paths():
                self.admit(path, None)

    def admit(self, path: Path, archive: Archive | None) -> None:
        content, found = path.read_bytes(), path.stat()
        self.files.setdefault(path.name, []).append(content)
        parts = (
            (NewPart(path.name, 1, len(content)),)
            if archive is None
            else parts_of(path.name, archive, Split(max_sheets=2))
        )
        for number, part in enumerate(parts):
            held = content if archive is None else self.part_of(path, archive, number, part)
            self.batches.setdefault(part.name, (path.name, []))[1].append(held)
        self.store.admit(
            NewJob(
                path=os.fsencode(path),
                name=path.name,
                watch="default",
                identity=Identity(found.st_size, found.st_mtime_ns, found.st_ino),
                sheets=sum(part.sheets for part in parts),
                fingerprint=None if archive is None else archive.fingerprint,
                parts=parts,
            )
        )

    def part_of(self, path: Path, archive: Archive, number: int, part: NewPart) -> bytes:
        found = path.stat()
        with path.open("rb") as file:
            whole = FileSource(file.fileno(), found.st_size, found.st_mtime_ns)
            plan = PartPlan(number, part.name, part.first_sheet, part.stop_sheet)
            return sent(VirtualPart(whole, layout(archive, plan)), 0, part.size)

    @rule(deeds=st.lists(st.sampled_from(DEEDS), min_size=1, max_size=8))
    def lay_script(self, deeds: list[str]) -> None:
        self.server.script.extend(deeds)

    @rule(
        chunks=st.lists(st.integers(1, 6), max_size=3),
        deeds=st.lists(st.sampled_from(DEEDS), max_size=8),
    )
    def run_daemon(self, chunks: list[int], deeds: list[str]) -> None:
        """Until nothing is left to do, it is held for good, or it crashes: a restart each time."""
        for number in chunks:
            self.drop_file(number, CHUNK // 2)
        self.server.script.extend(deeds)
        self.clock.rests = 0
        row = WorkerRow(self.engine, self.quick, self.clock)
        row.register()
        credentials = Credentials(self.settings.server)
        road = Road(
            transport=self.server,
            credentials=credentials,
            ledger=Ledger(self.engine, self.quick, self.clock),
            settings=self.upload,
            clock=self.clock,
            announce=lambda _event: None,
            pool=self.pool,
            pause=Pause(self.clock),
            limit=RateLimit(self.upload, self.clock),
            last_answer=LastAnswer(self.server, credentials, self.clock, self.lookup_path),
            probe=Probe(self.server, credentials, "", self.clock),
        )
        filing = Filing(self.store, self.clock, self.settings.watch_named)
        summary = SummaryLog(self.settings.summary_file)
        tools = Tools(
            settings=self.settings,
            store=self.store,
            row=row,
            road=road,
            gate=ProcessingGate(self.server, credentials, self.settings.processing),
            closing=Closing(self.store, filing, summary, self.clock, lambda _event: None),
            clock=self.clock,
        )
        self.clock.worker = Worker(tools, lambda _name, _death: None)
        with contextlib.suppress(Crash):
            self.clock.worker.run()
        self.clock.worker = None
        self.store.close()

    # What is drawn, and whether a rule may run, must not depend on what the four threads made of the script:
    # the same choices would mean another run when they are taken again. Hence a number, and no precondition.

    @rule(nth=st.integers(0, 30), force=st.booleans())
    def retry(self, nth: int, force: bool) -> None:
        ended = [job for job in self.jobs() if job.status in (Status.ERROR, Status.ABORTED)]
        if ended:
            job = ended[nth % len(ended)]
            if os.path.exists(job.path):
                with contextlib.suppress(Problem):
                    self.control.retry(job.id, force=force)
                    self.words[job.name] = self.words.get(job.name, 0) + force

    @rule(nth=st.integers(0, 30))
    def cancel(self, nth: int) -> None:
        waiting = [job for job in self.jobs() if job.status is Status.PENDING]
        if waiting:
            self.control.cancel(waiting[nth % len(waiting)].id)

    @rule(nth=st.integers(0, 30))
    def take_away(self, nth: int) -> None:
        waiting = [job for job in self.jobs() if job.status is Status.PENDING]
        if waiting:
            job = waiting[nth % len(waiting)]
            with contextlib.suppress(FileNotFoundError):
                os.unlink(job.path)
            self.removed.add(job.name)

    @rule()
    def mend_token(self) -> None:
        (self.folder / "token").write_text(self.server.token)

    def deed(self, deed: str) -> None:
        """What a scripted deed does beside the server; on the thread that sends."""
        if deed in ("expire", "lock_out"):
            self.server.token += "0"
        if deed == "expire":
            (self.folder / "token").write_text(self.server.token)
        if deed == "cancel":
            for job in self.jobs():
                if job.status in ACTIVE:
                    self.control.cancel(job.id)
        if deed == "change":
            for job in self.jobs():
                if job.status in ACTIVE and os.path.exists(job.path):
                    with open(job.path, "ab") as file:
                        file.write(b"more")

    # what holds, whatever happens

    def jobs(self) -> list[Job]:
        return list(Views(self.folder / "queue.db", self.clock).snapshot(everything=True).jobs)

    @invariant()
    def no_second_batch_without_an_operators_word(self) -> None:
        made = Counter((name, content) for _, name, content in self.server.batches)
        for (name, _), count in made.items():
            assert count <= 1 + self.words.get(self.batches[name][0], 0), f"{name}: {count}"

    @invariant()
    def what_was_assembled_is_the_source(self) -> None:
        for batch_id, name, content in self.server.batches:
            assert content in self.batches[name][1], batch_id

    @invariant()
    def the_final_chunk_came_after_all_acknowledgements(self) -> None:
        assert not self.server.wrongs

    @invariant()
    def files_and_rows_agree(self) -> None:
        batches = {batch_id: name for batch_id, name, _ in self.server.batches}
        for job in self.jobs():
            for batch_id in job.batch_ids:
                assert batches[batch_id] in [part.name for part in job.parts]
            path = Path(os.fsdecode(job.path))
            if job.status is Status.COMPLETED:
                assert len(job.batch_ids) == len(job.parts)
                assert path.parent.name == "done" or job.name in self.removed
            if job.filed_at is not None and job.status in (Status.ERROR, Status.ABORTED):
                # a file that was changed meanwhile is another one: not ours to move, intake takes it anew
                anew = len(self.files[job.name]) > 1
                assert path.parent.name == "failed" or not path.exists() or anew or self.is_changed(path)
            if job.name not in self.removed:
                assert path.exists() or job.status in FINAL or job.filing_target is not None

    def is_changed(self, path: Path) -> bool:
        return path.read_bytes() != self.files[path.name][-1]

    @invariant()
    def no_scan_is_lost(self) -> None:
        """Each file lies in exactly one of the three folders, whole."""
        for name in self.files.keys() - self.removed:
            places = [
                place
                for folder in ("drop", "done", "failed")
                for place in (self.folder / folder).glob(f"{name.removesuffix('.zip')}*.zip")
                if place.stat().st_size > 0 or folder == "drop"
            ]
            assert len({place.name.split(".")[0] for place in places}) == 1, name
            assert len(places) == 1, places

    @invariant()
    def one_summary_line_an_ending(self) -> None:
        file = self.folder / "summary.jsonl"
        lines: list[Any] = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        )
        assert len({json.dumps(line) for line in lines}) == len(lines)
        for job in self.jobs():
            if job.status is Status.COMPLETED and job.summary_at is not None:
                assert [line["status"] for line in lines if line["id"] == job.id].count("completed") == 1


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new queue, made once: Alembic takes its time."""
    path = tmp_path_factory.mktemp("template") / "queue.db"
    engine = open_database(path, create=True)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


def run(template: Path, examples: int) -> None:
    Deliveries.template = template
    case = Deliveries.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # a failing run is told as it was: shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    case("runTest").runTest()


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_delivered_twice(template: Path) -> None:
    """Acks, drops, errors, expiries, crashes, cancels, changes in any order."""
    run(template, 5)


@pytest.mark.slow
@pytest.mark.timeout(120 + 15 * EXAMPLES)
def test_nothing_is_lost_or_delivered_twice_for_long(template: Path) -> None:
    """The same, for a while."""
    TALLY.clear()
    run(template, EXAMPLES)
    print(f"\n{EXAMPLES} examples: {dict(TALLY)}")  # noqa: T201 - the counts are what it is run for
    assert TALLY.keys() >= set(DEEDS)
