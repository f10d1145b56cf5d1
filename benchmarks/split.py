"""Splitting a ZIP of 11,404 sheets: computed ranges beside programs that rewrite the file.

    python benchmarks/split.py [--bytes 1600000000] [--rounds 5] [--folder DIR]

Interleaved, medians. Needs free disk of four times the size; zipsplit, unzip and 7z are left out where
they are not installed. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from omrwatchd.sheets.archive import read_archive
from omrwatchd.sheets.split import layout, plan

SHEETS = 11_404
MOST = 3_000


def make_zip(path: Path, size: int, sheets: int = SHEETS) -> None:
    """Stored pictures of equal size, of bytes that nothing can compress."""
    block = os.urandom(max(1, size // sheets))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for number in range(sheets):
            archive.writestr(f"sheet-{number:05}.jpg", number.to_bytes(4, "big") + block[4:])


def compute(path: Path, _out: Path) -> None:
    """What the daemon does: read the table of contents, check it, plan, lay out four parts."""
    with path.open("rb") as file:
        archive = read_archive(file.fileno(), path.name)
        for part in plan(archive, MOST, 1, path.name):
            layout(archive, part)


def export(path: Path, out: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "omrwatchd", "split", path, "--max-sheets", str(MOST), "--out", out],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def python_zipfile(path: Path, out: Path) -> None:
    """Entry by entry into new ZIPs, as a script would."""
    out.mkdir()
    with zipfile.ZipFile(path) as whole:
        infos = whole.infolist()
        share = -(-len(infos) // 4)
        for part in range(4):
            with zipfile.ZipFile(out / f"part{part}.zip", "w", zipfile.ZIP_STORED) as target:
                for info in infos[part * share : (part + 1) * share]:
                    with whole.open(info) as source, target.open(info, "w") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)


def zipsplit(path: Path, out: Path) -> None:
    """By size, for it knows no count; four parts."""
    out.mkdir()
    size = path.stat().st_size // 4 + 10_000_000
    command = ["zipsplit", "-n", str(size), "-b", str(out), str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seven_zip(path: Path, out: Path) -> None:
    """Unpacked, and packed again in four lists: 7z has no other way to ZIPs of their own."""
    out.mkdir()
    subprocess.run(["7z", "x", "-y", f"-o{out}/x", path], check=True, stdout=subprocess.DEVNULL)
    names = sorted(os.listdir(out / "x"))
    share = -(-len(names) // 4)
    for part in range(4):
        (out / "list").write_text("\n".join(names[part * share : (part + 1) * share]))
        command = ["7z", "a", "-tzip", "-mx0", f"{out}/part{part}.zip", f"@{out}/list"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=out / "x")


@dataclass
class Result:
    name: str
    run: Callable[[Path, Path], None]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    disk: int = 0


def measure(result: Result, path: Path, out: Path) -> None:
    before = _cpu()
    began = time.perf_counter()
    result.run(path, out)
    result.seconds.append(time.perf_counter() - began)
    result.cpu.append(_cpu() - before)
    if out.exists():
        result.disk = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        shutil.rmtree(out)


def _cpu() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def peers(size: int) -> list[Result]:
    found = [
        Result("omrwatchd: ranges computed", compute),
        Result("omrwatchd split --out (parts written)", export),
        Result("Python zipfile, entry by entry", python_zipfile),
    ]
    if shutil.which("zipsplit") and size < 2 * 1024**3:
        found.append(Result("Info-ZIP zipsplit", zipsplit))
    if shutil.which("7z"):
        found.append(Result("7z, unpacked and packed again", seven_zip))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bytes", type=int, default=1_600_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder, "scan.zip")
        make_zip(path, given.bytes)
        results = peers(given.bytes)
        for _ in range(given.rounds):
            for result in results:
                measure(result, path, Path(folder, "out"))
        size = path.stat().st_size
    base = statistics.median(results[0].seconds)
    print(f"{SHEETS} sheets, {size} bytes, medians of {given.rounds}\n")
    print("| way | seconds | CPU seconds | disk written | times ours |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for result in results:
        seconds, cpu = statistics.median(result.seconds), statistics.median(result.cpu)
        print(f"| {result.name} | {seconds:.3f} | {cpu:.2f} | {result.disk} | {seconds / base:.0f} |")


if __name__ == "__main__":
    main()
