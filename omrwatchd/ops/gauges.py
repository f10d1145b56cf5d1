"""Prometheus metrics of the daemon: counters fed by events, gauges read from the queue when asked."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from omrwatchd import __version__, events
from omrwatchd.clock import Clock
from omrwatchd.delivery.faults import RETRIED_CODES
from omrwatchd.errors import Problem
from omrwatchd.events import Event
from omrwatchd.model import WorkerState
from omrwatchd.queue.figures import Figures

_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
ReadFigures = Callable[[], Figures | None]


class EventCounters:
    """A listener; counts what happens while this process runs."""

    def __init__(self, registry: CollectorRegistry, watches: Sequence[str]) -> None:
        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"omrwatchd_{name}", words, labels, registry=registry)

        self._queued = counter("files_queued", "Files that were finished and put into the queue.")
        self._completed = counter("files_completed", "Files that were delivered in full.")
        self._failed = counter("files_failed", "Files that ended as error, by its code.", "code")
        self._aborted = counter("files_aborted", "Files that were cancelled or taken away, by code.", "code")
        self._batches = counter("batches_created", "Batches that the server has made.")
        self._bytes = counter("delivered_bytes", "Bytes of the batches that the server has made.")
        self._sheets = counter("delivered_sheets", "Sheets in the batches that the server has made.")
        self._chunks = counter("chunks_acknowledged", "Chunks that the server has acknowledged.")
        self._chunk_bytes = counter("chunk_bytes", "Bytes of the acknowledged chunks.")
        self._retries = counter("chunk_retries", "Chunks that were sent again, by the fault's code.", "code")
        self._restarts = counter("upload_restarts", "Uploads that began again at chunk 0, by code.", "code")
        self._slowed = counter("server_slowdowns", "Pauses that the server asked for.")
        self._holds = counter("queue_holds", "How often the queue was held, by code.", "code")
        self._delays = counter("filing_delays", "Files that could not be moved at the first try.")
        self._notify = counter("notify_failures", "Notifications that could not be given.")
        self._pruned = counter("files_pruned", "Files deleted from done/ because of their age.")
        self._settle = Histogram(
            "omrwatchd_settle_seconds",
            "From the first sight of a file to its place in the queue.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._upload = Histogram(
            "omrwatchd_batch_upload_seconds",
            "Length of the uploads that made a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._folders = Gauge(
            "omrwatchd_drop_folder_available",
            "1 while the drop folder can be read, 0 while it is away.",
            ["watch"],
            registry=registry,
        )
        for watch in watches:
            self._folders.labels(watch).set(1)
        for code in RETRIED_CODES:  # from 0 on, so that a burst at once is an increase
            self._retries.labels(code)

    def __call__(self, event: Event) -> None:
        """Count the event. Cheap: it runs on the threads that deliver."""
        match event:
            case events.ChunkAcknowledged():
                self._chunks.inc()
                self._chunk_bytes.inc(event.bytes)
            case events.ChunkRetried():
                self._retries.labels(event.code).inc()
            case events.UploadRestarted():
                self._restarts.labels(event.code).inc()
            case events.ServerSlowedDown():
                self._slowed.inc()
            case events.BatchCreated():
                self._count_batch(event)
            case _:
                self._count_file(event)

    def _count_batch(self, event: events.BatchCreated) -> None:
        self._batches.inc()
        self._bytes.inc(event.bytes)
        self._sheets.inc(event.sheets)
        self._upload.observe(event.seconds)

    def _count_file(self, event: Event) -> None:
        match event:
            case events.FileQueued():
                self._queued.inc()
                self._settle.observe(event.seconds)
            case events.FileCompleted():
                self._completed.inc()
            case events.FileFailed() | events.FileRefused():
                self._failed.labels(event.code).inc()
            case events.FileAborted():
                self._aborted.labels(event.code).inc()
            case events.FilingDelayed():
                self._delays.inc()
            case events.FilePruned():
                self._pruned.inc()
            case _:
                self._count_rest(event)

    def _count_rest(self, event: Event) -> None:
        match event:
            case events.QueueHeld():
                self._holds.labels(event.code).inc()
            case events.NotifyFailed():
                self._notify.inc()
            case events.DropFolderLost():
                self._folders.labels(event.watch).set(0)
            case events.DropFolderBack():
                self._folders.labels(event.watch).set(1)
            case _:
                pass


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"omrwatchd_{name}", words, value=value)


class QueueGauges(Collector):
    """Reads the queue when Prometheus asks, on the thread that answers it.

    A queue that can't be read costs its own gauges alone: `omrwatchd_queue_readable` is 0 then.
    """

    def __init__(self, read: ReadFigures, clock: Clock) -> None:
        self._read = read
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Nothing is read to register."""
        return ()

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._read()
        except Problem:
            figures = None
        words = "1 when the queue could be read for this answer; 0: the gauges of the queue are missing."
        yield _gauge("queue_readable", words, float(figures is not None))
        if figures is not None:
            yield from self._of_jobs(figures)
            yield from self._of_worker(figures)

    def _of_jobs(self, figures: Figures) -> Iterator[Metric]:
        words = "Files that the list shows, by status; unfinished ones are pending, uploading, processing."
        by_status = GaugeMetricFamily("omrwatchd_queue_files", words, labels=["status"])
        for status, count in figures.jobs.items():
            by_status.add_metric([str(status)], count)
        yield by_status
        yield _gauge("waiting_bytes", "Bytes of the queued files not delivered yet.", figures.waiting_bytes)
        age = 0.0
        if figures.oldest_waiting is not None:
            age = max(0.0, self._clock.now() - figures.oldest_waiting)
        yield _gauge("oldest_waiting_age_seconds", "Age of the oldest file not delivered yet; 0: none.", age)
        words = "When a file was last delivered in full; 0: never."
        yield _gauge("last_success_timestamp_seconds", words, figures.last_delivery or 0.0)
        words = "Files whose moving to done/ or failed/ has not succeeded yet."
        yield _gauge("unfiled_files", words, figures.unfiled)
        yield _gauge("arriving_files", "Files in drop folders that are not queued yet.", figures.arriving)
        words = "Bytes of the files in drop folders that are not queued yet."
        yield _gauge("arriving_bytes", words, figures.arriving_bytes)

    def _of_worker(self, figures: Figures) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "omrwatchd_worker_state", "1 for what the daemon is doing, 0 for the rest.", labels=["state"]
        )
        for state in WorkerState:
            states.add_metric([str(state)], float(state is figures.worker))
        yield states
        held = figures.worker is WorkerState.HELD
        yield _gauge("held", "1 while the queue is held.", float(held))
        words = "Since when the queue is held; 0: it is not."
        yield _gauge("held_since_timestamp_seconds", words, (figures.since or 0.0) if held else 0.0)
        words = "Bytes a second of the upload under way; 0: none is."
        yield _gauge("upload_rate_bytes_per_second", words, figures.rate)


def make_registry(
    watches: Sequence[str], read: ReadFigures, clock: Clock
) -> tuple[CollectorRegistry, EventCounters]:
    """A registry of our own with all metrics, and the listener that feeds it."""
    # a second series for each counter, of which nobody has any use
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=False)
    counters = EventCounters(registry, watches)
    registry.register(QueueGauges(read, clock))
    build = Gauge(
        "omrwatchd_build_info", "Always 1; the labels tell the version.", ["version", "python"],
        registry=registry,
    )  # fmt: skip
    build.labels(__version__, platform.python_version()).set(1)
    ProcessCollector(registry=registry)
    return registry, counters
