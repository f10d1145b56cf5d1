"""watchdog's events, as mere hints: any of them means 'scan soon'."""

from __future__ import annotations

import os
from collections.abc import Callable

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, EventEmitter, ObservedWatch

from omrwatchd.intake import board

# not opened and not closed without writing: our own looks into files make those
_MEANT = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]

_READER = "_inotify_fd"
"""watchdog's (since 7.1) one reader thread of an inotify observer, and the descriptor of that reader; nothing
public tells of its death."""
_OURS = frozenset({board.NAME, board.PARTIAL})


class Hints:
    """One observer for all drop folders."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._handler = _Ringer(ring)
        self._observer: BaseObserver = Observer()
        self._watches: dict[bytes, tuple[ObservedWatch, tuple[int, int]]] = {}

    def start(self) -> None:
        self._observer.start()

    def stop(self) -> None:
        self._observer.stop()

    def join(self, timeout: float) -> None:
        self._observer.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the observer, and what reads the kernel's events for all its watches, still run."""
        reader = getattr(self._observer, _READER, None)
        return self._observer.is_alive() and (reader is None or (reader.is_alive() and _reads(reader)))

    def watch(self, folder: bytes, *, recursive: bool) -> None:
        """Begin to hear of a folder, or begin anew.

        Raises:
            OSError: the folder is not there, or the limit of inotify watches is reached.
        """
        self.forget(folder)
        identity = _identity(folder)
        watch = self._observer.schedule(
            self._handler, os.fsdecode(folder), recursive=recursive, event_filter=_MEANT
        )
        self._watches[folder] = (watch, identity)

    def forget(self, folder: bytes) -> None:
        known = self._watches.pop(folder, None)
        if known is not None:
            try:
                self._observer.unschedule(known[0])
            except (KeyError, OSError):
                return  # its emitter ended by itself

    def hears(self, folder: bytes) -> bool:
        """Whether the watch still is on this folder: emitters die silently, folders are made anew."""
        known = self._watches.get(folder)
        if known is None:
            return False
        watch, identity = known
        emitter = self._emitter(watch)
        try:
            return emitter is not None and emitter.is_alive() and _identity(folder) == identity
        except OSError:
            return False

    def _emitter(self, watch: ObservedWatch) -> EventEmitter | None:
        return next((emitter for emitter in self._observer.emitters if emitter.watch == watch), None)


def _reads(reader: object) -> bool:
    """Whether what it reads still is the kernel's: of a closed descriptor it hears nothing, and goes on."""
    descriptor = getattr(reader, _READER, None)
    try:
        return descriptor is None or os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:inotify"
    except OSError:
        return False


def _identity(folder: bytes) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


class _Ringer(FileSystemEventHandler):
    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        if os.path.basename(os.fsencode(event.src_path)) not in _OURS:
            self._ring()
