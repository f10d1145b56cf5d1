"""Uploads over a long line: the whole daemon beside curl's four-way, TLS, 0.5 s of server time a chunk.

    python -m benchmarks.line [--bytes 1073741824] [--rounds 5] [--folder DIR] [--tcp cubic bbr]

Two lines are emulated in user space (wire/link.c): one of 500 Mbit/s, and one that gives each connection
100 Mbit/s. Both have a round trip of 40 ms, and are run by each congestion control of TCP that is asked for.
As root. Seconds are taken at the server, from the first request's head to the last answer. A round lasts
longer than connections are kept, so the daemon, too, begins each with new ones; for the next file it has
them. The goodput that a line can carry is its rate less the headers of TCP and IP.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.split import make_zip
from benchmarks.upload import GIB, curl, cut, daemon_run
from benchmarks.wire.daemon import Daemon
from benchmarks.wire.link import SERVER, Link
from benchmarks.wire.sink import Sink, needed

MBIT = 1e6
SERVER_SECONDS = 0.5
ONE_WAY_MS = 20
PAYLOAD = 1448 / 1500
"""Of each packet, with TCP's time stamps (RFC 7323)."""
SMALL_EDGES = 'edge_chunk_size = "1MiB"'


@dataclass(frozen=True)
class Line:
    name: str
    bits: float
    connection_bits: float
    least_speed: float
    """Over curl's: what is aimed at."""
    least_share: float = 0
    """Of the goodput, where that is aimed at."""

    @property
    def goodput(self) -> float:
        """Bytes a second that four connections can get through."""
        four = 4 * self.connection_bits if self.connection_bits else self.bits
        return min(self.bits, four) / 8 * PAYLOAD


LINES = (
    Line("500 Mbit/s", 500 * MBIT, 0, 0.98, 0.85),
    Line("100 Mbit/s a connection", 1000 * MBIT, 100 * MBIT, 1.0),
)


def measure(line: Line, control: str, size: int, rounds: int, folder: Path) -> None:
    with (
        Link(
            folder,
            bits=line.bits,
            delay_ms=ONE_WAY_MS,
            connection_bits=line.connection_bits,
            congestion_control=control,
        ) as link,
        Sink(folder, server_seconds=SERVER_SECONDS, address=SERVER, within=link.server) as sink,
        Daemon(folder / "usual", sink.tls, sink.ca, within=link.client) as usual,
        Daemon(folder / "small", sink.tls, sink.ca, within=link.client, more=SMALL_EDGES) as small,
    ):
        path = folder / "scan.zip"
        make_zip(path, size, 512)
        pieces = cut(path, folder)
        ways: dict[str, Callable[[], object]] = {
            "omrwatchd": lambda: daemon_run(usual, path),
            "omrwatchd, the next file": lambda: daemon_run(usual, path),
            "omrwatchd, edge_chunk_size 1 MiB": lambda: daemon_run(small, path),
            "curl --parallel": lambda: curl(sink.tls, pieces, sink.ca, link.client),
            "curl, the final chunk last": lambda: curl(
                sink.tls, pieces, sink.ca, link.client, final_alone=True
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, way in ways.items():
                sink.stats()
                way()
                seen = sink.stats()
                assert seen["batches"] == 1, f"{name}: {seen}"
                seconds[name].append(seen["seconds"])
                print(f"{line.name} {control} {number} {name}: {seen['seconds']:.2f} s", file=sys.stderr)
        print(f"\n{line.name}, a round trip of {link.round_trip_ms(sink.plain):.1f} ms as measured, ", end="")
        print(f"TCP by {control}: ", end="")
        print(f"{size:,} bytes, medians of {rounds} interleaved rounds\n")
    table(line, size, seconds)


def table(line: Line, size: int, seconds: dict[str, list[float]]) -> None:
    peer = seconds["curl --parallel"]
    print("| way | seconds | MB/s | of the line's goodput | speed / curl's |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, took in seconds.items():
        middle = statistics.median(took)
        speed = statistics.median(theirs / ours for ours, theirs in zip(took, peer, strict=True))
        share = size / middle / line.goodput
        print(f"| {name} | {middle:.1f} | {size / 1e6 / middle:.1f} | {share:.2f} | {speed:.2f} |")
    print(f"| limit | | | {line.least_share or ''} | {line.least_speed} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, default=GIB)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made; default: a temporary folder")
    parser.add_argument("--line", type=int, nargs="*", choices=range(len(LINES)), default=range(len(LINES)))
    parser.add_argument("--tcp", nargs="*", default=["cubic"], help="congestion controls; default: Linux's")
    asked = parser.parse_args()
    needed()
    for line in [LINES[number] for number in asked.line]:
        for control in asked.tcp:
            with tempfile.TemporaryDirectory(prefix="line-", dir=asked.folder) as folder:
                measure(line, control, asked.bytes, asked.rounds, Path(folder))


if __name__ == "__main__":
    main()
