"""docs/OPERATIONS.md says what the code does: events, metrics, alerts."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest

from omrwatchd.events import Event
from omrwatchd.ops import notify
from omrwatchd.ops.logs import LIBRARY_MESSAGE
from omrwatchd.settings import Metrics, Notify
from tests.ops.documents import OPERATIONS, ROOT, event_kinds, table_rows
from tests.ops.test_metrics import known_metrics

EVENTS = "| event | level | fields | meaning | what to do |"
METRICS = "| metric | kind | labels | meaning |"
ALERTS = "| alert | fires when | what to do |"


def text() -> str:
    return OPERATIONS.read_text(encoding="utf-8")


def test_every_event_is_documented_as_it_is() -> None:
    """The table has each event once, in the code's order, with its level and its fields."""
    in_code = [
        (f"`{kind.title()}`", kind.level, ", ".join(field.name for field in dataclasses.fields(kind)))
        for kind in event_kinds()
    ]
    rows = table_rows(text(), EVENTS)
    assert [tuple(row[:3]) for row in rows] == in_code
    assert all(len(row) == 5 and row[3] and row[4] for row in rows)
    assert f"`{LIBRARY_MESSAGE}`" in text()


def test_no_event_has_a_field_that_the_log_needs_itself() -> None:
    """`ts`, `level` and `event` are the line's own."""
    for kind in event_kinds():
        assert not {field.name for field in dataclasses.fields(kind)} & {"ts", "timestamp", "event", "host"}


def test_every_metric_is_documented(tmp_path: Path) -> None:
    """The table has each metric that the daemon serves, and no other."""
    documented = {row[0].strip("`") for row in table_rows(text(), METRICS)}
    ends = re.compile(r"_(bucket|count|sum)$")
    served = {ends.sub("", name) for name in known_metrics(tmp_path) if name.startswith("omrwatchd_")}
    assert documented == served


def test_every_alert_is_documented() -> None:
    """The table has the alerts of the rules, in their order."""
    rules = (ROOT / "deploy" / "prometheus" / "omrwatchd.rules.yml").read_text()
    assert [row[0].strip("`") for row in table_rows(text(), ALERTS)] == re.findall(r"- alert: (\w+)", rules)


def test_what_the_command_is_run_for_is_documented() -> None:
    """The events that notify.command is run for are those that the section names."""
    section = text().partition("## Notifications")[2].partition("\n\n")[2].partition(":\n")[0]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", section))
    assert {kind.title() for kind in notify.TOLD} <= named
    kinds: list[type[Event]] = list(notify.TOLD)
    assert named & {kind.title() for kind in event_kinds()} == {kind.title() for kind in kinds}


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_examples_can_be_read(kind: str) -> None:
    """Each example in the document is valid, and the settings in them are."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", text(), re.DOTALL)
    assert blocks
    for block in blocks:
        if kind == "json":
            json.loads(block)
            continue
        table = tomllib.loads(block)
        Metrics.model_validate(table.get("metrics", {}))
        Notify.model_validate(table.get("notify", {}))
