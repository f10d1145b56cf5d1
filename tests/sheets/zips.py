"""ZIPs for the tests: every kind that scanning programs write, made with the standard library."""

from __future__ import annotations

import io
import os
import random
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from omrwatchd.sheets.archive import Archive, read_archive
from omrwatchd.sheets.source import FileSource


class Pipe:
    """A stream that can't be rewound: zipfile then writes data descriptors."""

    def __init__(self) -> None:
        self.written = io.BytesIO()

    def write(self, data: bytes) -> int:
        return self.written.write(data)

    def flush(self) -> None: ...


@dataclass
class Member:
    name: str
    data: bytes
    deflated: bool = False
    zip64: bool = False
    extra: bytes = b""


def build(
    members: Sequence[Member],
    *,
    streamed: bool = False,
    reverse: bool = False,
    shuffled: int | None = None,
    gap: bytes = b"",
    prefix: bytes = b"",
    prefix_counted: bool = False,
    comment: bytes = b"",
) -> bytes:
    """A ZIP; ``prefix_counted`` offsets count from the start of the file, as in an adjusted stub.

    ``shuffled`` is the seed of another order in the directory than on the disk; ``gap`` are bytes of no
    entry that stand before each and before the directory, as deleted entries leave them.
    """
    pipe = Pipe()
    plain = io.BytesIO()
    out = pipe if streamed else plain
    if prefix_counted:
        out.write(prefix)
    with zipfile.ZipFile(out, "w" if streamed or not prefix_counted else "a") as target:
        for member in members:
            leave_gap(target, gap)
            info = zipfile.ZipInfo(member.name, (2024, 5, 6, 7, 8, 10))
            info.extra = member.extra
            info.compress_type = zipfile.ZIP_DEFLATED if member.deflated else zipfile.ZIP_STORED
            with target.open(info, "w", force_zip64=member.zip64) as entry:
                entry.write(member.data)
        leave_gap(target, gap)
        if shuffled is not None:
            random.Random(shuffled).shuffle(target.filelist)
        if reverse:
            target.filelist.reverse()
        target.comment = comment
    made = (pipe.written if streamed else plain).getvalue()
    return made if prefix_counted else prefix + made


def leave_gap(target: zipfile.ZipFile, gap: bytes) -> None:
    assert target.fp is not None
    if gap:
        target.fp.write(gap)
        target.start_dir = target.fp.tell()


def scans(count: int, **options: object) -> bytes:
    """A ZIP with ``count`` small sheets of different content."""
    return build([Member(f"sheet{n:04d}.jpg", b"picture %d" % n) for n in range(count)], **options)  # type: ignore[arg-type]


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    """A descriptor of a file in memory."""
    fd = os.memfd_create("scan.zip")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def read(data: bytes) -> Archive:
    with opened(data) as fd:
        return read_archive(fd, "scan.zip")


def source_of(fd: int) -> FileSource:
    status = os.fstat(fd)
    return FileSource(fd, status.st_size, status.st_mtime_ns)


def unzip_test(path: Path) -> None:
    """Fail unless ``unzip -t`` has nothing to say against the file."""
    done = subprocess.run(["unzip", "-tqq", str(path)], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\")
stems = st.text(letters, min_size=1, max_size=12) | st.sampled_from(["a", "b/c", "é", "日本", "'\"", "x\ny"])
suffixes = st.sampled_from([".jpg", ".JPG", ".tiff", ".png", ".pdf", ".txt", ".xml", ""])
extras = st.sampled_from([b"", b"\x55\x54\x05\x00\x01\x00\x00\x00\x00", b"\xfe\xca\x00\x00"])
members = st.builds(
    Member,
    st.builds(str.__add__, stems, suffixes),
    st.binary(max_size=200),
    st.booleans(),
    st.booleans(),
    extras,
)
member_lists = st.lists(members, max_size=8, unique_by=lambda member: member.name)
stubs = st.binary(max_size=40).filter(lambda stub: b"PK" not in stub)
gaps = st.just(b"") | stubs | st.sampled_from([b"\0" * 12, b"\0" * 16, b"\0" * 24])


def zips_with(gap: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        build,
        member_lists,
        streamed=st.booleans(),
        reverse=st.booleans(),
        shuffled=st.none() | st.integers(0, 9),
        gap=gap,
        prefix=stubs,
        prefix_counted=st.booleans(),
        # zipfile is misled by such a comment
        comment=st.binary(max_size=30).filter(lambda comment: b"PK" not in comment),
    )


zips = zips_with(st.just(b""))
gapped_zips = zips_with(gaps)
