"""Which files are whole ZIPs, and what is said of those that are not."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omrwatchd.errors import Problem
from omrwatchd.sheets.archive import Archive, check_sheets, read_archive

from .zips import Member, build, opened, read, scans, unzip_test, zips

NO_END = "scan.zip is not a complete ZIP file: its end is missing (the table of contents was not found)."


def refusal(data: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        read(data)
    assert caught.value.code == "not_a_zip"
    assert caught.value.summary.startswith("scan.zip is not a complete ZIP file: ")
    assert caught.value.advice
    return caught.value


def survives(data: bytes) -> None:
    """Accepted or refused, but nothing else."""
    said = None
    try:
        read(data)
    except Problem as problem:
        said = problem
    assert said is None or (said.code == "not_a_zip" and said.summary.isprintable())


def agrees(archive: Archive, data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as reference:
        infos = reference.infolist()
        assert archive.comment == reference.comment
    told = [(e.crc, e.compressed, e.size, e.offset, e.method, e.flags, e.is_dir) for e in archive.entries]
    known = [
        (i.CRC, i.compress_size, i.file_size, i.header_offset, i.compress_type, i.flag_bits, i.is_dir())
        for i in infos
    ]
    assert told == known
    for entry, info in zip(archive.entries, infos, strict=True):
        assert entry.name.decode("utf-8" if entry.flags & 0x800 else "cp437") == info.orig_filename


@settings(deadline=None)
@given(zips)
def test_agrees_with_zipfile(data: bytes) -> None:
    """Every ZIP that zipfile writes is accepted, and its entries are what zipfile says they are."""
    agrees(read(data), data)


@settings(deadline=None)
@given(zips)
def test_spans_are_exact(data: bytes) -> None:
    """Entries written one behind the other touch: descriptors are measured to the byte."""
    archive = read(data)
    physical = sorted(archive.entries, key=lambda entry: entry.offset)
    for entry, following in pairwise(physical):
        assert entry.end == following.offset
    if physical:
        assert physical[-1].end == archive.directory_offset


@pytest.mark.parametrize(
    "command",
    [
        "zip -0 -r scan.zip .",
        "zip -9 -r scan.zip .",
        "zip -fz -r scan.zip .",
        "zip -X -D -r scan.zip .",
        "zip -r - . | cat > scan.zip",
        "zip -0 -r - . | cat > scan.zip",
        "zip -r scan.zip . && echo 'a comment' | zip -z scan.zip",
        "zip -r plain.zip . && cat /bin/true plain.zip > scan.zip",
        "zip -r plain.zip . && cat /bin/true plain.zip > scan.zip && zip -A scan.zip",
        "zip -r scan.zip . && zip -d scan.zip sub/b.png",
        "zip -fd -r scan.zip .",
        "zip -fd -0 -r scan.zip .",
        "zip -fz- -r - . | cat > scan.zip",
        "zip -Z bzip2 -r scan.zip .",
        "zip -y -j scan.zip a.jpg link.png sub/b.png",
        "zip scan.zip a.jpg && zip -g -r scan.zip sub && zip -u scan.zip empty.txt",
        "zip -r plain.zip . && zip -F plain.zip --out scan.zip",
        "cat a.jpg | zip -0 scan.zip - a.jpg",
        "7z a -tzip scan.zip .",
        "7z a -tzip -mx=0 -mtc=on scan.zip .",
        "7z a -tzip -mm=Deflate64 scan.zip .",
        "7z a -tzip -mcu=on scan.zip . && 7z d scan.zip a.jpg",
        "7z a -tzip -si'a.jpg' scan.zip < a.jpg",
        "bsdtar --format zip -cf scan.zip .",
        "bsdtar --format zip -cf - . | cat > scan.zip",
        "bsdtar --format zip --options zip:compression=store -cf - . | cat > scan.zip",
        "bsdtar --format zip --options zip:zip64 -cf scan.zip .",
        "bsdtar --format zip --options zip:experimental -cf scan.zip .",
        "jar cf scan.zip .",
        "jar c0f scan.zip .",
        "jar cfM scan.zip . && jar uf scan.zip a.jpg",
    ],
)
def test_reads_what_other_programs_write(command: str, tmp_path: Path) -> None:
    """Info-ZIP, 7-Zip, libarchive, Java: however they are told to write, it is read as zipfile reads it."""
    program = command.removeprefix("cat a.jpg | ").split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    content = tmp_path / "in"
    (content / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.png", "sub/héllo.tif", "empty.txt"):
        (content / name).write_bytes(name.encode() * 50 if name != "empty.txt" else b"")
    (content / "link.png").symlink_to("a.jpg")
    subprocess.run(command, shell=True, cwd=content, check=True, stdout=subprocess.DEVNULL, timeout=30)
    data = (content / "scan.zip").read_bytes()
    agrees(read(data), data)


@pytest.mark.parametrize("streamed", [False, True])
def test_every_cut_is_noticed(streamed: bool) -> None:
    """A file cut off at any byte is not a whole ZIP."""
    data = build(
        [Member("a.jpg", b"x" * 50), Member("b.jpg", b"y" * 50, deflated=True, zip64=True)],
        streamed=streamed,
        comment=b"scanned in room 5",
    )
    for length in range(len(data)):
        refusal(data[:length])


@settings(deadline=None)
@given(zips, st.data())
def test_random_cuts_are_noticed(data: bytes, choose: st.DataObject) -> None:
    """A file cut off anywhere, or with its beginning gone, is refused; never another exception."""
    refusal(data[: choose.draw(st.integers(0, len(data) - 1))])
    survives(data[choose.draw(st.integers(1, len(data))) :])


def test_says_that_the_end_is_missing() -> None:
    """The sentence for a cut-off file names the file, and the advice says what to do."""
    problem = refusal(scans(3)[:-30])
    assert problem.summary == NO_END
    assert problem.advice == "Save or copy the file again."


@settings(max_examples=300, deadline=None)
@given(zips, st.data())
def test_changed_bytes_never_crash(data: bytes, choose: st.DataObject) -> None:
    """Damage anywhere leads to an archive or a sentence, and to nothing else."""
    broken = bytearray(data)
    for _ in range(choose.draw(st.integers(1, 6))):
        at = choose.draw(st.integers(0, len(broken)))
        what = choose.draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"\xff" * 8, b"\0" * 16]))
        broken[at : at + choose.draw(st.sampled_from([0, len(what)]))] = what
    survives(bytes(broken))


@settings(deadline=None)
@given(zips, zips, st.data())
def test_spliced_zips_never_crash(one: bytes, two: bytes, choose: st.DataObject) -> None:
    """The head of one ZIP and the tail of another lead to an archive or a sentence."""
    survives(one[: choose.draw(st.integers(0, len(one)))] + two[choose.draw(st.integers(0, len(two))) :])


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_noise_never_crashes(head: bytes, tail: bytes) -> None:
    """An end record with random numbers in it leads to an archive or a sentence."""
    survives(head + b"PK\x05\x06" + tail)
    survives(head + b"PK\x06\x06" + tail[:56].ljust(56, b"\0") + b"PK\x06\x07" + tail[:16].ljust(16, b"\0"))


@pytest.mark.parametrize("data", [b"", b"PK", b"hello" * 100, b"\0" * 100_000, b"PK\x05\x06"])
def test_other_files_are_refused(data: bytes) -> None:
    """A file that never was a ZIP is refused like a cut-off one."""
    assert refusal(data).summary == NO_END


def test_an_empty_zip_is_whole() -> None:
    """A ZIP without entries is whole, and holds no sheets."""
    archive = read(build([]))
    assert archive.entries == ()
    with pytest.raises(Problem, match=r"scan.zip is empty\.") as caught:
        check_sheets(archive, "scan.zip")
    assert caught.value.code == "no_sheets"


@pytest.mark.parametrize("method", [False, True])
def test_a_hole_in_the_middle_is_noticed(method: bool) -> None:
    """Zeros where a local header should be: the file was not copied whole."""
    data = build([Member(f"{n}.jpg", bytes(range(256)) * 4, deflated=method) for n in range(20)])
    archive = read(data)
    start, stop = archive.entries[7].offset, archive.entries[8].end
    problem = refusal(data[:start] + bytes(stop - start) + data[stop:])
    assert "the data of 7.jpg is missing" in problem.summary


def test_a_hole_over_a_descriptor_is_noticed() -> None:
    """Zeros where a data descriptor should be: the end of that sheet was not copied."""
    data = scans(3, streamed=True)
    start = data.index(b"PK\x07\x08") - 4
    assert "is missing" in refusal(data[:start] + bytes(20) + data[start + 20 :]).summary


def test_a_missing_middle_is_noticed() -> None:
    """A file with a block left out is refused although its end is there."""
    data = scans(20)
    refusal(data[:300] + data[400:])


def test_overlapping_entries_are_refused() -> None:
    """Two entries that share their bytes are a zip bomb, not an exam."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("a.jpg", b"x" * 100)
        target.filelist.append(target.filelist[0])
    assert "overlaps" in refusal(out.getvalue()).summary


def test_an_entry_that_runs_into_the_directory_is_refused() -> None:
    """Data can't reach behind the start of the table of contents."""
    data = bytearray(scans(1))
    at = data.index(b"PK\x01\x02") + 20
    data[at : at + 4] = struct.pack("<I", 1000)
    assert "overlaps" in refusal(bytes(data)).summary


def test_another_name_in_the_local_header_is_refused() -> None:
    """A local header must tell the same name as the directory."""
    data = scans(2)
    assert "something else stands" in refusal(data.replace(b"sheet0000", b"other0000", 1)).summary


def test_a_zip_in_a_cut_off_zip_does_not_pass_for_it() -> None:
    """Cut right behind a ZIP stored inside, the rest of the exam is missing: refused."""
    inner = scans(2)
    data = build([Member("first.jpg", b"1"), Member("inner.zip", inner), Member("last.jpg", b"2")])
    cut = data.index(inner) + len(inner)
    for more in (0, 5, 20):
        refusal(data[: cut + more])
    assert read(data).sheets == 2


def test_two_zips_in_one_file_are_refused() -> None:
    """Of two ZIPs copied into one file, neither the first nor the second is all there is."""
    refusal(scans(2) + scans(3))
    refusal(scans(2) + scans(3)[:-10])


def test_bytes_behind_the_end_are_passed_over() -> None:
    """Some programs pad the file: unzip does not mind, nor do we."""
    assert read(scans(3) + b"\r\n").sheets == 3
    assert read(scans(3) + bytes(512)).sheets == 3


def test_an_end_record_in_the_comment_is_only_a_comment() -> None:
    """A comment that looks like the end of a ZIP does not hide the sheets."""
    fake = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    assert read(scans(3, comment=b"see " + fake + b"!")).sheets == 3
    assert read(scans(3, comment=b"x" * 65535)).sheets == 3


def end64(count: int, length: int, offset: int, at: int, disks: int = 1) -> bytes:
    return (
        struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset)
        + struct.pack("<4sIQI", b"PK\x06\x07", 0, at, disks)
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    )


@pytest.mark.parametrize(
    "tail",
    [
        end64(2**63, 2**63, 0, 1000),
        end64(2**40, 900, 100, 1000),
        end64(1, 2**64 - 1, 2**64 - 1, 1000),
        end64(3, 900, 2**64 - 1, 1000),
        end64(3, 900, 100, 2**64 - 1),
        end64(0, 0, 1000, 1000, disks=3),
    ],
)
def test_absurd_numbers_are_refused_at_once(tail: bytes) -> None:
    """Counts and sizes that can't be are refused before anything is read or allocated for them."""
    began = time.perf_counter()
    refusal(bytes(1000) + tail)
    assert time.perf_counter() - began < 1


def records(count: int, extra: bytes, sizes: int) -> bytes:
    name = b"a.jpg"
    lengths = (sizes, sizes, len(name), len(extra))
    record = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, *lengths, 0, 0, 0, 0, 0)
    return (record + name + extra) * count


@pytest.mark.parametrize(
    "directory",
    [records(700, struct.pack("<HH", 9, 0) * 16_000, 2**32 - 1), records(200_000, b"", 0)],
    ids=["records full of empty extra fields", "200,000 records of one entry"],
)
def test_a_directory_made_to_keep_us_busy_is_refused_in_seconds(directory: bytes) -> None:
    """The costliest lies that are within the bounds: 45 MB of them are seen through in bounded time."""
    count = directory.count(b"PK\x01\x02")
    head = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 5, 0) + b"a.jpg"
    began = time.process_time()
    refusal(head + directory + end64(count, len(directory), len(head), len(head) + len(directory)))
    assert time.process_time() - began < 5


def test_the_largest_exam_is_read_in_half_a_second() -> None:
    """11,404 sheets with long names: the time of the processor, so that a busy machine does not count."""
    data = build([Member(f"exam/room 12/sheet-{n:05}-front.jpg", b"x" * 20) for n in range(11_404)])
    began = time.process_time()
    assert read(data).sheets == 11_404
    assert time.process_time() - began < 0.5


def test_a_huge_directory_is_refused(tmp_path: Path) -> None:
    """A directory beyond every bound is refused unread, even where the file is long enough."""
    with (tmp_path / "scan.zip").open("w+b") as file:
        length = 600 * 1024 * 1024
        file.seek(length)
        file.write(end64(1000, length, 0, length))
        file.flush()
        with pytest.raises(Problem, match="impossibly large"):
            read_archive(file.fileno(), "scan.zip")


def test_a_volume_of_a_split_zip_is_refused() -> None:
    """One of several volumes is not the whole; the advice says to save a single file."""
    data = bytearray(scans(2))
    data[-18:-16] = b"\x01\x00"
    problem = refusal(bytes(data))
    assert "split over several files" in problem.summary
    assert "one ZIP file" in problem.advice


@pytest.mark.parametrize("at", [-16, -14], ids=["volume of the directory", "entries in this volume"])
def test_numbers_that_mean_nothing_in_a_single_file_are_passed_over(at: int, tmp_path: Path) -> None:
    """As unzip and zipfile do."""
    data = bytearray(scans(2))
    data[at : at + 2] = b"\x46\x01"
    (tmp_path / "scan.zip").write_bytes(data)
    unzip_test(tmp_path / "scan.zip")
    assert read(bytes(data)).sheets == 2


def test_offsets_without_their_upper_half_are_explained(tmp_path: Path) -> None:
    """Beyond 4 GiB some programs write numbers that are too short: the advice says what helps."""
    data = scans(2)
    cut = read(data).directory_offset
    with (tmp_path / "scan.zip").open("w+b") as file:
        os.pwrite(file.fileno(), data[:cut], 0)
        os.pwrite(file.fileno(), data[cut:], cut + 2**32)
        with pytest.raises(Problem, match="larger than 4 GiB") as caught:
            read_archive(file.fileno(), "scan.zip")
    assert "smaller ZIP files" in caught.value.advice


def test_the_position_of_the_descriptor_stays() -> None:
    """Reading leaves the file position alone: others may use the same descriptor."""
    with opened(scans(3)) as fd:
        os.lseek(fd, 7, os.SEEK_SET)
        read_archive(fd, "scan.zip")
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("a.jpg", True),
        ("b/c/A.JPEG", True),
        ("a.PnG", True),
        ("a.tif", True),
        ("a.tiff", True),
        ("a.bmp", True),
        ("a.webp", True),
        ("a.gif", True),
        ("a.pdf", True),
        ("a.txt", False),
        ("jpg", False),
        ("a.jpg/", False),
        (".hidden.jpg", False),
        ("b/.jpg", False),
        (".dir/a.jpg", True),
        ("__MACOSX/a.jpg", False),
        ("b/__MACOSX/c/a.jpg", False),
        ("Thumbs.db", False),
    ],
)
def test_what_counts_as_a_sheet(name: str, counts: bool) -> None:
    """Pictures are sheets, whatever their case; what desktop systems leave behind is not."""
    archive = read(build([Member(name, b"")]))
    assert archive.sheets == counts
    assert archive.entries[0].is_dir == name.endswith("/")


def test_a_japanese_name_with_a_backslash_byte_is_a_sheet() -> None:
    """The second byte of a Shift-JIS letter may be a backslash: that makes it no hidden file."""
    data = build([Member("ab.jpg", b"")]).replace(b"ab.jpg", "ソ".encode("shift-jis") + b".jpg")
    assert read(data).sheets == 1


def test_a_zip_without_sheets_is_refused() -> None:
    """Without a picture there is nothing to deliver; the advice lists what counts."""
    with pytest.raises(Problem, match=r"scan.zip holds no sheet images\.") as caught:
        check_sheets(read(build([Member("notes.txt", b"")])), "scan.zip")
    assert caught.value.code == "no_sheets"
    assert "JPG" in caught.value.advice


def test_an_encrypted_zip_is_refused() -> None:
    """An entry with a password is named, and the advice says to switch it off."""
    data = bytearray(scans(2))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    archive = read(bytes(data))
    with pytest.raises(Problem, match=r"sheet0000\.jpg is encrypted") as caught:
        check_sheets(archive, "scan.zip")
    assert caught.value.code == "encrypted_zip"
    assert "password" in caught.value.advice or "password" in caught.value.summary


def test_good_sheets_pass() -> None:
    """A ZIP with sheets is let through."""
    check_sheets(read(scans(1)), "scan.zip")


def test_the_fingerprint_knows_the_content() -> None:
    """The same sheets have the same fingerprint however they are zipped; other sheets have another."""
    sheets = [Member("a.jpg", b"1" * 90), Member("b.jpg", b"2" * 90)]
    known = read(build(sheets)).fingerprint
    packed = [Member(member.name, member.data, deflated=True) for member in sheets]
    assert read(build(packed, streamed=True, comment=b"x", prefix=b"stub")).fingerprint == known
    assert len(known) == 64
    others = [
        [Member("a.jpg", b"1" * 90), Member("c.jpg", b"2" * 90)],
        [Member("a.jpg", b"1" * 90), Member("b.jpg", b"3" * 90)],
        [Member("a.jpg", b"1" * 90)],
        sheets[::-1],
    ]
    assert len({known, *(read(build(other)).fingerprint for other in others)}) == 5
