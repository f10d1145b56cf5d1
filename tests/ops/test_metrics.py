"""Metrics: counted from events, read from the queue when asked, and never in anybody's way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from omrwatchd import __version__, events
from omrwatchd.clock import SystemClock
from omrwatchd.delivery.faults import RETRIED_CODES
from omrwatchd.errors import Problem
from omrwatchd.events import Event, Hooks
from omrwatchd.model import Identity, NewJob, NewPart, Status, WorkerState
from omrwatchd.ops.attendants import attendants
from omrwatchd.queue.database import open_database, open_quick
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import Store
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import ConfigProblem, Settings, load
from tests.ops.documents import ROOT
from tests.waiting import until

ONE_OF_EACH = (
    events.ChunkAcknowledged(1, 0, 0, 1000, 0.1),
    events.ChunkRetried(1, 0, 1, 1, 2.0, "server_error", "HTTP 503"),
    events.ChunkRetried(1, 0, 1, 2, 4.0, "connection_lost", "reset"),
    events.UploadRestarted(1, 0, "forgotten", "upload_forgotten"),
    events.ServerSlowedDown(5.0),
    events.BatchCreated(1, "a.zip", 0, "b-1", 4000, 3.0, 7),
    events.FileQueued(1, "a.zip", 4000, 7, 1, 5.5),
    events.FileCompleted(1, "a.zip", ("b-1",), 4000, 7, 3.0),
    events.FileFailed(2, "b.zip", "refused", "no"),
    events.FileRefused(3, "c.zip", 10, "not_a_zip", "no ZIP"),
    events.FileAborted(4, "d.zip", "cancelled", "cancelled"),
    events.FilingDelayed(5, "e.zip", "full"),
    events.QueueHeld("server_unreachable", "away"),
    events.NotifyFailed("queue_held", "exit code 1"),
    events.FilePruned(6, "f.zip", "/srv/done/f.zip", 10),
    events.DropFolderLost("default", "/srv/drop", "away"),
)


def settings_in(folder: Path, **sections: object) -> Settings:
    (folder / "drop").mkdir(exist_ok=True)
    table = {
        "server": {"base_url": "http://127.0.0.1:1", "token": "right-token"},
        "queue": {"path": folder / "queue.db"},
        "watch": ({"drop": folder / "drop"},),
    }
    return Settings(**(table | sections))  # type: ignore[arg-type]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[Hooks, str]]:
    """The metrics of a queue in ``folder``, as the daemon serves them: hooks to feed, and the address."""
    settings = settings_in(folder, metrics={"listen": "127.0.0.1:0"})
    announced: list[Event] = []
    deaths: list[BaseException] = []
    hooks = Hooks([announced.append])
    with attendants(settings, SystemClock(), hooks, lambda _name, death: deaths.append(death)):
        [told] = until(lambda: [each for each in announced if isinstance(each, events.MetricsServed)])
        yield hooks, f"http://{told.address}/metrics"
    assert not deaths


def scraped(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return str(answer.read().decode())


def samples(address: str) -> dict[str, float]:
    """Every sample by its name and labels, e.g. `x_total{code="a"}`."""
    found = {}
    for family in text_string_to_metric_families(scraped(address)):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    engine = open_database(tmp_path / "queue.db", create=True)
    yield Store(engine, SystemClock())
    engine.dispose()


def queued(store: Store, name: str, size: int) -> int:
    path, part = b"/srv/" + name.encode(), NewPart(name, 1, size)
    return store.admit(NewJob(path, name, "default", Identity(size, 1, 1), parts=(part,)))


def test_counters_follow_the_events(tmp_path: Path, store: Store) -> None:
    """What happens is counted: bytes, sheets, batches, retries and failures by their code."""
    with serving(tmp_path) as (hooks, address):
        for event in ONE_OF_EACH:
            hooks(event)
        found = samples(address)
    expected = {
        "omrwatchd_delivered_bytes_total": 4000,
        "omrwatchd_delivered_sheets_total": 7,
        "omrwatchd_batches_created_total": 1,
        "omrwatchd_chunks_acknowledged_total": 1,
        "omrwatchd_chunk_bytes_total": 1000,
        'omrwatchd_chunk_retries_total{code="server_error"}': 1,
        'omrwatchd_chunk_retries_total{code="connection_lost"}': 1,
        'omrwatchd_upload_restarts_total{code="upload_forgotten"}': 1,
        "omrwatchd_server_slowdowns_total": 1,
        "omrwatchd_files_queued_total": 1,
        "omrwatchd_files_completed_total": 1,
        'omrwatchd_files_failed_total{code="refused"}': 1,
        'omrwatchd_files_failed_total{code="not_a_zip"}': 1,
        'omrwatchd_files_aborted_total{code="cancelled"}': 1,
        "omrwatchd_filing_delays_total": 1,
        'omrwatchd_queue_holds_total{code="server_unreachable"}': 1,
        "omrwatchd_notify_failures_total": 1,
        "omrwatchd_files_pruned_total": 1,
        "omrwatchd_settle_seconds_sum": 5.5,
        "omrwatchd_batch_upload_seconds_sum": 3.0,
        'omrwatchd_drop_folder_available{watch="default"}': 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    [build] = [name for name in found if name.startswith("omrwatchd_build_info")]
    assert f'version="{__version__}"' in build


def test_gauges_are_read_from_the_queue(tmp_path: Path, store: Store) -> None:
    """Depth by status, age of the oldest file, arriving files, hold and rate are those of this moment."""
    engine, quick = open_database(tmp_path / "queue.db", create=False), open_quick(tmp_path / "queue.db")
    row = WorkerRow(engine, quick, SystemClock())
    row.register()
    with serving(tmp_path) as (_hooks, address):
        found = samples(address)
        assert found["omrwatchd_oldest_waiting_age_seconds"] == 0
        assert {found[f'omrwatchd_chunk_retries_total{{code="{code}"}}'] for code in RETRIED_CODES} == {0}
        first = queued(store, "a.zip", 1000)
        queued(store, "b.zip", 500)
        store.note(first, created_at=time.time() - 3600)
        found = samples(address)
        assert found['omrwatchd_queue_files{status="pending"}'] == 2
        assert found["omrwatchd_waiting_bytes"] == 1500
        assert 3600 <= found["omrwatchd_oldest_waiting_age_seconds"] < 3700
        assert found["omrwatchd_last_success_timestamp_seconds"] == 0
        assert found['omrwatchd_worker_state{state="idle"}'] == 1
        assert found["omrwatchd_held"] == 0
        began = time.time()
        row.show(WorkerState.HELD, reason="The server is away.")
        found = samples(address)
        assert found["omrwatchd_held"] == 1
        assert abs(found["omrwatchd_held_since_timestamp_seconds"] - began) < 60
        store.claim(row.id)
        row.show(WorkerState.UPLOADING, job_id=first)
        ledger = Ledger(engine, quick, SystemClock())
        ledger.progress(store.job(first).parts[0], 1, row.id, 52_000_000.0)
        assert samples(address)["omrwatchd_upload_rate_bytes_per_second"] == 52_000_000
        store.note(first, delivered_at=began)
        found = samples(address)
        assert found["omrwatchd_last_success_timestamp_seconds"] == began
        assert found["omrwatchd_waiting_bytes"] == 500
    engine.dispose()
    quick.dispose()


def test_locked_queue_costs_its_gauges_alone(tmp_path: Path) -> None:
    """A scrape of a locked queue answers in time, says so, keeps its counters; the next is whole again."""
    open_database(tmp_path / "queue.db", create=True).dispose()
    with serving(tmp_path) as (hooks, address):
        hooks(ONE_OF_EACH[5])
        with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as other:
            # in WAL mode readers go on beside a writer; only a lock of the whole file keeps them out
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            found = samples(address)
            assert time.monotonic() - began < 9
            assert found["omrwatchd_queue_readable"] == 0
            assert found["omrwatchd_batches_created_total"] == 1
        assert samples(address)["omrwatchd_queue_readable"] == 1


def test_damaged_or_absent_queue_costs_its_gauges_alone(tmp_path: Path) -> None:
    """Neither a missing nor a damaged database ends the daemon or the other metrics."""
    with serving(tmp_path) as (_hooks, address):
        assert samples(address)["omrwatchd_queue_readable"] == 0
        (tmp_path / "queue.db").write_bytes(os.urandom(20_000))
        found = samples(address)
        assert found["omrwatchd_queue_readable"] == 0
        assert found["omrwatchd_files_completed_total"] == 0
        assert not any(name.startswith("omrwatchd_queue_files") for name in found)


def test_promtool_has_nothing_to_say(tmp_path: Path, store: Store) -> None:
    """`promtool check metrics` finds no fault in names, types and help texts."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    with serving(tmp_path) as (hooks, address):
        for event in ONE_OF_EACH:
            hooks(event)
        text = scraped(address)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_names_follow_the_conventions(tmp_path: Path, store: Store) -> None:
    """Every metric begins with the program's name, counters end in _total, and each has a help text."""
    with serving(tmp_path) as (hooks, address):
        for event in ONE_OF_EACH:
            hooks(event)
        families = list(text_string_to_metric_families(scraped(address)))
    for family in families:
        assert family.name.startswith(("omrwatchd_", "process_")), family.name
        assert family.documentation.strip()
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), family.name


def test_only_metrics_are_served(tmp_path: Path) -> None:
    """Any other path is 404."""
    with serving(tmp_path) as (_hooks, address), pytest.raises(urllib.error.HTTPError, match="404"):
        scraped(address.replace("/metrics", "/queue"))


def test_silent_client_is_in_nobodys_way(tmp_path: Path) -> None:
    """One that connects and says nothing, or hangs up, keeps no other from being answered."""
    with serving(tmp_path) as (_hooks, address):
        place = address.removeprefix("http://").removesuffix("/metrics").rsplit(":", 1)
        with socket.create_connection((place[0], int(place[1]))):
            socket.create_connection((place[0], int(place[1]))).close()
            assert "omrwatchd_build_info" in scraped(address)


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """A port that somebody else has ends the start, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        settings = settings_in(tmp_path, metrics={"listen": listen})
        with pytest.raises(Problem) as raised, attendants(settings, SystemClock(), Hooks(), _no_death):
            pass
    assert raised.value.code == "metrics_address"
    assert listen in raised.value.summary
    assert "in use" in raised.value.summary


def _no_death(_name: str, death: BaseException) -> None:
    raise AssertionError(death)


@pytest.mark.parametrize(
    "listen", ["127.0.0.1", "9464", ":9464", "localhost:", "127.0.0.1:99999", "a b:1", "::1:9464"]
)
def test_address_without_port_is_refused(tmp_path: Path, listen: str) -> None:
    """`metrics.listen` needs host and port; the sentence shows how it looks."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[server]\nbase_url = "https://omr.example.org"\n[[watch]]\ndrop = "/srv/drop"\n'
        f"[metrics]\nlisten = {json.dumps(listen)}\n"
    )
    with pytest.raises(ConfigProblem, match=r"metrics\.listen: must be an address with a port, such as"):
        load(file)


def test_nothing_is_imported_or_opened_by_default(tmp_path: Path) -> None:
    """Without `metrics.listen` the daemon has no thread, no port, and does not even load the library."""
    program = (
        "import sys, threading\n"
        "import omrwatchd.service\n"
        "from omrwatchd.ops.attendants import attendants\n"
        "from omrwatchd.settings import Settings\n"
        f"s = Settings(server={{'base_url': 'http://x'}}, watch=({{'drop': {str(tmp_path)!r}}},))\n"
        "with attendants(s, None, None, None):\n"
        "    print(threading.active_count(), 'prometheus_client' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["1", "False"]


def known_metrics(tmp_path: Path) -> set[str]:
    """The names of all samples that the code makes."""
    engine = open_database(tmp_path / "queue.db", create=True)
    engine.dispose()
    with serving(tmp_path) as (hooks, address):
        for event in ONE_OF_EACH:
            hooks(event)
        return {name.partition("{")[0] for name in samples(address)}


def test_statuses_are_the_words_that_users_see(tmp_path: Path, store: Store) -> None:
    """There is a sample for every status, also for those that no file has."""
    with serving(tmp_path) as (_hooks, address):
        found = samples(address)
    assert {f'omrwatchd_queue_files{{status="{status}"}}' for status in Status} <= set(found)


def test_dashboard_shows_only_what_there_is(tmp_path: Path) -> None:
    """The Grafana dashboard is valid JSON, and each metric in it exists in the code."""
    text = (ROOT / "deploy" / "grafana" / "omrwatchd.json").read_text()
    board = json.loads(text)
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 10
    used = set(re.findall(r"\b(?:omrwatchd|process)_[a-z_]+", " ".join(expressions)))
    assert used <= known_metrics(tmp_path)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_alert_rules_hold(tmp_path: Path) -> None:
    """The example rules are valid, each fires in its own unit test, and they name metrics that exist."""
    folder = ROOT / "deploy" / "prometheus"
    rules = (folder / "omrwatchd.rules.yml").read_text()
    lines = [line for line in rules.splitlines() if not line.lstrip().startswith("#")]
    used = set(re.findall(r"\bomrwatchd_[a-z_]+", "\n".join(lines)))
    assert used <= known_metrics(tmp_path)
    alerts = re.findall(r"- alert: (\w+)", rules)
    tests = (folder / "omrwatchd.rules.test.yml").read_text()
    assert set(re.findall(r"alertname: (\w+)", tests)) == set(alerts)
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    for words in (["check", "rules", "omrwatchd.rules.yml"], ["test", "rules", "omrwatchd.rules.test.yml"]):
        done = subprocess.run(
            [promtool, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
