"""`omrwatchd explain FILE`: why it has not moved yet, in one or two sentences."""

from __future__ import annotations

import os
import stat

from omrwatchd.intake.scan import is_wanted
from omrwatchd.model import Job, Status, WorkerState, display_name
from omrwatchd.queue.views import FileView, Views, WorkerView, bytes_sent, job_document
from omrwatchd.settings import Settings, Watch


def explain(settings: Settings, views: Views, path: bytes) -> str:
    """What is known of the file at ``path``."""
    path = os.path.abspath(path)
    name = display_name(os.path.basename(path))
    about, worker = views.about(path), views.snapshot().worker
    if about.job is not None and (about.job.filed_at is None or not os.path.lexists(path)):
        return _of_job(about, about.job, worker)
    if about.arriving is not None:
        return f"{name} is not queued yet: {_sentence(about.arriving.why)}{_of_daemon(worker)}"
    if about.job is not None:
        return _of_job(about, about.job, worker)
    watch = _watch_of(settings, path)
    if watch is not None and not os.path.lexists(path) and (job := views.filed(name, watch.name)) is not None:
        place = f" It lies in {display_name(os.path.dirname(job.path))} now."
        return _of_job(about, job, worker) + (place if os.path.lexists(job.path) else "")
    return _unknown(settings, path, name, worker)


def _of_job(about: FileView, job: Job, worker: WorkerView) -> str:
    problem = job_document(job)["error"]
    if job.status is Status.COMPLETED:
        where = "" if problem is None else f" {problem['summary']}"
        return f"{job.name} was delivered as batch {', '.join(job.batch_ids)}.{where}"
    if job.status is Status.UPLOADING:
        return f"{job.name} is being uploaded: {bytes_sent(job) / max(1, job.identity.size):.0%} are sent."
    if job.status is Status.PROCESSING:
        return f"{job.name} is delivered; the server's OMR queue is awaited before it is started and filed."
    if job.status is Status.PENDING:
        others = "1 other file" if about.ahead == 1 else f"{about.ahead} other files"
        place = f"behind {others}" if about.ahead else "as the next one"
        return f"{job.name} waits in the queue {place}.{_of_daemon(worker)}"
    words = "" if problem is None else f" {problem['summary']} {problem['advice']}".rstrip()
    verb = "was cancelled" if job.status is Status.ABORTED else "was not delivered"
    return f"{job.name} {verb}:{words}"


def _of_daemon(worker: WorkerView) -> str:
    if worker.state is WorkerState.STOPPED:
        return " The daemon does not run; start it."
    if worker.state is WorkerState.HELD:
        return f" The queue is held: {worker.reason}"
    if worker.state is WorkerState.PAUSED:
        return " The queue is paused; `omrwatchd resume` ends that."
    return ""


def _unknown(settings: Settings, path: bytes, name: str, worker: WorkerView) -> str:
    try:
        found = os.lstat(path)
    except OSError as error:
        return f"{name} can't be looked at: {error.strerror}; the queue does not know it either."
    watch = _watch_of(settings, path)
    if watch is None:
        folders = ", ".join(str(watch.drop) for watch in settings.watch)
        return f"{name} lies in no drop folder (they are: {folders})."
    if not stat.S_ISREG(found.st_mode):
        return f"{name} is left alone: it is no regular file."
    if not is_wanted(os.path.basename(path), watch.ignore):
        ignored = ", ".join(watch.ignore)
        return f"{name} is left alone: its name does not end in .zip, or is among the ignored ({ignored})."
    return (
        f"{name} has not been seen yet.{_of_daemon(worker) or ' It will be at the next scan of its folder.'}"
    )


def _watch_of(settings: Settings, path: bytes) -> Watch | None:
    folder = os.path.dirname(path)
    for watch in settings.watch:
        drop = os.fsencode(watch.drop)
        if folder == drop or (watch.recursive and folder.startswith(drop + b"/")):
            return watch
    return None


def _sentence(why: str) -> str:
    return why if why.endswith(".") else f"{why}."
