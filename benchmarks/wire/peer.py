"""A Python library used as its documentation shows, on the same chunks: first, four at a time, last.

    python peer.py httpx|requests|http.client BASE_URL FILE CHUNK_BYTES CA_FILE

Prints {"seconds", "cpu"} of the work alone, without the start of Python and the imports.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

Send = Callable[[dict[str, str], str, int, int], None]
"""fields, file name, offset and length in bytes"""
BOUNDARY = "0123456789abcdef0123456789abcdef"


def with_httpx(base: str, path: str, ca: str) -> Send:
    import httpx

    client = httpx.Client(verify=ssl.create_default_context(cafile=ca), timeout=300)

    def send(fields: dict[str, str], name: str, offset: int, length: int) -> None:
        with Path(path).open("rb") as file:
            file.seek(offset)
            block = file.read(length)
        answer = client.post(f"{base}/batches/upload-chunk", data=fields, files={"chunk": (name, block)})
        answer.raise_for_status()

    return send


def with_requests(base: str, path: str, ca: str) -> Send:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = False  # its environment variables would go before what is said here
    session.verify = ca
    session.mount("https://", HTTPAdapter(pool_maxsize=4))

    def send(fields: dict[str, str], name: str, offset: int, length: int) -> None:
        with Path(path).open("rb") as file:
            file.seek(offset)
            block = file.read(length)
        answer = session.post(f"{base}/batches/upload-chunk", data=fields, files={"chunk": (name, block)})
        answer.raise_for_status()

    return send


def with_http_client(base: str, path: str, ca: str) -> Send:
    """Framing by hand, the file by sendfile; over TLS, where Python has none, by blocks of 1 MiB."""
    address = urlsplit(base)
    own = threading.local()

    def connection() -> http.client.HTTPConnection:
        if not hasattr(own, "kept"):
            if address.scheme == "https":
                context = ssl.create_default_context(cafile=ca)
                own.kept = http.client.HTTPSConnection(address.netloc, context=context)
            else:
                own.kept = http.client.HTTPConnection(address.netloc)
            own.kept.connect()
        assert isinstance(own.kept, http.client.HTTPConnection)
        return own.kept

    def send(fields: dict[str, str], name: str, offset: int, length: int) -> None:
        head = "".join(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        ) + (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        tail = f"\r\n--{BOUNDARY}--\r\n"
        kept = connection()
        kept.putrequest("POST", f"{address.path}/batches/upload-chunk")
        kept.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        kept.putheader("Content-Length", str(len(head) + length + len(tail)))
        kept.endheaders(head.encode())
        with Path(path).open("rb", buffering=0) as file:
            send_file(kept, file, offset, length)
        kept.send(tail.encode())
        answer = kept.getresponse()
        answer.read()
        assert answer.status == 200

    def send_file(kept: http.client.HTTPConnection, file: BinaryIO, offset: int, length: int) -> None:
        if address.scheme == "http":
            kept.sock.sendfile(file, offset, length)
            return
        file.seek(offset)
        while length:
            block = file.read(min(1024 * 1024, length))
            kept.sock.sendall(block)
            length -= len(block)

    return send


WAYS = {"httpx": with_httpx, "requests": with_requests, "http.client": with_http_client}


def main(way: str, base: str, path: str, chunk_bytes: str, ca: str) -> None:
    size, chunk = os.path.getsize(path), int(chunk_bytes)
    total = -(-size // chunk)
    send = WAYS[way](base, path, ca)

    def send_chunk(index: int) -> None:
        fields = {
            "chunk_index": str(index),
            "total_chunks": str(total),
            "filename": "scan.zip",
            "upload_type": "zip_with_qr",
            "is_final_chunk": "true" if index == total - 1 else "false",
            "upload_id": "u",
        }
        offset = index * chunk
        send(fields, f"scan.zip.part{index}", offset, min(chunk, size - offset))

    began, used = time.monotonic(), cpu()
    send_chunk(0)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(send_chunk, index) for index in range(1, total - 1)]:
            done.result()
    send_chunk(total - 1)
    print(json.dumps({"seconds": time.monotonic() - began, "cpu": cpu() - used}))


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
