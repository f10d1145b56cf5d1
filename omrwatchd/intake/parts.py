"""Which batches a ZIP becomes."""

from __future__ import annotations

from omrwatchd.model import NewPart
from omrwatchd.settings import Split
from omrwatchd.sheets.archive import Archive
from omrwatchd.sheets.split import layout, plan


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
