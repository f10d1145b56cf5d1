from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine, booted
from tests.systemd.needs import what_is_missing
from tests.systemd.station import Station
from tests.systemd.tree import ROOT, debian, wheels


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A Debian that has just been booted, with the sources in /source and wheels in /wheels."""
    if sentence := what_is_missing():
        pytest.exit(sentence, returncode=1)
    signal.signal(signal.SIGTERM, _interrupted)  # so that the container is shut down then, too
    tree = debian()
    log = tmp_path_factory.mktemp("systemd") / "console.log"
    with booted(tree, log, source=ROOT, wheels=wheels(tree)) as running:
        running.settle_in()
        yield running


@pytest.fixture(scope="session")
def station(machine: Machine) -> Station:
    return Station(machine)
