"""Those who attend the daemon while it works: metrics, notifications, the silence watch, retention.

Each is there only when the settings ask for it, and none of them is in delivery's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from omrwatchd.clock import Clock
from omrwatchd.events import Announce, Hooks
from omrwatchd.lifecycle import Died, Service
from omrwatchd.queue.history import History
from omrwatchd.settings import Settings

JOIN_SECONDS = 1.0


@contextmanager
def attendants(
    settings: Settings,
    clock: Clock,
    hooks: Hooks,
    on_death: Died,
    hurried: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """They work inside this context, on a queue that exists.

    ``hurried``: whether the daemon was asked to end.

    Raises:
        Problem: ``metrics_address``, when the address of the metrics can't be had.
    """
    with ExitStack() as stack:
        if settings.metrics.address is not None:
            _serve_metrics(stack, settings, clock, hooks, on_death)
        if settings.notify.command:
            _notify(stack, settings, clock, hooks, on_death, hurried)
        if settings.notify.silence_minutes > 0:
            _watch_silence(stack, settings, clock, hooks, on_death)
        if settings.retention.done_days > 0 or settings.retention.history_days > 0:
            history = History(settings.queue_file)
            _run(stack, _keeper(settings, history, clock, hooks, on_death), JOIN_SECONDS)
        yield


def _run(stack: ExitStack, service: Service, join_seconds: float | None) -> None:
    def end() -> None:
        service.stop()
        service.join(join_seconds)

    service.start()
    stack.callback(end)


def _listen(stack: ExitStack, hooks: Hooks, listener: Announce) -> None:
    hooks.add(listener)
    stack.callback(hooks.remove, listener)


def _serve_metrics(stack: ExitStack, settings: Settings, clock: Clock, hooks: Hooks, on_death: Died) -> None:
    # prometheus-client costs a tenth of a second that only those owe who want it
    from omrwatchd.ops.gauges import make_registry
    from omrwatchd.ops.metrics import MetricsServer
    from omrwatchd.queue.figures import read_figures

    assert settings.metrics.address is not None
    registry, counters = make_registry(
        [watch.name for watch in settings.watch], lambda: read_figures(settings.queue_file, clock), clock
    )
    server = MetricsServer(settings.metrics.address, registry, hooks, on_death)
    stack.callback(server.close)
    _listen(stack, hooks, counters)
    _run(stack, server, JOIN_SECONDS)


def _notify(
    stack: ExitStack,
    settings: Settings,
    clock: Clock,
    hooks: Hooks,
    on_death: Died,
    hurried: Callable[[], bool],
) -> None:
    from omrwatchd.ops.notify import Notifier
    from omrwatchd.ops.redact import Redactor

    notifier = Notifier(settings.notify, Redactor(settings.server), clock, hooks, on_death, hurried)
    # its own limits end it: a stop is not to swallow what made somebody stop it
    _run(stack, notifier, None)
    _listen(stack, hooks, notifier)


def _watch_silence(stack: ExitStack, settings: Settings, clock: Clock, hooks: Hooks, on_death: Died) -> None:
    from omrwatchd.ops.silence import SilenceWatch

    watch = SilenceWatch(settings.notify, clock, hooks, on_death)
    _listen(stack, hooks, watch)
    _run(stack, watch, JOIN_SECONDS)


def _keeper(settings: Settings, history: History, clock: Clock, hooks: Hooks, on_death: Died) -> Service:
    from omrwatchd.ops.retention import Keeper

    return Keeper(settings.retention, history, settings.watch_named, clock, hooks, on_death)
