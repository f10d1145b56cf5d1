from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from omrwatchd.settings import ConfigProblem, Settings, load

SMALLEST = '[server]\nbase_url = "https://omr.example.org/api"\n[[watch]]\ndrop = "/srv/scans/drop"\n'


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "config.toml"
    file.write_text(text)
    return load(file)


def test_smallest_configuration_has_a_default_for_everything_else(tmp_path: Path) -> None:
    """With a base_url and a drop folder the rest is there: done and failed stand beside the drop folder."""
    settings = loaded(tmp_path, SMALLEST)
    assert settings.watch[0].done_folder == Path("/srv/scans/done")
    assert settings.watch[0].failed_folder == Path("/srv/scans/failed")
    assert settings.upload.chunk_size == 52_428_800
    assert settings.upload.direct_limit == 104_857_600


def test_example_names_every_setting_with_its_default(tmp_path: Path) -> None:
    """config.example.toml is loadable, and shows each key; commented ones count as shown."""
    example = Path(__file__).parent.parent / "config.example.toml"
    settings = load(example)
    text = example.read_text()
    shown = tomllib.loads(text)
    for section, field in Settings.model_fields.items():
        values = getattr(settings, section)
        item = values[0] if isinstance(values, tuple) else values
        assert section in shown, field
        for key in type(item).model_fields:
            assert f"\n{key} = " in text or f"\n# {key} = " in text, f"{section}.{key}"
    bare = loaded(tmp_path, SMALLEST)
    assert settings.upload == bare.upload
    assert settings.queue == bare.queue
    assert settings.split == bare.split
    assert settings.processing == bare.processing
    assert settings.watch == bare.watch


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALLEST + "[server2]\n", ["unknown setting server2", "Did you mean server?"]),
        (SMALLEST + "recursiv = true\n", ["unknown setting watch.recursiv", "Did you mean recursive?"]),
        (SMALLEST.replace("https", "ftp"), ["server.base_url", "web address"]),
        (SMALLEST.replace("/srv/scans/drop", "drop"), ["watch.drop", "absolute path"]),
        (SMALLEST + 'done = "/srv/scans"\n', ["watch.drop", "inside watch.done"]),
        (SMALLEST + 'failed = "/srv/scans/drop/bad"\n', ["watch.failed", "inside watch.drop"]),
        (SMALLEST + 'pattern = "(?P<taks>x)"\n', ["watch.pattern", "taks"]),
        (SMALLEST + 'pattern = "("\n', ["watch.pattern", "regular expression"]),
        (SMALLEST + 'done_marker = "ready"\n', ["watch.done_marker", "{name}"]),
        (SMALLEST + '[upload]\nchunk_size = "5 furlongs"\n', ["upload.chunk_size"]),
        (SMALLEST + '[upload]\nchunk_size = "200MiB"\n', ["upload.chunk_size", "99MiB"]),
        (SMALLEST + '[processing]\nstart_path = "/start"\n', ["processing.start_path", "{batch_id}"]),
        (SMALLEST + '[upload]\ntimetable = [["8", 0]]\n', ["upload.timetable", "08:00"]),
        (SMALLEST.replace("[[", 'lookup_path = "/x"\n[[', 1), ["server.lookup_path", "{upload_id}"]),
        ("[server]\n", ["server.base_url is missing", "watch is missing"]),
        ("[server\n", ["not valid TOML"]),
    ],
)
def test_wrong_setting_gets_a_sentence_with_its_key(tmp_path: Path, text: str, words: list[str]) -> None:
    """Each mistake is named by its key, on one line."""
    with pytest.raises(ConfigProblem) as caught:
        loaded(tmp_path, text)
    for word in words:
        assert word in caught.value.summary
    assert "\n" not in caught.value.summary


def test_environment_overrules_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OMRWATCHD_SECTION__KEY replaces one key and leaves the others of its section."""
    monkeypatch.setenv("OMRWATCHD_UPLOAD__CHUNK_SIZE", "5MiB")
    settings = loaded(tmp_path, SMALLEST + "[upload]\nattempts = 5\n")
    assert (settings.upload.chunk_size, settings.upload.attempts) == (5 << 20, 5)


def test_token_is_in_no_text(tmp_path: Path) -> None:
    """Printing the settings, or an error about them, shows no token."""
    settings = loaded(tmp_path, SMALLEST.replace("[[watch]]", 'token = "geheim"\n[[watch]]'))
    assert "geheim" not in repr(settings)
    with pytest.raises(ConfigProblem) as caught:
        loaded(tmp_path, SMALLEST.replace("[[watch]]", 'token = "geheim"\ntokn = "geheim"\n[[watch]]'))
    assert "geheim" not in caught.value.sentence()
