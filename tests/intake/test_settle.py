from __future__ import annotations

from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.intake.settle import Observation, Rules, Track, Verdict, due, gave_up, observe, verdict

RULES = Rules(settle_seconds=5.0, give_up_seconds=600.0)

# A history is a list of (seconds until this scan, what happened to the name since the last scan).
Deed = Literal["rest", "write", "write under the old mtime", "rename another onto it", "sidecar"]
History = list[tuple[float, Deed]]
histories = st.lists(
    st.tuples(st.floats(0.01, 30.0, allow_nan=False), st.sampled_from(get_args(Deed))),
    min_size=1,
    max_size=40,
)


def observations(history: History) -> list[tuple[Observation, float]]:
    """What the scans see of a name, with the time of the latest change of what it names."""
    at, size, mtime, inode, beside, changed = 0.0, 1, 5, 7, 0, 0.0
    seen = []
    for pause, deed in history:
        happened = at + pause / 2
        changed = changed if deed == "rest" else happened
        if deed.startswith("write"):
            size += 1
            mtime = round(happened * 1e9) if deed == "write" else mtime
        elif deed == "rename another onto it":  # of the same size and time, as a copy may be
            inode += 1
        elif deed == "sidecar":
            beside += 1
        at += pause
        seen.append((Observation(at, size, mtime, inode, beside), changed))
    return seen


@given(history=histories)
def test_no_file_is_settled_that_was_written_within_the_settle_time(
    history: History,
) -> None:
    """For any interleaving of writes, pauses, renames and scans, settled means: no change for so long."""
    track: Track | None = None
    for observation, written in observations(history):
        track = observe(track, observation)
        if verdict(track, RULES) is Verdict.SETTLED:
            assert observation.at >= written + RULES.settle_seconds


@given(history=histories, step=st.floats(0.1, 4.0))
def test_every_file_that_stops_is_settled_within_the_settle_time_and_two_scans(
    history: History, step: float
) -> None:
    """After the last write it takes the settle time and at most two scans more."""
    track: Track | None = None
    last = None
    for observation, _ in observations(history):
        track, last = observe(track, observation), observation
    assert last is not None
    assert track is not None
    scans = 0
    while verdict(track, RULES) is not Verdict.SETTLED:
        scans += 1
        last = Observation(last.at + step, last.size, last.mtime_ns, last.inode)
        track = observe(track, last)
        assert scans * step <= RULES.settle_seconds + 2 * step + 1e-6  # of rounding


@given(history=histories)
def test_one_scan_is_never_enough(history: History) -> None:
    """A file seen for the first time is not settled, however old it is."""
    observation, _ = observations(history)[0]
    assert verdict(observe(None, observation), RULES) is Verdict.SETTLING


@given(at=st.floats(1, 1000), mtime=st.integers(-(2**62), 2**62))
def test_modification_time_in_the_future_does_not_matter(at: float, mtime: int) -> None:
    """Only that the mtime stays counts, not what it is."""
    track = observe(None, Observation(at, 9, mtime, 1))
    assert verdict(observe(track, Observation(at + 5, 9, mtime, 1)), RULES) is Verdict.SETTLED


@given(at=st.floats(0, 1e9), settle=st.floats(0.1, 3600))
def test_file_is_settled_at_the_very_moment_that_is_waited_for(at: float, settle: float) -> None:
    """A scan made when `due` says so brings the verdict: no rounding sends it to the next rescan."""
    rules = Rules(settle, settle * 2)
    track = observe(None, Observation(at, 9, 1, 1))
    track = observe(track, Observation(due(track, rules), 9, 1, 1))
    assert verdict(track, rules) is Verdict.SETTLED
    assert gave_up(observe(track, Observation(due(track, rules), 9, 1, 1)), rules)


def test_empty_file_is_never_settled_but_given_up() -> None:
    """Size 0 waits for bytes, and for give_up_seconds at most."""
    track = observe(observe(None, Observation(0, 0, 1, 1)), Observation(599, 0, 1, 1))
    assert verdict(track, RULES) is Verdict.EMPTY
    assert not gave_up(track, RULES)
    assert due(track, RULES) == 600
    assert gave_up(observe(track, Observation(600, 0, 1, 1)), RULES)


def test_growing_file_is_never_given_up() -> None:
    """Each change begins the wait anew."""
    track: Track | None = None
    for minute in range(100):
        track = observe(track, Observation(minute * 60.0, minute + 1, minute, 1))
        assert not gave_up(track, RULES)
    assert track is not None
    assert verdict(track, RULES) is Verdict.GROWING


def test_file_replaced_by_another_of_the_same_size_settles_anew() -> None:
    """A new inode is a new file."""
    track = observe(observe(None, Observation(0, 9, 1, 1)), Observation(6, 9, 1, 2))
    assert verdict(track, RULES) is Verdict.GROWING
