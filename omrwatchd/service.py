"""The daemon: makes the rooms' inhabitants, joins them, and answers to signals."""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omrwatchd import __version__, events
from omrwatchd.clock import Clock, SystemClock
from omrwatchd.delivery.client import Client
from omrwatchd.delivery.closing import Closing
from omrwatchd.delivery.credentials import Credentials
from omrwatchd.delivery.desk import Tools
from omrwatchd.delivery.filing import Away, Filing
from omrwatchd.delivery.last_answer import LastAnswer
from omrwatchd.delivery.limits import RateLimit
from omrwatchd.delivery.login import log_in
from omrwatchd.delivery.probe import Probe
from omrwatchd.delivery.processing import ProcessingGate
from omrwatchd.delivery.retry import Pause
from omrwatchd.delivery.summary import SummaryLog
from omrwatchd.delivery.upload import Road
from omrwatchd.delivery.worker import Worker
from omrwatchd.errors import Problem
from omrwatchd.events import Announce, Hooks
from omrwatchd.intake.lease import ignore_lease_signal
from omrwatchd.intake.loop import Intake
from omrwatchd.lifecycle import Died
from omrwatchd.ops import logs
from omrwatchd.ops.attendants import attendants
from omrwatchd.ops.liveness import LISTING_SECONDS, Watched, worker_limit
from omrwatchd.ops.reading import read_again
from omrwatchd.ops.report import Report
from omrwatchd.ops.systemd import Notifier
from omrwatchd.queue.database import in_words, open_database, open_quick, usable
from omrwatchd.queue.ledger import Ledger
from omrwatchd.queue.store import Store
from omrwatchd.queue.views import Views
from omrwatchd.queue.workers import WorkerRow
from omrwatchd.settings import Settings
from omrwatchd.signals import RELOAD, signals

STOP_SECONDS = 4.5
"""A stop is over within 5 s, whatever a thread is doing; what is left then resumes at the next start."""
DRAIN_POLL_SECONDS = 0.2
ANSWER_POLL_SECONDS = 0.1


class Daemon:
    """One run of the daemon, from start to a clean end; under one configuration after the other."""

    def __init__(self, settings: Settings, clock: Clock | None = None, *, file: Path | None = None) -> None:
        """``file``: read again at a SIGHUP; without one that is a stop like any other."""
        self._settings = settings
        self._file = file
        self._clock = clock or SystemClock()
        self._notifier = Notifier()
        self._announce = Hooks([logs.listener()])
        self._report = Report(self._notifier, self._clock, self._announce)
        self._announce.add(self._report.listen)
        self._signals = signals()
        self._word = self._signals.words
        self._death: tuple[str, BaseException] | None = None
        self._started = False
        self._previous: Settings | None = None

    def run(self, *, until_idle: bool = False) -> int:
        """Work until a signal (or, ``until_idle``, until nothing is left); the exit code.

        Raises:
            Problem: the queue can't be used.
        """
        ignore_lease_signal()
        self._signals.hear(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        code = self._live(until_idle=until_idle)
        while code is None:
            logs.configure(self._settings.log, self._settings.server)
            try:
                code = self._live(until_idle=until_idle)
            except Problem as problem:
                self._fall_back(problem)
        return code

    def _live(self, *, until_idle: bool) -> int | None:
        """Work under the present settings; None when there are others to go on with."""
        with (
            self._inhabitants() as (worker, intake, store),
            attendants(
                self._settings,
                self._clock,
                self._announce,
                self._on_death,
                lambda: self._signals.asked_to_end,
            ),
        ):
            self._signals.at_work = True
            worker.start()
            intake.start()
            self._announce_start()
            self._notifier.ready()
            reason = self._attend(intake, store, until_idle=until_idle)
            if isinstance(reason, Settings):
                reason = self._await_last_answer(worker, reason)
            if isinstance(reason, str):
                self._notifier.stopping()
                self._announce(events.DaemonStopping(reason))
            ended = self._stop(worker, intake)
            self._signals.at_work = not ended
            if isinstance(reason, Settings) and ended and self._death is None:
                self._previous, self._settings = self._settings, reason
                return None
            # a reload that a stuck thread is in the way of needs a new process: systemd starts it
            code = 0 if self._death is None and isinstance(reason, str) else 1
            self._announce(events.DaemonStopped(code))
            if not ended:
                # A thread is stuck in the kernel (a dead share, a connect into nowhere). What it was at is
                # on disk as unfinished and is resumed at the next start; nothing is gained by waiting.
                sys.stderr.flush()
                os._exit(code)
        return code

    def _announce_start(self) -> None:
        settings = self._settings
        queue_file, watches = str(settings.queue_file), tuple(str(watch.drop) for watch in settings.watch)
        if self._previous is not None:
            self._announce(events.ConfigReloaded(str(self._file), queue_file, watches))
        elif not self._started:
            self._announce(events.DaemonStarted(__version__, queue_file, watches))
        self._started, self._previous = True, None

    def _on_death(self, thread: str, death: BaseException) -> None:
        self._death = (thread, death)
        problem = in_words(self._settings.queue_file, death)
        words = f"{type(death).__name__}: {death}" if problem is None else problem.sentence()
        try:
            self._announce(events.ThreadDied(thread, words))
        finally:
            self._word.put(f"{thread} died")  # whoever of the listeners it died of

    def _attend(self, intake: Intake, store: Store, *, until_idle: bool) -> str | Settings:
        """`_wait`; what the queue's database refuses meanwhile is an end like a thread's."""
        try:
            return self._wait(intake, store, until_idle=until_idle)
        except Exception as error:
            if in_words(self._settings.queue_file, error) is None:
                raise
            self._on_death("main", error)
            return "main died"

    def _wait(self, intake: Intake, store: Store, *, until_idle: bool) -> str | Settings:
        """Until there is a reason to stop, or other settings to go on with."""
        pause = DRAIN_POLL_SECONDS if until_idle else self._report.pause
        while True:
            self._report.tick()
            try:
                word = self._word.get(timeout=pause)
            except queue.Empty:
                # intake first: what it puts into the queue between the two looks is seen by the second
                if until_idle and intake.quiet and not store.busy():
                    return "idle"
                continue
            if word != RELOAD or self._file is None:
                return word
            if (settings := self._read_again(self._file)) is not None:
                return settings

    def _stop(self, worker: Worker, intake: Intake) -> bool:
        """Ask both threads to end; whether they did in time."""
        intake.stop()
        worker.stop()
        deadline = self._clock.monotonic() + STOP_SECONDS
        return all([thread.join(max(0.0, deadline - self._clock.monotonic())) for thread in (intake, worker)])

    # another configuration

    def _await_last_answer(self, worker: Worker, wanted: Settings) -> str | Settings:
        """The answer that names a batch, if one is awaited, comes first; a reason to stop comes before it."""
        worker.stop(patient=True)
        deadline = self._clock.monotonic() + STOP_SECONDS
        while worker.awaits_last_answer or (worker.sends and self._clock.monotonic() < deadline):
            self._report.tick()
            try:
                word = self._word.get(timeout=ANSWER_POLL_SECONDS)
            except queue.Empty:
                continue
            if word != RELOAD or self._file is None:
                return word
            wanted = self._read_again(self._file) or wanted
        return wanted

    def _read_again(self, file: Path) -> Settings | None:
        """The settings as they are now; None when they are wrong: the present ones stay in effect."""
        self._notifier.reloading(self._clock.monotonic())
        try:
            return read_again(file)
        except Problem as problem:
            self._refuse(problem)
            self._notifier.ready()
            return None

    def _fall_back(self, problem: Problem) -> None:
        """What shows only when it is done: a queue that is another's, a certificate that is none."""
        if self._previous is None:
            raise problem
        self._settings, self._previous = self._previous, None
        self._refuse(problem)

    def _refuse(self, problem: Problem) -> None:
        self._announce(events.ConfigRefused(str(self._file), problem.code, problem.sentence()))

    @contextmanager
    def _inhabitants(self) -> Iterator[tuple[Worker, Intake, Store]]:
        settings = self._settings

        def away(watch: str, look: bool) -> str | None:
            return intake.away(watch, look)  # there by the time that the worker starts

        with delivery(settings, self._clock, self._announce, self._on_death, away) as (worker, store):
            intake = Intake(
                settings,
                store,
                self._clock,
                self._announce,
                Views(settings.queue_file, self._clock),
                worker.bell.set,
                self._on_death,
            )
            watched = [Watched(worker, worker_limit(settings)), Watched(intake, LISTING_SECONDS)]
            with self._report.of(settings.queue_file, watched):
                yield worker, intake, store


@contextmanager
def delivery(
    settings: Settings,
    clock: Clock,
    announce: Announce,
    on_death: Died,
    away: Away = lambda _watch, _look: None,
) -> Iterator[tuple[Worker, Store]]:
    """The right half of the road on its queue: a worker, not started yet, and the store it takes from.

    ``away`` tells why the drop folder of a watch can't be trusted now; None when it is there.

    Raises:
        Problem: ``queue_unusable``, ``queue_in_use``, or a TLS file of the settings that is none.
    """
    file = settings.queue_file
    with ExitStack() as ends:
        engine = open_database(file, create=True)
        ends.callback(engine.dispose)
        quick = open_quick(file)
        ends.callback(quick.dispose)
        store = Store(engine, clock)
        ends.callback(store.close)
        row = WorkerRow(engine, quick, clock)
        client = Client(settings.server, settings.upload)
        ends.callback(client.close)
        login = settings.server.login
        credentials = Credentials(settings.server, None if login is None else lambda: log_in(client, login))
        pool = ThreadPoolExecutor(settings.upload.concurrency, thread_name_prefix="chunk")
        ends.callback(pool.shutdown, wait=False, cancel_futures=True)
        ends.callback(client.wake)
        road = Road(
            transport=client,
            credentials=credentials,
            ledger=Ledger(engine, quick, clock),
            settings=settings.upload,
            clock=clock,
            announce=announce,
            pool=pool,
            pause=Pause(clock),
            limit=RateLimit(settings.upload, clock),
            last_answer=LastAnswer(client, credentials, clock, settings.server.lookup_path),
            probe=Probe(client, credentials, settings.server.probe_path, clock),
        )
        filing = Filing(store, clock, settings.watch_named, away)
        tools = Tools(
            settings=settings,
            store=store,
            row=row,
            road=road,
            gate=ProcessingGate(client, credentials, settings.processing),
            closing=Closing(store, filing, SummaryLog(settings.summary_file), clock, announce),
            clock=clock,
            away=away,
        )
        with usable(file):
            row.register()
        worker = Worker(tools, on_death)
        filing.sign = worker.sign
        yield worker, store
