"""The compiled server of the benchmarks, and a certificate for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent


def needed() -> None:
    """Ends with one sentence where a tool is missing."""
    missing = [tool for tool in ("gcc", "openssl", "curl") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} is missing: apt-get install gcc libssl-dev openssl curl nodejs")


def compiled(source: str, folder: Path, *libraries: str) -> Path:
    program = folder / Path(source).stem
    done = subprocess.run(
        ["gcc", "-O2", "-o", program, HERE / source, *libraries, "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{source} can't be compiled (apt-get install gcc libssl-dev):\n{done.stderr}")
    return program


def certificate(folder: Path, *addresses: str) -> tuple[Path, Path]:
    """A certificate for these addresses that is its own authority, and its key."""
    names = ",".join(f"IP:{address}" for address in addresses)
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=sink"
    subprocess.run(
        [*command.split(), "-addext", f"subjectAltName={names}", "-keyout", "key.pem", "-out", "ca.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "ca.pem", folder / "key.pem"


class Sink:
    """Running; ``plain`` and ``tls`` are its base addresses."""

    def __init__(
        self,
        folder: Path,
        *,
        server_seconds: float = 0,
        address: str = "127.0.0.1",
        within: tuple[str, ...] = (),
    ) -> None:
        """``within``: words before the command, e.g. of a network namespace."""
        self.ca, key = certificate(folder, address)
        program = compiled("sink.c", folder, "-lssl", "-lcrypto")
        self._within = within
        self._process = subprocess.Popen(
            [*within, program, "0", "0", self.ca, key, str(server_seconds), address],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._plain_port, tls_port = self._process.stdout.readline().split()
        self.plain = f"http://{address}:{self._plain_port}"
        self.tls = f"https://{address}:{tls_port}"
        self._control = f"http://{address}:{self._plain_port}/_stats"

    def stats(self) -> dict[str, Any]:
        """What was seen since the last look."""
        if self._within:
            text = subprocess.run(
                [*self._within, "curl", "-s", self._control], capture_output=True, text=True, check=True
            ).stdout
        else:
            with urllib.request.urlopen(self._control, timeout=10) as answer:
                text = answer.read().decode()
        document = json.loads(text)
        assert isinstance(document, dict)
        return document

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
