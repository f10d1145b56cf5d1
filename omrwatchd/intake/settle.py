"""Is the file finished? A decision over what scans saw, pure: no clock, no files (rules 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a file."""

    at: float
    """Monotonic seconds."""
    size: int
    mtime_ns: int
    inode: int
    beside: int = 0
    """The state of its sidecar: one that lands later, or is being written, is waited for as well."""

    def same_content(self, other: Observation) -> bool:
        mine = (self.size, self.mtime_ns, self.inode, self.beside)
        return mine == (other.size, other.mtime_ns, other.inode, other.beside)


@dataclass(frozen=True, slots=True)
class Rules:
    settle_seconds: float
    give_up_seconds: float


class Verdict(StrEnum):
    EMPTY = "empty"
    GROWING = "growing"
    SETTLING = "settling"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of one file."""

    first_seen: float
    """Monotonic seconds."""
    last_change: float
    """When the present content was first seen."""
    latest: Observation
    changed: bool
    """Whether it was ever seen to change."""


def observe(track: Track | None, observation: Observation) -> Track:
    """The track with one more look."""
    if track is None:
        return Track(observation.at, observation.at, observation, changed=False)
    if track.latest.same_content(observation):
        return replace(track, latest=observation)
    return replace(track, last_change=observation.at, latest=observation, changed=True)


def verdict(track: Track, rules: Rules) -> Verdict:
    """Settled: the same in at least two looks that lie settle_seconds apart, and never empty.

    The modification time takes no part but as something that must not change: one in the future, by
    another machine's clock, is as good as any.
    """
    if track.latest.size == 0:
        return Verdict.EMPTY
    if track.latest.at >= _settled_at(track, rules):
        return Verdict.SETTLED
    return Verdict.GROWING if track.changed else Verdict.SETTLING


def due(track: Track, rules: Rules) -> float:
    """When another look may bring a new verdict (monotonic seconds)."""
    if verdict(track, rules) is Verdict.SETTLED or track.latest.size == 0:
        return _given_up_at(track, rules)
    return _settled_at(track, rules)


def gave_up(track: Track, rules: Rules) -> bool:
    """Whether a file that is no whole ZIP has not changed for so long that nothing more is expected."""
    return track.latest.at >= _given_up_at(track, rules)


# One sum serves the moment that is waited for and the verdict at that moment: a difference taken back
# from it may fall short by the last bit, and the file would wait for the next rescan.


def _settled_at(track: Track, rules: Rules) -> float:
    return track.last_change + rules.settle_seconds


def _given_up_at(track: Track, rules: Rules) -> float:
    return track.last_change + rules.give_up_seconds
