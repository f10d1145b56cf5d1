"""The long line of the benchmarks: two network namespaces, and the program between them (link.c)."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from benchmarks.wire.sink import compiled

SERVER, CLIENT = "10.213.0.1", "10.213.0.2"


class Link:
    """Up; ``client`` and ``server`` are the words that put a command into one of the two namespaces.

    Needs root, ip(8) and /dev/net/tun. Both ends forget what they learnt of the line between connections
    (tcp_no_metrics_save), and have buffers as a machine of today has.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bits: float,
        delay_ms: float,
        connection_bits: float = 0,
        congestion_control: str = "cubic",
    ) -> None:
        """``delay_ms`` is of one way, ``connection_bits`` (a second) a cap for each connection; 0: none."""
        known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
        if congestion_control not in known:
            sys.exit(f"No congestion control {congestion_control} here: modprobe tcp_{congestion_control}")
        self._congestion_control = congestion_control
        if os.geteuid() != 0 or shutil.which("ip") is None:
            sys.exit("The long line needs root and ip(8): apt-get install iproute2")
        self._names = {side: f"omrw-{side}-{os.getpid()}" for side in ("server", "client")}
        self.client = ("ip", "netns", "exec", self._names["client"])
        self.server = ("ip", "netns", "exec", self._names["server"])
        devices = [f"omrws{os.getpid()}", f"omrwc{os.getpid()}"]
        program = compiled("link.c", folder)
        self._process = subprocess.Popen(
            [program, *devices, str(bits), str(delay_ms), str(connection_bits)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            sys.exit("The long line can't be made: see above.")
        for side, device, own, other in (
            ("server", devices[0], SERVER, CLIENT),
            ("client", devices[1], CLIENT, SERVER),
        ):
            self._make(self._names[side], device, own, other)

    def _make(self, name: str, device: str, own: str, other: str) -> None:
        run = ("ip", "netns", "exec", name)
        for words in (
            ("ip", "netns", "add", name),
            ("ip", "link", "set", device, "netns", name),
            (*run, "ip", "link", "set", "lo", "up"),
            # a burst of 64 KiB would be dropped whole; on the wire it is many packets
            (*run, "ip", "link", "set", device, "mtu", "1500", "gso_max_size", "16000", "up"),
            (*run, "ip", "address", "add", own, "peer", other, "dev", device),
            (*run, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={self._congestion_control}"),
            (*run, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"),
            (*run, "sysctl", "-qw", "net.ipv4.tcp_rmem=4096 131072 16777216"),
            (*run, "sysctl", "-qw", "net.ipv4.tcp_wmem=4096 131072 16777216"),
        ):
            subprocess.run(words, check=True)

    def round_trip_ms(self, address: str) -> float:
        """The median of nine TCP handshakes with a server's address (ms)."""
        command = [*self.client, "curl", "-s", "-o", "/dev/null", "-w", "%{time_connect}", address]
        took = [
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(9)
        ]
        return statistics.median(took) * 1000

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False)
