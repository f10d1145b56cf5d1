from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.errors import Problem
from omrwatchd.intake.route import check_count, read_sidecar, readable_path, route
from omrwatchd.model import Metadata, UploadType

DEFAULT = Metadata(UploadType.ZIP_WITH_QR, notes="from the watch")
PATTERN = r"task-(?P<task_id>\d+)(?:_(?P<notes>\w+))?"


def routed(
    sidecar: dict[str, Any] | None = None, relative: str = "scan.zip", pattern: str | None = None
) -> Metadata:
    return route("scan.zip", sidecar, "scan.zip.toml", relative, pattern, DEFAULT).metadata


def test_each_field_comes_from_the_first_that_has_it() -> None:
    """Sidecar before pattern before watch, field by field."""
    metadata = routed({"task_id": 12, "profile_id": 3}, "room/task-99_hall.zip", PATTERN)
    assert metadata == Metadata(UploadType.ZIP_WITH_QR, task_id="12", notes="hall", profile_id=3)
    assert routed(None, "room/task-99.zip", PATTERN).task_id == "99"
    assert routed(None, "other.zip", PATTERN) == DEFAULT


def test_type_that_needs_a_task_says_what_to_type() -> None:
    """Without a task number the operator is told which file to write, and its line."""
    with pytest.raises(Problem) as caught:
        routed({"upload_type": "zip_no_qr"})
    assert caught.value.code == "task_missing"
    assert "scan.zip.toml" in caught.value.advice
    assert 'task_id = "4711"' in caught.value.advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task_id = ", "can't be read"),
        ("taskid = 4", "did you mean task_id?"),
        ("[1, 2]", "can't be read"),
    ],
)
def test_broken_sidecar_gets_a_sentence(text: str, words: str) -> None:
    """What is wrong with it, and how it should look."""
    with pytest.raises(Problem) as caught:
        read_sidecar(text, "scan.zip.toml")
    assert words in caught.value.summary
    assert "scan.zip.toml" in caught.value.summary


@pytest.mark.parametrize(
    "table",
    [{"task_id": ""}, {"task_id": ["1"]}, {"profile_id": "x"}, {"upload_type": "images"}, {"notes": 1.5},
     {"profile_id": True}, {"task_id": "1\n2"}, {"notes": "half \ud800"}, {"notes": "nul \0"}],
)  # fmt: skip
def test_wrong_value_is_named(table: dict[str, Any]) -> None:
    """The key is in the sentence."""
    with pytest.raises(Problem, match=next(iter(table))):
        routed(table)


def test_numbers_of_sheets_must_agree() -> None:
    """Both numbers are in the sentence."""
    check_count("a.zip", None, 3)
    check_count("a.zip", 3, 3)
    with pytest.raises(Problem, match=r"1200 sheets.* 1199 "):
        check_count("a.zip", 1200, 1199)


@given(text=st.text(), name=st.sampled_from(["a.toml", "a.json"]))
def test_any_text_is_a_table_or_a_problem(text: str, name: str) -> None:
    """No sidecar raises anything else."""
    try:
        table = read_sidecar(text, name)
        route("a", table, name, "a.zip", None, DEFAULT)
    except Problem as problem:
        said = problem.summary
    else:
        said = ""
    assert "\n" not in said


@given(notes=st.text(st.characters(), min_size=1))
def test_notes_that_are_taken_can_be_sent(notes: str) -> None:
    """JSON can spell half a character, which no UTF-8 has: refused, where it would end the daemon."""
    try:
        table = read_sidecar(json.dumps({"notes": notes}), "a.json")
        taken = route("a", table, "a.json", "a.zip", None, DEFAULT).metadata.notes
    except Problem:
        assert max(notes) > "\ud7ff" or any(ord(c) < 32 or ord(c) == 127 for c in notes) or notes.isspace()
    else:
        assert taken is not None
        taken.encode()


def test_latin_1_names_on_the_path_are_readable_for_the_pattern() -> None:
    """A folder named on an old scanner gives its notes, beside one that is named in UTF-8."""
    path = readable_path("Prüfung/".encode() + b"L\xe4tin/a.zip")
    assert path == "Prüfung/Lätin/a.zip"
    assert routed(None, path, r"(?P<notes>[^/]+)/[^/]+$").notes == "Lätin"
