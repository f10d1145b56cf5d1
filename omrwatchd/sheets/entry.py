"""What a ZIP holds: its entries, and which of them are sheets. Plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

SHEET_SUFFIXES = (b".jpg", b".jpeg", b".png", b".tif", b".tiff", b".bmp", b".webp", b".gif", b".pdf")

# APPNOTE.TXT 4.4.4: bit 0 encrypted, bit 6 strong encryption, bit 13 names masked by an encrypted directory.
_ENCRYPTED_FLAGS = 0x2041
# APPNOTE.TXT appendix E: the method that WinZip's AES encryption writes.
_AES_METHOD = 99


def is_picture(name: bytes) -> bool:
    """Whether a file of this name, without its folders, is a scanned picture."""
    return name.lower().endswith(SHEET_SUFFIXES) and not name.startswith(b".")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder in a ZIP, as its central directory record tells it (APPNOTE.TXT 4.3.12).

    Args:
        name: the raw bytes, in whatever encoding the writing program used; folders end with ``/``.
        flags: general purpose bit flags (4.4.4).
        method: compression method (4.4.5); 0 stored, 8 deflated.
        crc: CRC-32 of the uncompressed data.
        compressed: bytes of data in the ZIP.
        size: bytes when unpacked.
        offset: where the local header begins, in bytes from the start of the file.
        end: just behind the data and its data descriptor, in bytes from the start of the file.
        record: the raw central directory record.
    """

    name: bytes
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    end: int
    record: bytes

    @property
    def is_dir(self) -> bool:
        """Whether this is a folder (4.4.17: its name ends with a slash)."""
        return self.name.endswith(b"/")

    @property
    def is_sheet(self) -> bool:
        """Whether this is a scanned picture, and nothing that a desktop system left behind."""
        # Only '/' separates: a backslash may be the second half of a Shift-JIS letter.
        *folders, base = self.name.split(b"/")
        return is_picture(base) and b"__MACOSX" not in folders

    @property
    def encrypted(self) -> bool:
        """Whether a password is needed to read it."""
        return bool(self.flags & _ENCRYPTED_FLAGS) or self.method == _AES_METHOD


@dataclass(frozen=True, slots=True)
class Archive:
    """A whole ZIP: every entry stands where its directory says.

    Args:
        size: bytes of the file.
        entries: in the order of the central directory.
        comment: the archive comment, raw.
        directory_offset: where the central directory begins, in bytes from the start of the file.
        fingerprint: hex SHA-256 of the names, unpacked sizes and CRCs in order: the same sheets zipped
            again, with other compression or times, have the same one.
    """

    size: int
    entries: tuple[Entry, ...]
    comment: bytes
    directory_offset: int
    fingerprint: str

    @property
    def sheets(self) -> int:
        """How many entries are sheets."""
        return sum(entry.is_sheet for entry in self.entries)
