"""Servers that are no OMR server: a proxy with a limit, a page that answers all, TLS with any certificate."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.waiting import until

HTML = b"<html><head><title>413 Request Entity Too Large</title></head></html>"


class ProxyLike(BaseHTTPRequestHandler):
    """Refuses bodies above `limit` with a page, as nginx does; else as an OMR server refuses a probe."""

    protocol_version = "HTTP/1.1"
    limit = 1_000_000
    get_status = 200
    message = "unknown upload_type"
    everything_is_html = False
    date: str | None = None

    def do_GET(self) -> None:
        self._answer(self.get_status, b"{}", "application/json")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if length > self.limit:
            self.close_connection = True
            self._answer(413, HTML, "text/html")
            return
        self.rfile.read(length)
        if self.everything_is_html:
            self._answer(200, HTML, "text/html")
            return
        told = self.message.replace("TOKEN", self.headers.get("Authorization", ""))
        self._answer(400, json.dumps({"message": told}).encode(), "application/json")

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.date or super().date_time_string(timestamp)

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Nothing on the test's standard error."""


class Server(ThreadingHTTPServer):
    """A handshake that the client gives up is no news."""

    def handle_error(self, *_about: object) -> None:
        return


@contextmanager
def serving(certificate: Path | None = None, **behaviour: object) -> Iterator[str]:
    """A server on loopback; its base URL."""
    server = Server(("127.0.0.1", 0), type("Behaving", (ProxyLike,), behaviour))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        scheme = "http" if certificate is None else "https"
        yield f"{scheme}://localhost:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size {limit};
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {behind}; }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, behind: str, limit: str) -> Iterator[str]:
    """The real one in front of a server, which has a base URL; its own."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    folder.mkdir()
    parts = urlsplit(behind)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    file = folder / "nginx.conf"
    file.write_text(
        _NGINX.format(folder=folder, limit=limit, port=port, behind=f"{parts.scheme}://{parts.netloc}")
    )
    process = subprocess.Popen([program, "-c", file, "-e", folder / "error.log"])
    try:
        until(lambda: _listens(port), what=f"nginx ({folder}/error.log)")
        yield f"http://127.0.0.1:{port}{parts.path}"
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


_CA = """
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost
basicConstraints = critical,CA:TRUE
"""


def make_certificate(folder: Path, days: int) -> Path:
    """Key and self-signed certificate for localhost in one file; it ends in ``days``."""
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(_CA.format(folder=folder))
    key, request, cert = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    now = datetime.now(UTC)
    starts, ends = (
        f"{now + timedelta(days=shift, minutes=5):%Y%m%d%H%M%SZ}" for shift in (min(-365, days - 365), days)
    )
    for command in (
        ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
        ["ca", "-batch", "-selfsign", "-notext", "-config", folder / "ca.cnf", "-keyfile", key,
         "-in", request, "-out", cert, "-startdate", starts, "-enddate", ends],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    file = folder / "server.pem"
    file.write_bytes(key.read_bytes() + cert.read_bytes())
    return file
