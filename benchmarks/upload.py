"""Uploads side by side: the whole daemon, curl, the browser's way, and Python's libraries.

    python -m benchmarks.upload [--bytes 1073741824] [--rounds 5] [--folder DIR] [--only NAME ...]

1 GiB in multipart chunks of 50 MiB: chunk 0 alone, then four at a time, plain and TLS, to a sink of compiled
code on loopback. The rounds are interleaved; medians; ratios are of each round, against curl's of the same.

All seconds are taken at the sink, from the first request's head to the last answer. CPU seconds: of curl,
whole processes; of Node and of Python's libraries, the work alone, without start and imports; of the daemon,
all that the running process does for a file: notice, check, queue, upload, file away.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.split import make_zip
from benchmarks.wire.daemon import Daemon
from benchmarks.wire.sink import Sink, needed

CHUNK = 50 * 1024 * 1024
GIB = 1024**3
HERE = Path(__file__).parent
LIMITS = {"tls": (1.25, 0.9, 3.0), "plain": (1.8, 0.65, 3.0)}
"""What is aimed at: the speed over curl's, the CPU over curl's, the speed over the browser's way."""


@dataclass
class Way:
    """One client: its run gives CPU seconds."""

    name: str
    run: Callable[[], float]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    sink_cpu: list[float] = field(default_factory=list)


def cut(path: Path, folder: Path) -> list[Path]:
    """The chunks as files, for curl, which can't send ranges of one."""
    pieces = []
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            piece = folder / f"piece-{len(pieces):03}"
            piece.write_bytes(block)
            pieces.append(piece)
    return pieces


def curl(
    base: str, pieces: list[Path], ca: Path, within: tuple[str, ...] = (), *, final_alone: bool = False
) -> float:
    """Chunk 0, then all others, the final one among them, or when those are answered, as the API wants it."""

    def options(index: int) -> list[str]:
        final = "true" if index == len(pieces) - 1 else "false"
        fields = {"chunk_index": index, "total_chunks": len(pieces), "filename": "scan.zip"}
        fields |= {"upload_type": "zip_with_qr", "is_final_chunk": final, "upload_id": "u"}
        words = [word for key, value in fields.items() for word in ("-F", f"{key}={value}")]
        file = f"chunk=@{pieces[index]};filename=scan.zip.part{index}"
        return [*words, "-F", file, "-o", "/dev/null", f"{base}/batches/upload-chunk"]

    general = ["--silent", "--show-error", "--fail", "--no-progress-meter", "--http1.1", "-H", "Expect:"]
    general += ["-H", "Authorization: Bearer token", "--cacert", str(ca)]
    before = children_cpu()
    subprocess.run([*within, "curl", *general, *options(0)], check=True)
    others = list(range(1, len(pieces)))
    for group in [others[:-1], others[-1:]] if final_alone else [others]:
        words: list[str] = []
        for index in group:
            words += ["--next"] if words else ["--parallel", "--parallel-max", "4"]
            words += [*general, *options(index)]
        subprocess.run([*within, "curl", *words], check=True)
    return children_cpu() - before


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def reporting(*command: str | Path) -> float:
    """Runs a peer that prints its own CPU seconds."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout)["cpu"])


def browser(base: str, path: Path, ca: Path) -> float:
    os.environ["NODE_EXTRA_CA_CERTS"] = str(ca)
    return reporting("node", HERE / "wire" / "browser.mjs", base, path, str(CHUNK))


def library(name: str, base: str, path: Path, ca: Path) -> float:
    return reporting(sys.executable, HERE / "wire" / "peer.py", name, base, path, str(CHUNK), ca)


def daemon_run(daemon: Daemon, path: Path) -> float:
    before = daemon.cpu()
    daemon.deliver(path, f"scan-{time.monotonic_ns()}.zip")
    return daemon.cpu() - before


def ways(base: str, path: Path, pieces: list[Path], ca: Path, daemon: Daemon, only: list[str]) -> list[Way]:
    all_ways = [
        Way("omrwatchd", lambda: daemon_run(daemon, path)),
        Way("curl --parallel", lambda: curl(base, pieces, ca)),
        Way("browser's way (Node fetch)", lambda: browser(base, path, ca)),
        Way("httpx, files=bytes", lambda: library("httpx", base, path, ca)),
        Way("requests", lambda: library("requests", base, path, ca)),
        Way("http.client", lambda: library("http.client", base, path, ca)),
    ]
    found = [way for way in all_ways if not only or any(word in way.name for word in only)]
    return [way for way in found if shutil.which("node") or "Node" not in way.name]


def measure(found: list[Way], sink: Sink, rounds: int, size: int) -> None:
    """One round more than asked for, not counted, warms up."""
    for number in range(rounds + 1):
        for way in found:
            sink.stats()
            used = way.run()
            seen = sink.stats()
            assert seen["batches"] == 1, f"{way.name}: {seen}"
            assert seen["bytes"] > size, f"{way.name}: {seen}"
            if number:
                way.seconds.append(seen["seconds"])
                way.cpu.append(used)
                way.sink_cpu.append(seen["cpu"])
            print(f"{number} {way.name}: {seen['seconds']:.2f} s, CPU {used:.2f}", file=sys.stderr)


def table(found: list[Way], size: int) -> None:
    median = statistics.median
    print("| way | MB/s | CPU s/GiB | sink's CPU s/GiB | speed / curl's | CPU / curl's |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    peer = next((way for way in found if way.name.startswith("curl")), found[0])
    for way in found:
        speed = [theirs / ours for ours, theirs in zip(way.seconds, peer.seconds, strict=True)]
        effort = [ours / theirs for ours, theirs in zip(way.cpu, peer.cpu, strict=True)]
        per_gib = GIB / size
        print(
            f"| {way.name} | {size / 1e6 / median(way.seconds):,.0f} | {median(way.cpu) * per_gib:.2f} "
            f"| {median(way.sink_cpu) * per_gib:.2f} | {median(speed):.2f} | {median(effort):.2f} |"
        )


def verdict(found: list[Way], kind: str) -> None:
    """Each ratio of the daemon's beside its limit; medians of the rounds' ratios."""
    by_name = {way.name.split()[0].removesuffix("'s"): way for way in found}
    ours, curl_way, browser_way = (by_name.get(name) for name in ("omrwatchd", "curl", "browser"))
    faster, cheaper, than_browser = LIMITS[kind]
    if ours is None:
        return
    for name, peer, least in (("curl", curl_way, faster), ("the browser's way", browser_way, than_browser)):
        if peer is not None:
            ratio = statistics.median(b / a for a, b in zip(ours.seconds, peer.seconds, strict=True))
            print(f"speed over {name}: {ratio:.2f}, limit at least {least}: {_word(ratio >= least)}")
    if curl_way is not None:
        ratio = statistics.median(a / b for a, b in zip(ours.cpu, curl_way.cpu, strict=True))
        print(f"CPU over curl: {ratio:.2f}, limit at most {cheaper}: {_word(ratio <= cheaper)}")


def _word(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, default=GIB)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made; default: a temporary folder")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the ways to run")
    parser.add_argument("--kind", choices=["tls", "plain"], nargs="*", default=["tls", "plain"])
    asked = parser.parse_args()
    needed()
    with tempfile.TemporaryDirectory(prefix="upload-", dir=asked.folder) as name, Sink(Path(name)) as sink:
        folder = Path(name)
        path = folder / "scan.zip"
        make_zip(path, asked.bytes, 512)
        size = path.stat().st_size
        pieces = cut(path, folder)
        os.sync()  # or the disk's work for these files would be measured as well
        for kind in asked.kind:
            base = {"tls": sink.tls, "plain": sink.plain}[kind]
            with Daemon(folder / kind, base, sink.ca) as daemon:
                found = ways(base, path, pieces, sink.ca, daemon, asked.only)
                measure(found, sink, asked.rounds, size)
            control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
            print(f"\n{kind}, TCP by {control}: {size:,} bytes, ", end="")
            print(f"medians of {asked.rounds} interleaved rounds\n")
            table(found, size)
            print()
            verdict(found, kind)


if __name__ == "__main__":
    main()
