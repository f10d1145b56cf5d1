"""`omrwatchd explain FILE`: why it has not moved yet, in one or two sentences."""

from __future__ import annotations

import os
import stat

from omrwatchd.intake.scan import is_ignored, is_wanted
from omrwatchd.model import Arriving, Job, Status, UploadType, WorkerState, display_name
from omrwatchd.queue.views import FileView, Views, WorkerView, bytes_sent, job_document
from omrwatchd.settings import Settings, Watch


def explain(settings: Settings, views: Views, path: bytes) -> str:
    """What is known of the file at ``path``, or of the folder of pictures that it is in."""
    watch, path = _place(settings, os.path.abspath(path))
    name = display_name(os.path.basename(path))
    filed_in = [] if watch is None else [os.fsencode(watch.done_folder), os.fsencode(watch.failed_folder)]
    about, worker = views.about(path, filed_in), views.snapshot().worker
    if about.job is not None and (about.job.filed_at is None or not os.path.lexists(path)):
        return _of_job(about, about.job, worker) + _place_of(about.job)
    if about.arriving is not None:
        return f"{name} is not queued yet: {_of_arriving(watch, about.arriving)}{_of_daemon(worker)}"
    if about.job is not None and about.job.path == path:
        return _of_job(about, about.job, worker)
    return _unknown(settings, watch, path, name, worker)


def _place_of(job: Job) -> str:
    if job.filed_at is None or not os.path.lexists(job.path):
        return ""
    return f" It lies in {display_name(os.path.dirname(job.path))} now."


def _of_arriving(watch: Watch | None, file: Arriving) -> str:
    words = file.why if file.why.endswith(".") else f"{file.why}."
    if watch is not None and "not a complete ZIP" in words:
        minutes = watch.give_up_seconds / 60
        words += f" It is put into {watch.failed_folder} when it has not changed for {minutes:g} minutes."
    return words


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


def _unknown(settings: Settings, watch: Watch | None, path: bytes, name: str, worker: WorkerView) -> str:
    if watch is not None and not os.path.isdir(watch.drop):
        return f"{name} can't be looked at: its drop folder {watch.drop} is not there."
    try:
        found = os.lstat(path)
    except OSError as error:
        return f"{name} can't be looked at: {error.strerror}; the queue does not know it either."
    if watch is None:
        folders = ", ".join(str(watch.drop) for watch in settings.watch)
        return f"{name} lies in no drop folder (they are: {folders})."
    if (reason := _left_alone(watch, path, found)) is not None:
        return f"{name} is left alone: {reason}."
    return (
        f"{name} has not been seen yet.{_of_daemon(worker) or ' It will be at the next scan of its folder.'}"
    )


def _left_alone(watch: Watch, path: bytes, found: os.stat_result) -> str | None:
    """Why intake does not care for it; None when it does."""
    base = os.path.basename(path)
    ignored = f"its name is among the ignored ({', '.join(watch.ignore)})"
    if watch.upload_type is UploadType.IMAGES:
        if not stat.S_ISDIR(found.st_mode):
            return "only folders of pictures count in this drop folder"
        return ignored if is_ignored(base, watch.ignore) else None
    if stat.S_ISLNK(found.st_mode):
        return "it is a link, and links are not followed"
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    below = os.path.relpath(path, os.fsencode(watch.drop)).split(b"/")
    hidden = next((folder for folder in below[:-1] if is_ignored(folder, watch.ignore)), None)
    if hidden is not None:
        return (
            f"the name of its folder {display_name(hidden)} is among the ignored ({', '.join(watch.ignore)})"
        )
    if is_ignored(base, watch.ignore):
        return ignored
    return None if is_wanted(base, watch.ignore) else "its name does not end in .zip"


def _place(settings: Settings, path: bytes) -> tuple[Watch | None, bytes]:
    """The watch that a path belongs to, and the path as the daemon has it: links may lead there, too."""
    folder, name = os.path.split(path)
    real = os.path.join(os.path.realpath(folder), name)
    for watch in settings.watch:
        drop = os.fsencode(watch.drop)
        for root, whole in ((drop, path), (os.path.realpath(drop), real)):
            if not whole.startswith(root + b"/"):
                continue
            below = whole[len(root) + 1 :].split(b"/")
            if watch.upload_type is UploadType.IMAGES:
                return watch, os.path.join(drop, below[0])
            if len(below) == 1 or watch.recursive:
                return watch, os.path.join(drop, *below)
    return None, path
