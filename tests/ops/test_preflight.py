from __future__ import annotations

from pathlib import Path

import pytest

from omrwatchd.ops.preflight import on_network, problems
from omrwatchd.settings import load

TABLE = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 21 0:40 / /mnt/share rw - cifs //nas/scans rw\n"


def test_queue_on_a_network_file_system_is_refused() -> None:
    """SQLite would lose the queue there: one sentence names the setting, the place and its kind."""
    [problem] = on_network("queue.path", Path("/mnt/share/queue.db"), TABLE)
    assert problem.code == "queue_on_network"
    assert "cifs" in problem.summary
    assert "/mnt/share/queue.db" in problem.summary
    assert not list(on_network("queue.path", Path("/var/lib/omrwatchd/queue.db"), TABLE))


def sentences(folder: Path, text: str) -> list[str]:
    file = folder / "config.toml"
    file.write_text(f'[server]\nbase_url = "https://omr.example.org/api"\ntoken = "t"\n{text}')
    return [problem.summary for problem in problems(load(file))]


def test_a_certificate_file_that_is_none_is_named_before_the_start(tmp_path: Path) -> None:
    """It is there and can be read, but nothing in it is a certificate."""
    (tmp_path / "ca.pem").write_text("no certificate")
    (tmp_path / "drop").mkdir()
    text = f'ca_file = "{tmp_path}/ca.pem"\n[[watch]]\ndrop = "{tmp_path}/drop"\n'
    [sentence] = sentences(tmp_path, text)
    assert sentence.startswith(f"server.ca_file {tmp_path}/ca.pem can't be used")


def test_drop_folders_joined_by_a_link_are_refused(tmp_path: Path) -> None:
    """Each file would be delivered by both watches; the settings alone can't see that."""
    (tmp_path / "drop").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "drop")
    text = f"""
[[watch]]
name = "one"
drop = "{tmp_path}/drop"
[[watch]]
name = "two"
drop = "{tmp_path}/other"
done = "{tmp_path}/done2"
failed = "{tmp_path}/failed2"
"""
    [sentence] = sentences(tmp_path, text)
    assert sentence.startswith(f"watch[1].drop {tmp_path}/other and the drop folder {tmp_path}/drop of 'one'")


def test_a_broken_watch_is_refused_only_when_none_is_left(tmp_path: Path) -> None:
    """A share that is away at boot keeps no other station from delivering; a drain names it all the same."""
    (tmp_path / "one").mkdir()
    watch = '[[watch]]\nname = "{0}"\ndrop = "{1}/{0}"\ndone = "{1}/{0}-done"\nfailed = "{1}/{0}-failed"\n'
    two = "".join(watch.format(name, tmp_path) for name in ("one", "two"))
    assert sentences(tmp_path, two) == []
    missing = [f"watch[1].drop {tmp_path}/two is not an existing folder."]
    assert [each.summary for each in problems(load(tmp_path / "config.toml"), every_folder=True)] == missing
    (tmp_path / "one").rmdir()
    assert sentences(tmp_path, two) == [f"watch.drop {tmp_path}/one is not an existing folder.", *missing]


@pytest.mark.parametrize(
    "value", ["http://", "://", "http://me:t0p-s3cret@:99999", "ftp://me:t0p-s3cret@p", "socks4://p:1080"]
)
def test_a_proxy_of_the_environment_that_is_none_is_named_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """One sentence names the variables, and shows nothing of what may hold a password."""
    monkeypatch.setenv("https_proxy", value)
    (tmp_path / "drop").mkdir()
    [sentence] = sentences(tmp_path, f'[[watch]]\ndrop = "{tmp_path}/drop"\n')
    assert sentence.startswith("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY")
    assert "t0p-s3cret" not in sentence


@pytest.mark.parametrize("key", ["drop", "done", "queue", "summary", "ca_file"])
@pytest.mark.parametrize("kind", ["too long", "loop", "private"])
def test_place_that_can_not_be_looked_at_is_no_traceback(tmp_path: Path, key: str, kind: str) -> None:
    """Neither ends a start, nor, at a reload, the daemon: it is named, or what uses it names it later."""
    (tmp_path / "drop").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "private").mkdir()
    place = {
        "too long": f"{tmp_path}/{300 * 'x'}",
        "loop": f"{tmp_path}/loop/x",
        "private": f"{tmp_path}/private/x",
    }[kind]
    given = {"drop": f"{tmp_path}/drop", "done": f"{tmp_path}/done"} | {key: place}
    text = f'ca_file = "{place}"\n' if key == "ca_file" else ""
    for section in ("queue", "summary"):
        text += f'[{section}]\npath = "{given.get(section, f"{tmp_path}/{section}")}"\n'
    text += f'[[watch]]\ndrop = "{given["drop"]}"\ndone = "{given["done"]}"\nfailed = "{tmp_path}/failed"\n'
    (tmp_path / "private").chmod(0o000)
    try:
        found = sentences(tmp_path, text)
    finally:
        (tmp_path / "private").chmod(0o700)
    assert key != "drop" or (len(found) == 1 and place in found[0])
