"""The configuration, read again while the daemon works under the old one."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from omrwatchd.errors import Problem
from omrwatchd.ops.preflight import problems
from omrwatchd.settings import ConfigProblem, Settings, load

PATIENCE_SECONDS = 10.0
"""Then a folder that the configuration names does not answer: the main thread has other duties."""


def read_again(file: Path, patience: float = PATIENCE_SECONDS) -> Settings:
    """Settings under which the daemon can work.

    Raises:
        Problem: they are wrong, something that they need is missing, or this took longer than ``patience``.
    """
    answers: queue.SimpleQueue[Settings | BaseException] = queue.SimpleQueue()

    def read() -> None:
        try:
            answers.put(_read(file))
        except BaseException as error:  # noqa: BLE001 - the top of a thread; raised below, in the caller's
            answers.put(error)

    threading.Thread(target=read, name="config", daemon=True).start()
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        raise Problem(
            "config_unchecked",
            f"The configuration {file} could not be checked in {patience:g} s: a folder does not answer.",
            "Look at the shares that it names, then reload again.",
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _read(file: Path) -> Settings:
    settings = load(file)
    if found := problems(settings):
        raise ConfigProblem(found[0].code, " ".join(problem.sentence() for problem in found))
    return settings
