"""A settled file or folder: put into the queue, refused, or waited for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from omrwatchd.errors import Problem
from omrwatchd.intake.inspect import Content, Unfinished, inspect_folder, inspect_zip
from omrwatchd.intake.route import Route, check_count, read_sidecar, readable_path, route
from omrwatchd.intake.scan import Found
from omrwatchd.model import Identity, Job, NewJob, UploadType, display_name
from omrwatchd.queue.store import Store
from omrwatchd.queue.store import duplicate as duplicate
from omrwatchd.settings import Settings, Watch
from omrwatchd.sheets.companions import marker_of, read_beside


@dataclass(frozen=True, slots=True)
class Admitted:
    job: int
    sheets: int
    parts: int


@dataclass(frozen=True, slots=True)
class Refused:
    job: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class NotYet:
    """Another look later may find it finished."""

    why: str
    unreadable: bool = False
    ask_again: bool = False
    """What it waits for ends without a change of the file and without a hint."""


@dataclass(frozen=True, slots=True)
class NotWhole:
    """It looks finished but is no whole ZIP; nothing but more bytes can mend that."""

    problem: Problem


Outcome = Admitted | Refused | NotYet | NotWhole


class Admission:
    """The door of one drop folder into the queue."""

    def __init__(self, watch: Watch, store: Store, settings: Settings) -> None:
        self._watch = watch
        self._store = store
        self._settings = settings

    def admit(self, found: Found, *, ask_lease: bool) -> Outcome:
        """Look into a settled file or folder and queue it.

        ``ask_lease``: whether this file system's answer about writers can be trusted.
        """
        if (marker := self._missing_marker(found.path)) is not None:
            return NotYet(f"waiting for its marker {display_name(marker)}")
        try:
            content = self._inspect(found, ask_lease=ask_lease)
        except Unfinished as reason:
            return NotYet(str(reason), ask_again=True)
        except OSError as error:
            return NotYet(f"it can't be read: {error.strerror or error}", unreadable=True)
        except Problem as problem:
            return NotWhole(problem)
        return self._decide(found, content)

    def _inspect(self, found: Found, *, ask_lease: bool) -> Content:
        settings = self._settings
        if self._watch.upload_type is UploadType.IMAGES:
            limit = settings.upload.direct_limit
            return inspect_folder(found, self._watch, settings.split, limit, ask_lease=ask_lease)
        return inspect_zip(found, settings.split, ask_lease=ask_lease)

    def _missing_marker(self, path: bytes) -> bytes | None:
        """The name of the file that must be there beside the ZIP, when it is not."""
        if self._watch.done_marker is None:
            return None
        marker = marker_of(path, self._watch.done_marker)
        return None if os.path.lexists(marker) else os.path.basename(marker)

    def _decide(self, found: Found, content: Content) -> Outcome:
        job = replace(
            self._job(found), sheets=content.sheets, fingerprint=content.fingerprint, parts=content.parts
        )
        try:
            if content.problem is not None:
                raise content.problem
            routed = self._route(found.path, job.name)
            job = replace(job, metadata=routed.metadata)  # a refusal may be overruled
            check_count(job.name, routed.sheets, job.sheets)
            # the same content is not delivered twice, whatever its name
            once = self._settings.queue.duplicates != "upload"
            return Admitted(self._store.admit(job, once=once), job.sheets, len(job.parts))
        except Problem as problem:
            return Refused(self._store.refuse(job, problem), problem)

    def _job(self, found: Found) -> NewJob:
        return NewJob(
            path=found.path,
            name=display_name(os.path.basename(found.path)),
            watch=self._watch.name,
            identity=Identity(found.size, found.mtime_ns, found.inode),
            metadata=self._watch.metadata,
        )

    def _route(self, path: bytes, name: str) -> Route:
        sidecar, sidecar_name = None, ""
        beside = read_beside(path)
        if beside is not None:
            sidecar_name = display_name(os.path.basename(beside.path))
            sidecar = read_sidecar(beside.text, sidecar_name)
        relative = os.path.relpath(path, os.fsencode(self._watch.drop))
        return route(
            name,
            sidecar,
            sidecar_name,
            readable_path(relative),
            self._watch.pattern,
            self._watch.metadata,
        )

    def sorts_otherwise(self, job: Job) -> bool:
        """Whether a queued file would be queued with other metadata now, or be refused: by its sidecar."""
        try:
            routed = self._route(job.path, job.name)
            check_count(job.name, routed.sheets, job.sheets)
        except Problem:
            return True
        return routed.metadata != job.metadata

    def refuse(self, found: Found, problem: Problem) -> Refused:
        """Give a file up; the worker files it under failed/ with the reason."""
        return Refused(self._store.refuse(self._job(found), problem), problem)
