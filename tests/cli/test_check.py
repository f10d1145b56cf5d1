"""`omrwatchd check`: what is in effect, and where it comes from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from omrwatchd.cli.check import effective
from omrwatchd.settings import Settings, load

CONFIG = """
[server]
base_url = "https://omr.example.org/api"
proxy = "http://me:pa55word@proxy.example.org:3128"
token = "t0p-s3cret"
[upload]
chunk_size = "1500000"
timetable = [["08:00", "5MiB"], ["18:00", "0"]]
[queue]
cooldown_seconds = 2.5
[[watch]]
name = "a"
drop = "/srv/a/drop"
notes = "says \\"hello\\"\\tand \\u007f goodbye"
[[watch]]
name = "b"
drop = "/srv/b/drop"
ignore = ["*.part"]
give_up_seconds = 1234567
"""


def shown(folder: Path, text: str = CONFIG) -> tuple[Settings, str]:
    file = folder / "config.toml"
    file.write_text(text)
    settings = load(file)
    return settings, effective(settings, file)


def test_what_is_shown_is_a_configuration_that_means_the_same(tmp_path: Path) -> None:
    """It can be put into a file as it is: only the secrets have to be filled in."""
    settings, text = shown(tmp_path)
    again = tmp_path / "again.toml"
    again.write_text(text.replace("***@", "me:pa55word@").replace("***", "t0p-s3cret"))
    loaded = load(again)
    for section in ("server", "upload", "split", "processing", "log"):
        assert getattr(loaded, section) == getattr(settings, section), section
    assert loaded.queue_file == settings.queue_file
    assert loaded.queue.cooldown_seconds == 2.5
    for then, now in zip(settings.watch, loaded.watch, strict=True):
        assert now == then.model_copy(update={"done": then.done_folder, "failed": then.failed_folder})


def test_secrets_are_hidden(tmp_path: Path) -> None:
    """Neither the token nor a password in an address is shown."""
    _, text = shown(tmp_path)
    assert "t0p-s3cret" not in text
    assert "pa55word" not in text
    assert tomllib.loads(text)["server"]["token"] == "***"


def test_password_with_an_at_sign_is_hidden_whole(tmp_path: Path) -> None:
    """All before the last '@' is user and password; what looks like a secret goes elsewhere, too."""
    text = CONFIG.replace("pa55word@", "pa55@word@")
    text += '[notify]\ncommand = ["/usr/bin/curl", "-H", "Authorization: Bearer h00k-s3cret"]\n'
    _, text = shown(tmp_path, text)
    assert 'proxy = "http://***@proxy.example.org:3128"' in text
    assert "h00k-s3cret" not in text


def test_each_setting_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment changes is told with the variable's name, section by section or key by key."""
    monkeypatch.setenv("OMRWATCHD_UPLOAD__CONCURRENCY", "2")
    monkeypatch.setenv("OMRWATCHD_SPLIT", '{"max_sheets": 500}')
    monkeypatch.setenv("OMRWATCHD_SERVER__LOGIN__USERNAME", "scanner")
    config = CONFIG.replace('token = "t0p-s3cret"', 'login = {path = "/login", password_file = "/srv/p"}')
    _, text = shown(tmp_path, config)
    lines = {line.split(" = ")[0]: line for line in text.splitlines() if " = " in line}
    assert lines["concurrency"].endswith("# OMRWATCHD_UPLOAD__CONCURRENCY")
    assert lines["login"].endswith("# OMRWATCHD_SERVER__LOGIN__USERNAME")
    assert lines["max_sheets"].endswith("# OMRWATCHD_SPLIT")
    assert lines["pages_per_sheet"].endswith("# default")
    assert lines["cooldown_seconds"].endswith("# file")
    assert lines["base_url"].endswith("# file")


def test_each_folder_has_its_own_sources(tmp_path: Path) -> None:
    """Two [[watch]] tables are not mixed up."""
    _, text = shown(tmp_path)
    first, second = text.split("[[watch]]")[1:]
    assert 'ignore = ["*.part"]' not in first
    assert 'ignore = ["*.part"]' in second
    assert 'done = "/srv/a/done"' in first
    assert 'done = "/srv/b/done"' in second
