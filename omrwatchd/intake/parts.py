"""Which batches a ZIP, or a folder of pictures, becomes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from omrwatchd.errors import Problem
from omrwatchd.model import NewPart, display_name
from omrwatchd.settings import Split
from omrwatchd.sheets.archive import Archive
from omrwatchd.sheets.pictures import Picture
from omrwatchd.sheets.split import layout, plan

FORM_BYTES = 64 * 1024
"""What a request may need for its fields; notes are the only long one."""
PICTURE_HEAD_BYTES = 256
"""What stands before a picture in a request, its name (three times as long when escaped) aside."""


def parts_of(name: str, archive: Archive, split: Split) -> tuple[NewPart, ...]:
    """One part that is the file itself, or several virtual ones, their lengths known already."""
    plans = plan(archive, split.max_sheets, split.pages_per_sheet, name)
    if len(plans) == 1:
        return (NewPart(name, archive.sheets, archive.size, whole=True, stop_sheet=archive.sheets),)
    return tuple(
        NewPart(
            name=part.name,
            sheets=part.sheets,
            size=layout(archive, part).size,
            whole=False,
            first_sheet=part.first,
            stop_sheet=part.stop,
        )
        for part in plans
    )


def picture_parts(name: str, pictures: Sequence[Picture], split: Split, limit: int) -> tuple[NewPart, ...]:
    """Batches of pictures in the order of their names, each within ``limit`` bytes of one request.

    Raises:
        Problem: ``picture_too_large``: one alone is above the limit.
    """
    most = split.max_sheets or len(pictures)
    stops: list[int] = []
    size, count = FORM_BYTES, 0
    for index, picture in enumerate(pictures):
        framed = picture.size + PICTURE_HEAD_BYTES + 3 * len(picture.name)
        if FORM_BYTES + framed > limit:
            raise Problem(
                "picture_too_large",
                f"{display_name(picture.name)} in {name} is larger than the server takes ({limit} bytes).",
                "Save it smaller, or put the pictures into a ZIP.",
            )
        if count > 0 and (size + framed > limit or count >= most):
            stops.append(index)
            size, count = FORM_BYTES, 0
        size, count = size + framed, count + 1
    return _picture_parts(name, pictures, [0, *stops, len(pictures)])


def _picture_parts(name: str, pictures: Sequence[Picture], bounds: list[int]) -> tuple[NewPart, ...]:
    spans = list(pairwise(bounds))
    return tuple(
        NewPart(
            name=name if len(spans) == 1 else f"{name}.part{number}of{len(spans)}",
            sheets=stop - first,
            size=sum(picture.size for picture in pictures[first:stop]),
            whole=False,
            first_sheet=first,
            stop_sheet=stop,
        )
        for number, (first, stop) in enumerate(spans, 1)
    )
