"""A folder of loose pictures: what is in it, and its bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from omrwatchd.model import file_time
from omrwatchd.sheets.entry import is_picture
from omrwatchd.sheets.source import Piece, SourceChanged, across

_READ_BYTES = 1024 * 1024
_ANOTHER_OR_GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})
"""What opening says of a name that is gone, a link by now, or a socket."""
_NOT_SCANS = (b".", b"@", b"__")
"""Beginnings of folders that desktop and storage systems leave behind."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, directly in its folder."""

    name: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a folder in the order of their names, and what else lies there."""

    entries: tuple[Picture, ...]
    others: tuple[bytes, ...]
    """Files that are no pictures."""
    folders: tuple[bytes, ...]
    """Subfolders in which somebody may have put pictures: they are not looked into."""

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(picture.size for picture in self.entries)

    @property
    def mtime_ns(self) -> int:
        """The youngest picture's."""
        return max((picture.mtime_ns for picture in self.entries), default=0)

    @property
    def digest(self) -> int:
        """63 bits that change with any name, size or time in the folder; they move along with it."""
        described = repr((self.entries, sorted(self.others), sorted(self.folders))).encode()
        return int.from_bytes(hashlib.sha256(described).digest()[:8], "big") >> 1


def list_pictures(folder: bytes) -> Pictures:
    """Look at every entry of the folder, links not followed. Raises OSError."""
    entries: list[Picture] = []
    others: list[bytes] = []
    folders: list[bytes] = []
    with os.scandir(folder) as found:
        for entry in found:
            try:
                seen = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # taken away just now: that is no reason to call the folder gone
                continue
            if stat.S_ISDIR(seen.st_mode):
                if not entry.name.startswith(_NOT_SCANS):
                    folders.append(entry.name)
            elif stat.S_ISREG(seen.st_mode) and is_picture(entry.name):
                entries.append(Picture(entry.name, seen.st_size, file_time(seen.st_mtime_ns)))
            else:
                others.append(entry.name)
    return Pictures(tuple(sorted(entries, key=lambda p: p.name)), tuple(others), tuple(folders))


class PictureSet:
    """Some pictures of an open folder; the descriptor stays the caller's."""

    def __init__(self, descriptor: int, entries: Sequence[Picture]) -> None:
        self._descriptor = descriptor
        self.entries = tuple(entries)

    def open(self, picture: Picture) -> int:
        """A descriptor of the picture as it was listed.

        Raises:
            SourceChanged: it is another one by now, or gone.
            OSError: it can't be read; of a share that went away nothing is known but that.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(picture.name, flags, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in _ANOTHER_OR_GONE:
                raise
            raise SourceChanged("a picture can't be read any more") from error
        now = os.fstat(descriptor)
        if (now.st_size, file_time(now.st_mtime_ns)) != (picture.size, picture.mtime_ns):
            os.close(descriptor)
            raise SourceChanged("a picture was changed")
        return descriptor

    def fingerprint(self) -> str:
        """SHA-256 over the names and the contents of all pictures; reads every byte."""
        whole = hashlib.sha256()
        for picture in self.entries:
            descriptor = self.open(picture)
            try:
                content = hashlib.sha256()
                while block := os.read(descriptor, _READ_BYTES):
                    content.update(block)
            finally:
                os.close(descriptor)
            whole.update(repr((picture.name, content.digest())).encode())
        return whole.hexdigest()


class FramedPictures:
    """Pictures one behind the other, each with the bytes that stand before it in a request: a Source."""

    def __init__(self, pictures: PictureSet, heads: Sequence[bytes]) -> None:
        self._pictures = pictures
        self._segments: list[bytes | Picture] = []
        for head, picture in zip(heads, pictures.entries, strict=True):
            self._segments += [head, picture]
        lengths = (len(each) if isinstance(each, bytes) else each.size for each in self._segments)
        self._starts = list(accumulate(lengths, initial=0))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._starts[-1]

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The bytes, read: a picture is open only as long as that takes."""
        yield b"".join(self._read(*each) for each in across(self._starts, offset, length))

    def check(self) -> None:
        """Nothing to do: each picture is looked at when it is read."""

    def _read(self, index: int, skip: int, want: int) -> bytes:
        segment = self._segments[index]
        if isinstance(segment, bytes):
            return segment[skip : skip + want]
        descriptor = self._pictures.open(segment)
        try:
            block = os.pread(descriptor, want, skip)
        finally:
            os.close(descriptor)
        if len(block) != want:
            raise SourceChanged("a picture became shorter while it was read")
        return block
