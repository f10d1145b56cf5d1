"""Every setting, its default and its check. One file, read as TOML; then the environment."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from omrwatchd.errors import Problem
from omrwatchd.model import Metadata, UploadType

DEFAULT_FILE = Path("/etc/omrwatchd/config.toml")
ENV_PREFIX = "OMRWATCHD_"
MIB = 1024 * 1024
PROXY_LIMIT = 104_857_600
"""Bytes; what the server's proxy takes as one whole request body (API.md, One request)."""


class ConfigProblem(Problem):
    """The configuration can't be used; the command line ends with exit code 2."""


def _web_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^/?#][^\s\x00-\x1f\x7f]*", value) or not _has_host_and_port(value):
        raise ValueError("must be a web address such as https://omr.example.org/api")
    return value.rstrip("/")


def _has_host_and_port(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # a port that is no number up to 65535, or half an IPv6 address
        return False
    if ":" in host:  # urlsplit has looked at an IPv6 address
        return port != 0
    labels = host.removesuffix(".").split(".")
    return port != 0 and all(0 < len(label) < 64 for label in labels) and _is_name_or_ipv4(host)


def _is_name_or_ipv4(host: str) -> bool:
    """Four numbers are an IPv4 address, and no name (RFC 3986, 3.2.2)."""
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", host) is None:
        return True
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def _api_address(value: str) -> str:
    """What paths are appended to: nothing may stand behind its own path, and it holds no login.

    A user name would become an Authorization of its own in place of the token's.
    """
    address = _web_address(value)
    if "?" in address or "#" in address:
        raise ValueError("must not have '?' or '#' in it: the paths of the API are appended to it")
    if "@" in urlsplit(address).netloc:
        raise ValueError("must not hold a user name or password: the server is shown the token alone")
    return address


def _proxy_address(value: str) -> str:
    """Behind its port nothing stands: what does is the rest of a password that has a '/' in it."""
    address = _web_address(value)
    parts = urlsplit(address)
    if parts.path or parts.query or parts.fragment:
        raise ValueError("must be like http://user:password@host:3128, with '/', '?', '#' as %2F, %3F, %23")
    return address


def _full_path(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"must be an absolute path, not {'' if value == Path() else str(value)!r}")
    return _usable_path(value)


def _usable_path(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("must not have a NUL character in it")
    return value


def _server_path(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("must not have control characters in it")
    if value and not value.startswith("/"):
        raise ValueError("must begin with '/' (it is a path below server.base_url)")
    return value


def _no_line_breaks(value: str) -> str:
    if re.search(r"[\r\n\0]", value):
        raise ValueError("must not contain line breaks")
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not have a NUL character in it")
    return value


def _time_of_day(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError(f"must be a time of day such as 08:00, not {value!r}")
    return value


ProxyAddress = Annotated[str, AfterValidator(_proxy_address)]
ApiAddress = Annotated[str, AfterValidator(_api_address)]
FullPath = Annotated[Path, AfterValidator(_full_path)]
AnyPath = Annotated[Path, AfterValidator(_usable_path)]
ServerPath = Annotated[str, AfterValidator(_server_path)]
Word = Annotated[str, Field(min_length=1), AfterValidator(_no_nul)]
"""Handed to the system, which takes it to end at a NUL."""
Line = Annotated[str, AfterValidator(_no_line_breaks)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Days = Annotated[float, Field(ge=0, le=36_500)]
LONGEST_SECONDS = 7 * 86400
Seconds = Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]
SomeSeconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
WholeNumber = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""As the queue's database can hold it."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and _is_numeric(field.annotation):
            raise ValueError("must be a number")
        return value


def _is_numeric(annotation: Any) -> bool:
    return annotation in (int, float, ByteSize) or any(map(_is_numeric, get_args(annotation)))


class Login(Section):
    path: Annotated[ServerPath, Field(min_length=1)]
    username: Line
    password_file: AnyPath
    token_field: str = "token"


class Server(Section):
    base_url: ApiAddress
    upload_url: ApiAddress | None = None
    token: SecretStr | None = None
    token_file: AnyPath | None = None
    ca_file: AnyPath | None = None
    client_cert: AnyPath | None = None
    client_key: AnyPath | None = None
    proxy: ProxyAddress | None = None
    connect_timeout: SomeSeconds = 10.0
    read_timeout: SomeSeconds = 150.0
    probe_path: ServerPath = ""
    lookup_path: ServerPath = ""
    login: Login | None = None

    @property
    def uploads_go_to(self) -> str:
        """The address that upload paths are appended to."""
        return self.upload_url or self.base_url

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        given = [key for key in ("token", "token_file", "login") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both set; keep one of them")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key needs client_cert beside it")
        return self

    @field_validator("lookup_path")
    @classmethod
    def _names_upload(cls, value: str) -> str:
        if value and "{upload_id}" not in value:
            raise ValueError("must contain {upload_id}, which is replaced by the upload's id")
        return value


class Upload(Section):
    chunk_size: ByteSize = ByteSize(50 * MIB)
    edge_chunk_size: ByteSize | None = None
    direct_limit: ByteSize = ByteSize(PROXY_LIMIT)
    concurrency: Annotated[int, Field(ge=1, le=6)] = 4
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    stall_seconds: SomeSeconds = 60.0
    max_rate: Annotated[ByteSize, Field(ge=0)] = ByteSize(0)
    timetable: tuple[tuple[TimeOfDay, Annotated[ByteSize, Field(ge=0)]], ...] = ()
    on_unknown: Literal["review", "resend"] = "review"

    @field_validator("timetable")
    @classmethod
    def _times_differ(cls, value: tuple[tuple[str, ByteSize], ...]) -> tuple[tuple[str, ByteSize], ...]:
        times = [time for time, _ in value]
        for time in times:
            if times.count(time) > 1:
                raise ValueError(f"has {time} twice")
        return value

    @field_validator("chunk_size")
    @classmethod
    def _chunk_fits(cls, value: ByteSize) -> ByteSize:
        if value < MIB:
            raise ValueError("must be at least 1MiB")
        if value > PROXY_LIMIT - MIB:
            raise ValueError("must be at most 99MiB: the server's proxy takes no larger request")
        return value

    @model_validator(mode="after")
    def _edge_fits(self) -> Self:
        if self.edge_chunk_size is not None and not 64 * 1024 <= self.edge_chunk_size <= self.chunk_size:
            raise ValueError("edge_chunk_size must be at least 64KiB and at most chunk_size")
        return self


class Queue(Section):
    path: FullPath | None = None
    max_files: PositiveInt = 100
    max_attempts: PositiveInt = 3
    cooldown_seconds: Seconds = 5.0
    duplicates: Literal["refuse", "upload"] = "refuse"


class Split(Section):
    max_sheets: Annotated[int, Field(ge=0)] = 3000
    pages_per_sheet: Annotated[int, Field(ge=1, le=100)] = 1


class Processing(Section):
    status_path: ServerPath = ""
    busy_field: Annotated[str, Field(min_length=1)] = "busy"
    start_path: ServerPath = ""
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0

    @field_validator("start_path")
    @classmethod
    def _names_batch(cls, value: str) -> str:
        if value and "{batch_id}" not in value:
            raise ValueError("must contain {batch_id}, which is replaced by the batch's id")
        return value


class Summary(Section):
    path: FullPath | None = None


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Metrics(Section):
    listen: str = ""

    @field_validator("listen")
    @classmethod
    def _address_with_port(cls, value: str) -> str:
        if value and _host_and_port(value) is None:
            raise ValueError(f"must be an address with a port, such as 127.0.0.1:9464, not {value!r}")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on; None: off."""
        return _host_and_port(self.listen)


def _host_and_port(value: str) -> tuple[str, int] | None:
    """'127.0.0.1:9464' or '[::1]:9464' taken apart; None for anything else."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", value)
    if found is None or int(found[3]) > 65_535:
        return None
    return found[1] or found[2], int(found[3])


class Notify(Section):
    command: tuple[Word, ...] = ()
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    silence_minutes: Annotated[float, Field(ge=0, le=7 * 1440)] = 0.0
    silence_window: tuple[TimeOfDay, ...] = ()

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError('must be a list of words, such as ["/usr/local/bin/alert", "--urgent"]')
        return value

    @field_validator("command")
    @classmethod
    def _found_anywhere(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and "/" in value[0] and not value[0].startswith("/"):
            raise ValueError(f"must begin with an absolute path, not {value[0]!r}")
        return value

    @field_validator("silence_window")
    @classmethod
    def _two_times(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and (len(value) != 2 or value[0] == value[1]):
            raise ValueError('must be two different times of day, such as ["08:00", "18:00"], or empty')
        return value

    @model_validator(mode="after")
    def _silence_fits(self) -> Self:
        """The count begins anew with each opening of the window."""
        if self.silence_window:
            opens, closes = (int(time[:2]) * 60 + int(time[3:]) for time in self.silence_window)
            minutes = (closes - opens) % 1440
            if self.silence_minutes >= minutes:
                raise ValueError(
                    f"silence_minutes must be less than the {minutes} minutes of silence_window: "
                    "no silence would ever be that long"
                )
        return self


class Retention(Section):
    done_days: Days = 0.0
    history_days: Days = 0.0


IGNORED = ("*.part", "*.tmp", "*.crdownload", "*.filepart", "*.partial", "~*", ".*")


class Watch(Section):
    name: Annotated[str, Field(min_length=1, max_length=60)] = "default"
    drop: FullPath
    done: FullPath | None = None
    failed: FullPath | None = None
    upload_type: UploadType = UploadType.ZIP_WITH_QR
    task_id: Line | None = None
    notes: str | None = None
    profile_id: WholeNumber | None = None
    pattern: str | None = None
    ignore: tuple[str, ...] = IGNORED
    recursive: bool = False
    observer: Literal["auto", "hints", "rescan"] = "auto"
    settle_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    rescan_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    give_up_seconds: Annotated[float, Field(gt=0, le=100 * LONGEST_SECONDS)] = 600.0
    done_marker: Word | None = None
    status_board: bool = True

    @field_validator("drop", "done", "failed")
    @classmethod
    def _plain(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(os.path.normpath(value))

    @field_validator("task_id", "notes", mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("must not be empty; leave the line out instead")
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("pattern")
    @classmethod
    def _groups_known(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        for group in groups:
            if group not in ("upload_type", "task_id", "notes", "profile_id"):
                raise ValueError(
                    f"has a group {group!r}; known are upload_type, task_id, notes and profile_id"
                )
        return value

    @field_validator("done_marker")
    @classmethod
    def _marker_names_file(cls, value: str | None) -> str | None:
        if value is not None and ("{name}" not in value or "/" in value or value == "{name}"):
            raise ValueError('must be a file name with {name} in it, such as "{name}.done"')
        return value

    @property
    def done_folder(self) -> Path:
        return self.done or self.drop.parent / "done"

    @property
    def failed_folder(self) -> Path:
        return self.failed or self.drop.parent / "failed"

    @property
    def metadata(self) -> Metadata:
        return Metadata(self.upload_type, self.task_id, self.notes, self.profile_id)


class Settings(BaseSettings):
    """The whole configuration; made by :func:`load`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    server: Server
    upload: Upload = Upload()
    queue: Queue = Queue()
    split: Split = Split()
    processing: Processing = Processing()
    summary: Summary = Summary()
    log: Log = Log()
    metrics: Metrics = Metrics()
    notify: Notify = Notify()
    retention: Retention = Retention()
    watch: tuple[Watch, ...] = Field(min_length=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @property
    def state_folder(self) -> Path:
        """Where the queue lives: systemd's $STATE_DIRECTORY, else the user's state folder (XDG)."""
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if given:
            return Path(given)
        state_home = os.environ.get("XDG_STATE_HOME", "")
        base = Path(state_home) if state_home.startswith("/") else Path.home() / ".local" / "state"
        return base / "omrwatchd"

    @property
    def queue_file(self) -> Path:
        return self.queue.path or self.state_folder / "queue.db"

    @property
    def summary_file(self) -> Path:
        return self.summary.path or self.state_folder / "summary.jsonl"

    def watch_named(self, name: str) -> Watch | None:
        return next((watch for watch in self.watch if watch.name == name), None)

    @model_validator(mode="after")
    def _folders_apart(self) -> Self:
        names = [watch.name for watch in self.watch]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two [[watch]] tables have the name {name!r}; give each a name of its own")
        for watch in self.watch:
            _check_folders_apart(watch, self.watch)
        return self


def _check_folders_apart(watch: Watch, all_watches: tuple[Watch, ...]) -> None:
    """A drop folder that holds, or lies in, a target or another drop folder would feed on itself."""
    for key, folder in (("done", watch.done_folder), ("failed", watch.failed_folder)):
        for other in all_watches:
            if other.drop == folder:
                raise ValueError(f"watch.drop {other.drop} and watch.{key} are the same folder")
            if other.drop.is_relative_to(folder):
                raise ValueError(f"watch.drop {other.drop} lies inside watch.{key} {folder}")
            if folder.is_relative_to(other.drop):
                raise ValueError(f"watch.{key} {folder} lies inside watch.drop {other.drop}")
    for other in all_watches:
        if other is not watch and watch.drop.is_relative_to(other.drop):
            raise ValueError(
                f"watch.drop {watch.drop} of {watch.name!r} is in the drop folder of {other.name!r}"
            )


def find_file(given: Path | None) -> Path:
    """The configuration file: as given, else $OMRWATCHD_CONFIG, else /etc/omrwatchd/config.toml."""
    if given is not None:
        return given
    from_environment = os.environ.get("OMRWATCHD_CONFIG")
    return Path(from_environment) if from_environment else DEFAULT_FILE


def load(file: Path) -> Settings:
    """Read and check the configuration.

    Raises:
        ConfigProblem: with one sentence for each thing that is wrong, each naming its key.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise ConfigProblem(
            "config_missing",
            f"There is no configuration file {file}.",
            "Copy config.example.toml there, or name another with --config.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigProblem(
            "config_unreadable", f"The configuration {file} can't be read: {reason}."
        ) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem(
            "config_syntax", f"The configuration {file} is not valid TOML: {error}."
        ) from None
    wrong = list(_strays(os.environ))
    try:
        settings = Settings(**table)
    except ValidationError as error:
        raise ConfigProblem("config_invalid", f"{file}: " + " ".join([*wrong, *_sentences(error)])) from None
    except SettingsError as error:  # a variable that should be JSON and is not
        section = re.search(r'field "(\w+)"', str(error))
        name = f"OMRWATCHD_{section[1].upper()}…" if section else "OMRWATCHD_…"
        raise ConfigProblem(
            "config_invalid",
            f"{section[1] if section else 'A setting'} can't be read from the environment: "
            f"what {name} holds is no JSON.",
            "Lists are written there as in [1, 2].",
        ) from None
    if wrong:
        raise ConfigProblem("config_invalid", " ".join(wrong))
    return settings


def _strays(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables that are meant for a setting and would be passed over in silence.

    Others of our prefix are none of it: Kubernetes sets OMRWATCHD_SERVICE_HOST beside a service of that name.
    """
    for name in environ:
        if not name.upper().startswith(ENV_PREFIX):
            continue
        words = name[len(ENV_PREFIX) :].lower()
        section, apart, _ = words.partition("__")
        if apart and section not in Settings.model_fields:
            yield f"{name} is for an unknown section {section}.{_nearest([section])}"
        elif meant := next((key for key in _variables() if key.replace("__", "_") == words.upper()), None):
            yield f"{name} is no setting. Did you mean {ENV_PREFIX}{meant}?"


def _variables() -> Iterator[str]:
    """SECTION__KEY of every setting whose section is one table."""
    for section, field in Settings.model_fields.items():
        model = _section_of(field)
        if model is not None and model is not Watch:
            yield from (f"{section}__{key}".upper() for key in model.model_fields)


def _sentences(error: ValidationError) -> Iterator[str]:
    details = error.errors(include_url=False, include_input=False)
    for detail in details:
        if detail["type"] == "too_short" and any(len(other["loc"]) > 1 for other in details):
            continue  # the list is short only because its items are wrong: those sentences say it
        location = [str(step) for step in detail["loc"]]
        key = _dotted(location)
        if detail["type"] == "extra_forbidden":
            yield f"unknown setting {key}.{_nearest(location)}"
        elif detail["type"] == "missing":
            yield f"{key} is missing."
        else:
            message = _in_our_words(key, detail["type"], detail["msg"])
            yield f"{key}: {message}." if key else f"{message}."


_WORDS = {
    "tuple_type": 'must be a list, such as ["…", "…"]',
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
    "string_too_short": "must not be empty",
    "byte_size": 'must be a size, such as "50MiB"',
    "byte_size_unit": 'must be a size, such as "50MiB"',
}
"""What a library says of a wrong value, by its type, as people say it."""


def _in_our_words(key: str, kind: str, message: str) -> str:
    if key == "watch" and kind in ("tuple_type", "too_short"):
        return "must be written as [[watch]], in two pairs of brackets, once for each drop folder"
    if kind in ("model_type", "model_attributes_type"):
        return f"must be a table, written as [{key}]"
    plain = message.removeprefix("Value error, ").rstrip(".")
    return _WORDS.get(kind, plain.replace("Input should be", "must be"))


def _dotted(location: list[str]) -> str:
    """('watch', '0', 'drop') as people write it: watch.drop (the second and later: watch[1].drop)."""
    words: list[str] = []
    for step in location:
        if step.isdigit() and words:
            words[-1] += "" if step == "0" else f"[{step}]"
        elif not step.startswith("function-"):
            words.append(step)
    return ".".join(words)


def _nearest(location: list[str]) -> str:
    model: type[BaseModel] = Settings
    for step in location[:-1]:
        if step.isdigit():
            continue
        found = _section_of(model.model_fields.get(step))
        if found is None:
            return ""
        model = found
    close = difflib.get_close_matches(location[-1], model.model_fields, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known here: {', '.join(model.model_fields)}."


def _section_of(field: FieldInfo | None) -> type[BaseModel] | None:
    if field is None:
        return None
    candidates = (field.annotation, *getattr(field.annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
