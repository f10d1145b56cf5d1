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
        (SMALLEST.replace("omr.example.org", "omr example"), ["server.base_url", "web address"]),
        (SMALLEST.replace("omr.example.org", "omr.example.org:70000"), ["server.base_url", "web address"]),
        (SMALLEST.replace("omr.example.org", "omr.example.org:https"), ["server.base_url", "web address"]),
        (SMALLEST.replace("omr.example.org", "[::1"), ["server.base_url", "web address"]),
        (SMALLEST.replace("omr.example.org", ".."), ["server.base_url", "web address"]),
        (SMALLEST.replace("/api", "/api\\n"), ["server.base_url", "web address"]),
        (SMALLEST.replace("omr.example.org", "192.168.1.300"), ["server.base_url", "web address"]),
        (SMALLEST.replace("omr.example.org", 70 * "a"), ["server.base_url", "web address"]),
        (SMALLEST.replace("[[", 'probe_path = "/a\\nb"\n[[', 1), ["server.probe_path", "control"]),
        (SMALLEST.replace("[[", 'proxy = "http://me:12/34@p:3128"\n[[', 1), ["server.proxy", "%2F"]),
        (SMALLEST + 'done_marker = "{name}\\u0000"\n', ["watch.done_marker", "NUL"]),
        (SMALLEST + '[notify]\ncommand = ["/bin/echo", "a\\u0000b"]\n', ["notify.command", "NUL"]),
        (SMALLEST.replace("/api", "/api?tenant=1"), ["server.base_url", "'?'"]),
        (SMALLEST.replace("omr.", "me:pw@omr."), ["server.base_url", "user name"]),
        (SMALLEST.replace("[[watch]]", "[watch]"), ["watch: must be written as [[watch]]"]),
        ("watch = []\n" + SMALLEST.split("[[")[0], ["watch: must be written as [[watch]]"]),
        ('server = "x"\n[[watch]]\ndrop = "/a/b"\n', ["server: must be a table"]),
        (SMALLEST.replace("[[", "read_timeout = inf\n[[", 1), ["server.read_timeout"]),
        (SMALLEST.replace("[[", "connect_timeout = 1e300\n[[", 1), ["server.connect_timeout"]),
        (SMALLEST.replace("[[", "read_timeout = nan\n[[", 1), ["server.read_timeout"]),
        (SMALLEST + "give_up_seconds = inf\n", ["watch.give_up_seconds"]),
        (SMALLEST + "profile_id = true\n", ["watch.profile_id: must be a number"]),
        (SMALLEST + "profile_id = 99999999999999999999\n", ["watch.profile_id"]),
        (SMALLEST + 'profile_id = "three"\n', ["watch.profile_id: must be a whole number"]),
        (SMALLEST + "[split]\nmax_sheets = true\n", ["split.max_sheets: must be a number"]),
        (SMALLEST + 'recursive = "maybe"\n', ["watch.recursive: must be true or false"]),
        (SMALLEST + 'ignore = "*.part"\n', ["watch.ignore: must be a list"]),
        (SMALLEST + 'done = "/srv/a\\u0000b"\n', ["watch.done", "NUL"]),
        (SMALLEST + 'done = ""\n', ["watch.done: must be an absolute path, not ''"]),
        (SMALLEST + '[queue]\npath = "queue.db"\n', ["queue.path: must be an absolute path"]),
        (SMALLEST + '[summary]\npath = "s.jsonl"\n', ["summary.path: must be an absolute path"]),
        (SMALLEST + '[processing]\nbusy_field = ""\n', ["processing.busy_field: must not be empty"]),
        (SMALLEST + '[upload]\ntimetable = [["08:00", 1], ["08:00", 2]]\n', ["08:00 twice"]),
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


def test_no_sentence_is_a_librarys(tmp_path: Path) -> None:
    """Types are said in the words of people who write TOML, not of those who write Python."""
    for line in (
        "recursive = 5",
        "ignore = 5",
        "notes = 5.5",
        "drop = 5",
        "settle_seconds = []",
        "name = {}",
    ):
        text = SMALLEST if not line.startswith("drop") else SMALLEST.replace("drop =", "done =")
        with pytest.raises(ConfigProblem) as caught:
            loaded(tmp_path, f"{text}{line}\n")
        for word in ("Input", "tuple", "dictionary", "instance", "parse"):
            assert word not in caught.value.summary


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors begin each file with one."""
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert load(file).server.base_url == "https://omr.example.org/api"


def test_a_variable_that_is_no_json_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The section, and what its variables begin with."""
    monkeypatch.setenv("OMRWATCHD_UPLOAD__TIMETABLE", "08:00")
    with pytest.raises(ConfigProblem) as caught:
        loaded(tmp_path, SMALLEST)
    assert "OMRWATCHD_UPLOAD…" in caught.value.summary
    assert "Source" not in caught.value.sentence()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("OMRWATCHD_SERVR__TOKEN", "unknown section servr. Did you mean server?"),
        ("OMRWATCHD_SERVER_TOKEN", "Did you mean OMRWATCHD_SERVER__TOKEN?"),
        ("omrwatchd_queue_max_files", "Did you mean OMRWATCHD_QUEUE__MAX_FILES?"),
    ],
)
def test_variable_that_would_be_passed_over_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    """A misspelt section, or one underscore too few, is as wrong in the environment as in the file."""
    monkeypatch.setenv(name, "geheim")
    with pytest.raises(ConfigProblem) as caught:
        loaded(tmp_path, SMALLEST)
    assert name in caught.value.summary
    assert words in caught.value.summary
    assert "geheim" not in caught.value.sentence()
    with pytest.raises(ConfigProblem) as caught:
        loaded(tmp_path, SMALLEST + "recursiv = true\n")
    assert words in caught.value.summary
    assert "watch.recursiv" in caught.value.summary


def test_variable_of_another_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own that are no settings, and those that Kubernetes makes of a service's name."""
    for name in ("CONFIG", "RECEIVER_TOKEN", "SERVICE_HOST", "PORT", "PORT_80_TCP"):
        monkeypatch.setenv(f"OMRWATCHD_{name}", "tcp://10.0.0.1:80")
    loaded(tmp_path, SMALLEST)
