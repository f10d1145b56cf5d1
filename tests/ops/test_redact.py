"""Secrets: whatever others say, neither log nor notification shows one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omrwatchd.ops.redact import Redactor
from omrwatchd.settings import Login, Server

ADDRESS = "https://omr.example.org/api"


@pytest.mark.parametrize(
    "words",
    [
        "{'Authorization': 'Bearer t0p-s3cret'}",
        "authorization: bearer t0p-s3cret",
        "Proxy-Authorization: Basic t0p-s3cret",
        "https://scanner:t0p-s3cret@proxy.example.org:3128 refused",
        "https://scanner:first@t0p-s3cret@proxy.example.org:3128 refused",
        '{"token": "t0p-s3cret"}',
        "GET /api?access_token=t0p-s3cret&x=1",
        "password='t0p-s3cret'",
    ],
)
def test_what_looks_like_a_secret_is_hidden(words: str) -> None:
    """Headers, addresses and answers that quote a secret lose it, even one that nobody told us."""
    cleaned = Redactor().text(words)
    assert "t0p-s3cret" not in cleaned
    assert "***" in cleaned


@pytest.mark.parametrize("quoted", ["{}", "b'x{}y'", "the server said: {} is no token of mine", "x={}"])
def test_the_token_of_the_settings_is_hidden_wherever_it_stands(quoted: str) -> None:
    """The configured token is cut out of any text, also in the middle of a word."""
    server = Server.model_validate({"base_url": ADDRESS, "token": "t0p-s3cret"})
    assert "t0p-s3cret" not in Redactor(server).text(quoted.format("t0p-s3cret"))


def test_every_value_of_a_line_is_looked_into() -> None:
    """Lists, tables and exceptions are cleaned as well as texts; numbers stay numbers."""
    server = Server.model_validate({"base_url": ADDRESS, "token": "t0p-s3cret"})
    given = {"a": ["t0p-s3cret"], "b": {"c": ("x t0p-s3cret",)}, "e": ValueError("t0p-s3cret"), "n": 3}
    cleaned = Redactor(server).value(given)
    assert "t0p-s3cret" not in repr(cleaned)
    assert cleaned["n"] == 3


def test_token_files_are_known_before_and_after_they_change(tmp_path: Path) -> None:
    """A token that is replaced in its file is hidden from then on, and the old one stays hidden."""
    file = tmp_path / "token"
    file.write_text("first-token\n")
    redactor = Redactor(Server.model_validate({"base_url": ADDRESS, "token_file": file}))
    assert redactor.text("sent first-token") == "sent ***"
    file.write_text("second-token\n")
    assert redactor.text("sent second-token after first-token") == "sent *** after ***"
    file.unlink()
    assert redactor.text("sent second-token after first-token") == "sent *** after ***"


def test_token_file_that_is_replaced_within_one_tick_is_read_again(tmp_path: Path) -> None:
    """Another file of the same time is another file: a copy keeps the time of what it is a copy of."""
    (tmp_path / "token").write_text("first-token")
    (tmp_path / "new").write_text("other-token")
    found = (tmp_path / "token").stat()
    os.utime(tmp_path / "new", ns=(found.st_atime_ns, found.st_mtime_ns))
    redactor = Redactor(Server.model_validate({"base_url": ADDRESS, "token_file": tmp_path / "token"}))
    assert redactor.text("sent first-token") == "sent ***"
    (tmp_path / "new").replace(tmp_path / "token")
    assert redactor.text("sent other-token") == "sent ***"


def test_byte_order_mark_is_no_part_of_a_token(tmp_path: Path) -> None:
    """A token's file that an editor began with one: the token is what is hidden, not both together."""
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbffirst-token\r\n")
    redactor = Redactor(Server.model_validate({"base_url": ADDRESS, "token_file": tmp_path / "token"}))
    assert redactor.text("sent first-token") == "sent ***"


def test_passwords_of_a_login_and_of_a_proxy_are_known(tmp_path: Path) -> None:
    """The login's password file and the proxy's password are secrets, too."""
    (tmp_path / "password").write_text("pass-phrase")
    login = Login(path="/login", username="scanner", password_file=tmp_path / "password")
    server = Server.model_validate({"base_url": ADDRESS, "login": login, "proxy": "http://u:hush-hush@p:1"})
    assert Redactor(server).text("pass-phrase and hush-hush") == "*** and ***"


def test_ordinary_words_stay() -> None:
    """A sentence about the token is not mistaken for one."""
    words = "The server rejects the token (HTTP 401). server.token_file /etc/omrwatchd/token can't be read."
    assert Redactor().text(words) == words
