"""The server: unreachable in each way, the wrong one, behind a proxy, with a bad token or certificate."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from omrwatchd.errors import Problem
from omrwatchd.ops.doctor import Level, find_token
from omrwatchd.ops.doctor.probes import prepare_probe
from omrwatchd.receiver import Fault
from omrwatchd.settings import MIB
from tests.delivery.test_quoting import echoing, no_http, refusal
from tests.ops.doctor.conftest import TOKEN, Patient
from tests.ops.doctor.servers import make_certificate, nginx, serving


def test_probe_is_refused_and_leaves_nothing_behind(patient: Patient) -> None:
    """Also a whole chunk's worth makes no batch, opens no upload and leaves no file on the server."""
    found = patient.examine(upload=True)
    assert found["token_accepted"].level is Level.OK
    assert found["api"].level is Level.OK
    assert found["upload_size"].level is Level.OK
    probes = [request for request in patient.receiver.requests if request.kind == "chunk"]
    assert [request.status for request in probes] == [400, 400]
    assert probes[1].body_bytes == 2 * MIB  # upload.direct_limit, to the byte
    assert patient.receiver.batches == []
    assert [path for path in (patient.folder / "server").rglob("*") if path.is_file()] == []
    assert list((patient.folder / "server" / "sessions").iterdir()) == []


def test_probe_is_as_large_as_the_daemons_own_chunks() -> None:
    """What a proxy measures is the whole request: file bytes, fields and framing."""
    request = prepare_probe(50 * MIB)
    assert request.length == 50 * MIB
    assert request.content_length > request.length
    assert not request.makes_batch
    assert b'name="is_final_chunk"\r\n\r\nfalse' in request.head
    assert b'name="chunk_index"\r\n\r\n1' in request.head


def test_nothing_large_is_sent_unless_asked(patient: Patient) -> None:
    """Without --upload a few hundred bytes go out."""
    patient.examine()
    assert sum(request.body_bytes for request in patient.receiver.requests) < 2000


def test_wrong_token_fails(patient: Patient) -> None:
    """The real server rejects it, and the finding says so without showing it."""
    patient.receiver.rotate_token("another")
    found = patient.examine(upload=True)
    assert found["token_accepted"].level is Level.FAIL
    assert "401" in found["token_accepted"].summary
    assert "api" not in found
    assert "upload_size" not in found


def test_missing_token_fails_and_the_server_is_examined_all_the_same(patient: Patient) -> None:
    """Each thing by itself: no token, but the server is there."""
    found = patient.examine(token=Problem("token_missing", "server.token is missing.", "Set it."))
    assert found["token"].level is Level.FAIL
    assert found["server"].level is Level.OK


def test_source_of_the_token_is_named(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops see which of the possible places is in effect."""
    assert find_token(patient.settings().server).source == "server.token"
    file = patient.folder / "token"
    file.write_text(TOKEN)
    patient.sections["server"] = {"token": None, "token_file": file}
    assert find_token(patient.settings().server).source == f"server.token_file {file}"
    patient.sections["server"] = {"token": None}
    assert "which the service gets" in find_token(patient.settings().server, file).source
    with pytest.raises(Problem, match=r"server\.token is missing"):
        find_token(patient.settings().server)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(patient.folder))
    assert find_token(patient.settings().server).source == str(file)


def test_server_that_says_the_token_back_does_not_spread_it(patient: Patient) -> None:
    """A careless error message of the server is shown without the token."""
    with serving(message="this is not for TOKEN") as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["api"]
    assert finding.level is Level.OK
    assert "Bearer ***" in finding.summary


def test_dead_server_fails(patient: Patient) -> None:
    """Nobody listens: one failure with what to try, and nothing that follows from it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        patient.sections["server"] = {"base_url": f"http://127.0.0.1:{unused.getsockname()[1]}/api"}
        found = patient.examine()
    assert found["server"].level is Level.FAIL
    assert "can't be reached" in found["server"].summary
    assert "curl" in found["server"].advice
    assert "api" not in found


def test_unknown_name_fails_as_such(patient: Patient) -> None:
    """A name that can't be resolved is told apart from a server that is down."""
    patient.sections["server"] = {"base_url": "https://omr.invalid/api"}
    finding = patient.examine()["server"]
    assert finding.level is Level.FAIL
    assert "name can't be resolved" in finding.summary
    assert "getent hosts omr.invalid" in finding.advice


def test_expired_certificate_fails_as_such(patient: Patient, tmp_path: Path) -> None:
    """TLS is told apart, too, and an expired certificate has its own advice."""
    file = make_certificate(tmp_path, days=-10)
    with serving(file) as address:
        patient.sections["server"] = {"base_url": address, "ca_file": file}
        finding = patient.examine()["server"]
    assert finding.level is Level.FAIL
    assert "certificate has expired" in finding.summary
    assert "renewed" in finding.advice


def test_unknown_authority_fails_as_such(patient: Patient, tmp_path: Path) -> None:
    """A certificate of our own authority needs server.ca_file."""
    with serving(make_certificate(tmp_path, days=90)) as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["server"]
    assert finding.level is Level.FAIL
    assert "server.ca_file" in finding.advice


@pytest.mark.parametrize(("days", "level"), [(20, Level.WARN), (90, Level.OK)])
def test_certificate_that_ends_soon_is_a_warning(
    patient: Patient, tmp_path: Path, days: int, level: Level
) -> None:
    """Three weeks before it ends there is time to renew it."""
    file = make_certificate(tmp_path, days=days)
    with serving(file) as address:
        patient.sections["server"] = {"base_url": address, "ca_file": file}
        found = patient.examine()
    assert found["certificate"].level is level
    assert f"{days} " in found["certificate"].summary
    assert found["api"].level is Level.OK


def test_ca_file_that_is_none_fails(patient: Patient) -> None:
    """The daemon would not start with it."""
    (patient.folder / "ca.pem").write_text("nonsense")
    patient.sections["server"] = {"ca_file": patient.folder / "ca.pem"}
    finding = patient.examine()["tls_files"]
    assert finding.level is Level.FAIL
    assert "server.ca_file" in finding.summary


def test_proxy_with_a_limit_is_found_with_upload_alone(patient: Patient) -> None:
    """A proxy's 413 page would halve every chunk: told with both settings that mend it."""
    with serving() as address:
        patient.sections["server"] = {"base_url": address}
        assert patient.examine()["api"].level is Level.OK
        finding = patient.examine(upload=True)["upload_size"]
    assert finding.level is Level.FAIL
    assert "413" in finding.summary
    assert "upload.chunk_size" in finding.advice


def test_probe_is_as_large_as_a_chunk_where_that_is_more(patient: Patient) -> None:
    """With a small upload.direct_limit the chunks are the largest requests."""
    patient.sections["upload"] = {"chunk_size": 3 * MIB}
    assert patient.examine(upload=True)["upload_size"].level is Level.OK
    assert patient.receiver.requests[-1].body_bytes > 3 * MIB
    patient.sections["upload"] = {"chunk_size": 2 * MIB}  # with its framing, more than direct_limit
    patient.examine(upload=True)
    assert patient.receiver.requests[-1].body_bytes > 2 * MIB


@pytest.mark.parametrize(
    ("limit", "chunk", "found", "settings"),
    [
        ("4m", "1MiB", {"upload_size": "ok"}, ()),
        ("3m", "1MiB", {"upload_size": "ok", "direct_size": "warn"}, ("upload.direct_limit", '"1MiB"')),
        ("3m", "2MiB", {"upload_size": "ok", "direct_size": "warn"}, ("upload.direct_limit", '"2MiB"')),
        ("1m", "1MiB", {"upload_size": "fail"}, ("upload.chunk_size", "upload.direct_limit")),
        pytest.param(
            "60m", "50MiB", {"upload_size": "ok", "direct_size": "warn"}, ("upload.direct_limit", '"50MiB"'),
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_limit_of_a_real_proxy_is_found(
    patient: Patient, limit: str, chunk: str, found: dict[str, str], settings: tuple[str, ...]
) -> None:
    """nginx between a chunk and a direct upload, below both, and at the daemon's own limit; nothing stays."""
    direct = "100MiB" if chunk == "50MiB" else "4MiB"
    patient.sections["upload"] = {"chunk_size": chunk, "direct_limit": direct}
    with nginx(patient.folder / "nginx", patient.receiver.base_url, limit) as address:
        patient.sections["server"] = {"base_url": address}
        findings = patient.examine(upload=True)
    sizes = {name: finding for name, finding in findings.items() if name.endswith("_size")}
    assert {name: finding.level.value for name, finding in sizes.items()} == found
    advice = " ".join(finding.advice for finding in sizes.values())
    assert all(words in advice for words in settings), advice
    assert ("client_max_body_size" in advice) is bool(settings)
    assert patient.receiver.batches == []
    assert list((patient.folder / "server" / "sessions").iterdir()) == []


def test_limit_for_direct_uploads_fails_where_there_is_no_other_way(patient: Patient) -> None:
    """Pictures can't go in chunks: what is but slower for a ZIP would lose a folder of them."""
    patient.sections["upload"] = {"chunk_size": "1MiB", "direct_limit": "4MiB"}
    patient.watch |= {"upload_type": "images", "task_id": "7"}
    with nginx(patient.folder / "nginx", patient.receiver.base_url, "3m") as address:
        patient.sections["server"] = {"base_url": address}
        found = patient.examine(upload=True)
    assert found["direct_size"].level is Level.FAIL
    assert found["upload_size"].level is Level.OK


def test_page_that_answers_everything_is_no_omr_server(patient: Patient) -> None:
    """A login page or a parked domain answers 200 with HTML."""
    with serving(everything_is_html=True) as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["api"]
    assert finding.level is Level.FAIL
    assert "web page" in finding.summary


def test_wrong_path_is_found(patient: Patient) -> None:
    """The right host with the wrong path below it answers 404 to everything."""
    patient.sections["server"] = {"base_url": patient.receiver.base_url.replace("/api", "/v1")}
    finding = patient.examine()["api"]
    assert finding.level is Level.FAIL
    assert "server.base_url" in finding.advice


def test_forgotten_upload_is_no_wrong_path(patient: Patient) -> None:
    """A server that looks at the upload id first answers 404 as well: with its own words, so it is fine."""
    patient.receiver.add_fault(Fault(match="chunk", action="status", status=404, message="no such upload"))
    assert patient.examine()["api"].level is Level.OK


def test_server_behind_a_gateway_that_is_away_fails(patient: Patient) -> None:
    """A 502 page of the gateway is no answer of the server."""
    with serving(get_status=502) as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["server"]
    assert finding.level is Level.FAIL
    assert "502" in finding.summary


def test_upload_address_of_its_own_is_reached_as_well(patient: Patient) -> None:
    """Both addresses are looked at, each under its name."""
    with serving() as address:
        patient.sections["server"] = {"base_url": address, "upload_url": patient.receiver.base_url}
        found = patient.examine()
    assert found["server"].level is Level.OK
    assert found["upload_server"].level is Level.OK
    assert found["api"].level is Level.OK
    assert any(request.kind == "chunk" for request in patient.receiver.requests)


def test_clock_of_the_server_is_compared(patient: Patient) -> None:
    """Hours between the clocks explain strange certificate errors."""
    assert patient.examine()["server_clock"].level is Level.OK
    with serving(date="Thu, 01 Jan 2026 00:00:00 GMT") as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["server_clock"]
    assert finding.level is Level.WARN
    assert "behind" in finding.summary


def test_rejected_login_fails_without_its_password(patient: Patient) -> None:
    """Where the token is got by logging in, the login is tried, and its refusal told."""
    password = patient.folder / "password"
    password.write_text(TOKEN)
    with serving(message="wrong TOKEN") as address:
        login = {"path": "/login", "username": "scanner", "password_file": password}
        patient.sections["server"] = {"base_url": address, "token": None, "login": login}
        found = patient.examine()
    assert "'scanner'" in found["token"].summary
    assert found["token_accepted"].level is Level.FAIL
    assert "rejects the login" in found["token_accepted"].summary


def test_answer_that_is_no_http_is_told_without_the_token(patient: Patient) -> None:
    """What a broken server writes is quoted by the HTTP library: not with the token that it says back."""
    with echoing(no_http, probes=True) as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["server"]
    assert finding.level is Level.FAIL
    with echoing(lambda said: no_http(said) if said else refusal("nobody")) as address:
        patient.sections["server"] = {"base_url": address}
        finding = patient.examine()["api"]
    assert finding.level is Level.FAIL
    assert "You said Bearer ***" in finding.summary


def test_password_of_a_proxy_is_not_shown(patient: Patient) -> None:
    """Neither in a finding nor by the command as text or JSON, whatever fails."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://scanner:{TOKEN}@127.0.0.1:{unused.getsockname()[1]}"
        patient.sections["server"] = {"proxy": proxy}
        assert patient.examine()["server"].level is Level.FAIL
        patient.configure()
        config = patient.folder / "config.toml"
        config.write_text(config.read_text().replace("[server]", f'[server]\nproxy = "{proxy}"'))
        for words in (("doctor",), ("doctor", "--json"), ("doctor", "--upload", "--json"), ("check",)):
            assert patient.call(*words).returncode == (0 if words == ("check",) else 1)


def test_missing_and_useless_tokens_are_told_apart(patient: Patient) -> None:
    """Each with its place and its advice, and without what stands in the file."""
    file = patient.folder / "token"
    patient.configure()
    for text, words in (
        ("", "is empty"),
        (f"{TOKEN} and {TOKEN}", "no usable token"),
        (f"{TOKEN}é", "no usable"),
    ):
        file.write_text(text)
        [told] = [f for f in json.loads(patient.call("doctor", "--json").stdout) if f["name"] == "token"]
        assert (told["level"], words in told["summary"]) == ("fail", True)
        assert str(file) in told["summary"]
        assert told["advice"]
