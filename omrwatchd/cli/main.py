"""The command line. Each command imports what it needs when it runs: `status` must answer at once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from omrwatchd import __version__
from omrwatchd.cli import output
from omrwatchd.errors import Problem

if TYPE_CHECKING:
    from omrwatchd.queue.control import Control
    from omrwatchd.queue.views import Views
    from omrwatchd.settings import Settings

app = typer.Typer(
    help="Delivers finished ZIPs of scanned answer sheets from a folder to an OMR server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_USUAL_THRESHOLD = gc.get_threshold()
EXIT_FAILED = 1
EXIT_USAGE = 2


class _Given:
    """What stands before the command."""

    config: Path | None = None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"omrwatchd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="The configuration; else $OMRWATCHD_CONFIG, else /etc/omrwatchd/config.toml.",
            readable=False,  # what is wrong with it, `load` says in a sentence
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    _Given.config = config


@app.command(epilog="Example: omrwatchd --config /etc/omrwatchd/config.toml run")
def run(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Exit when everything in the folder is delivered.")
    ] = False,
) -> None:
    """Run the daemon: watch the folders, deliver what is dropped there."""
    from omrwatchd.ops import logs
    from omrwatchd.service import Daemon

    settings = _settings()
    _refuse_unless_ready(settings, every_folder=until_idle)
    logs.configure(settings.log, settings.server)
    # in a terminal SIGHUP says that the terminal is gone: an end, no wish for a reload
    file = None if sys.stderr.isatty() else _config_file()
    _settle_memory()
    code = Daemon(settings, file=file).run(until_idle=until_idle)
    os._exit(code)  # nothing is owed any more, and to take the interpreter down takes longer than a stop


@app.command(epilog="Example: omrwatchd --config my.toml check")
def check() -> None:
    """Check the configuration alone, and print what is in effect with its secrets hidden."""
    from omrwatchd.cli.check import effective

    print(effective(_settings(), _config_file()))


@app.command(epilog="Example: sudo omrwatchd doctor --user omrwatchd")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
    upload: Annotated[
        bool,
        typer.Option("--upload", help="Send requests as large as an upload's, to find a proxy's limits."),
    ] = False,
    user: Annotated[
        str, typer.Option(metavar="NAME", help="As root: look with the rights of this user.")
    ] = "",
) -> None:
    """Look at all that delivery depends on: folders, rights, disks, queue, token, server."""
    from omrwatchd.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(_settings(), user=user, as_json=as_json, upload=upload))


@app.command(epilog="Example: omrwatchd add --task-id 42 scans/*.zip")
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="ZIPs of scanned sheets.")],
    watch: Annotated[str, typer.Option(help="The name of the [[watch]]; else the first.")] = "",
    upload_type: Annotated[str, typer.Option("--type", help="zip_with_qr or zip_no_qr.")] = "",
    task_id: Annotated[str, typer.Option(help="The task these sheets belong to.")] = "",
    notes: Annotated[str, typer.Option(help="A text for the server.")] = "",
    profile_id: Annotated[int | None, typer.Option(help="A number for the server.")] = None,
    sheets: Annotated[int | None, typer.Option(help="How many sheets must be in it.")] = None,
    move: Annotated[bool, typer.Option("--move", help="Move the files instead of copying them.")] = False,
) -> None:
    """Put files into a drop folder, each complete or not at all."""
    from omrwatchd.cli.add import add as add_file

    given = {
        "upload_type": upload_type, "task_id": task_id, "notes": notes, "profile_id": profile_id,
        "sheets": sheets,
    }  # fmt: skip
    metadata = {key: value for key, value in given.items() if value not in ("", None)}
    settings, views, refused = _settings(), _views(), False
    for file in files:
        try:
            print(add_file(settings, views, file, watch, metadata, move=move))
        except Problem as problem:
            if problem.code.startswith("usage_"):
                raise
            refused = True
            _complain(problem)
    if refused:
        raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Example: omrwatchd status --watch")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every finished file, not just 20.")] = False,
    live: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on showing it; q or Ctrl-C ends it.")
    ] = False,
) -> None:
    """Show what the daemon is doing, and each file."""
    if live:
        from omrwatchd.cli.watch import watch
        from omrwatchd.clock import SystemClock

        watch(_views(), _settings().queue.cooldown_seconds, SystemClock())
        return
    snapshot = _views().snapshot(everything=everything)
    if as_json:
        from omrwatchd.cli.machine import as_text

        print(as_text(snapshot.document(), indent=2))
        return
    from rich.console import Console

    from omrwatchd.cli.render import table

    Console(highlight=False).print(table(snapshot))


@app.command(epilog="Example: omrwatchd explain /srv/scans/drop/scan.zip")
def explain(file: Annotated[Path, typer.Argument(help="A file in, or once in, a drop folder.")]) -> None:
    """Say why a file has not moved yet."""
    import os

    from omrwatchd.cli.explain import explain as explain_file

    print(explain_file(_settings(), _views(), os.fsencode(file)))


@app.command(epilog="Example: omrwatchd summary --since 7d --format csv > week.csv")
def summary(
    since: Annotated[str, typer.Option(help="A day (2026-11-01), 'today', or a span such as 7d.")] = "",
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    verify: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Instead: is every sheet of every ZIP under DIR delivered?"),
    ] = None,
) -> None:
    """List the files that were delivered or failed; with --verify, say whether scans may be shredded."""
    if verify is not None:
        from omrwatchd.cli.verify import verify as verify_folder

        raise typer.Exit(0 if verify_folder(_views(), verify) else EXIT_FAILED)
    from omrwatchd.cli.summary import show

    show(_views(), since, form)


@app.command(epilog="Example: omrwatchd cancel 17")
def cancel(job: Annotated[int, typer.Argument(metavar="ID", help="As `status` shows it.")]) -> None:
    """End a file that waits or is being uploaded; it is put into the failed folder."""
    with _control() as control:
        print(control.cancel(job).words)


@app.command(epilog="Example: omrwatchd retry 17")
def retry(
    job: Annotated[int | None, typer.Argument(metavar="ID", help="As `status` shows it.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if the batch may exist already.")] = False,
) -> None:
    """Queue a failed or cancelled file again; parts that were delivered are not sent again."""
    if (job is None) is not failed:
        raise Problem("usage_retry", "retry needs either an ID or --failed.", "See `omrwatchd retry --help`.")
    with _control() as control:
        done = control.retry_failed(force=force) if job is None else [control.retry(job, force=force)]
    print("\n".join(each.words for each in done) or "Nothing has failed.")


@app.command(epilog="Example: omrwatchd prioritise 17")
def prioritise(job: Annotated[int, typer.Argument(metavar="ID", help="As `status` shows it.")]) -> None:
    """Have a waiting file go next."""
    with _control() as control:
        print(control.prioritise(job).words)


@app.command(epilog="Example: omrwatchd remove 17")
def remove(job: Annotated[int, typer.Argument(metavar="ID", help="As `status` shows it.")]) -> None:
    """Take a finished file off the list; its content stays known as delivered."""
    with _control() as control:
        print(control.remove(job).words)


@app.command(epilog="Example: omrwatchd clear")
def clear() -> None:
    """Take all finished files off the list; what was delivered stays known."""
    with _control() as control:
        print(control.clear().words)


@app.command(epilog="Example: omrwatchd reset --yes")
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Empty the waiting list; the files stay in the drop folder, and are left alone until they change."""
    with _control() as control:
        waiting = control.waiting()
        files = "the one waiting file" if waiting == 1 else f"all {waiting:,} waiting files"
        if waiting and not yes and not typer.confirm(f"Take {files} off the list?"):
            raise typer.Exit(EXIT_FAILED)
        print(control.reset().words)


@app.command(epilog="Example: omrwatchd pause")
def pause() -> None:
    """Begin nothing new; what is under way goes on."""
    with _control() as control:
        print(control.pause(True).words)


@app.command(epilog="Example: omrwatchd resume")
def resume() -> None:
    """Go on: ends a pause, a hold and a cooldown."""
    with _control() as control:
        print(control.pause(False).words)


@app.command(epilog="Example: omrwatchd split scan.zip --max-sheets 3000 --out parts")
def split(
    file: Annotated[Path, typer.Argument(help="A ZIP of scanned sheets.")],
    max_sheets: Annotated[int, typer.Option(help="At most so many sheet images a part.", min=1)] = 3000,
    pages_per_sheet: Annotated[
        int, typer.Option(help="So many images in a row belong together.", min=1, max=100)
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Write the parts into this folder.", file_okay=False)
    ] = None,
) -> None:
    """Show the batches that a ZIP becomes; with --out, write them as ZIPs of their own."""
    from omrwatchd.cli.split import split_file

    split_file(file, max_sheets, pages_per_sheet, out)


@app.command(epilog="Example: omrwatchd receiver --dir /tmp/omr --port 8099 --token secret")
def receiver(
    directory: Annotated[Path, typer.Option("--dir", help="Where what arrives is kept.")],
    token: Annotated[str, typer.Option(envvar="OMRWATCHD_RECEIVER_TOKEN", help="The token to ask for.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on; 0: any free one.", min=0, max=65535)
    ] = 8099,
    control: Annotated[
        bool, typer.Option("--control", help="Serve /_control, which makes it misbehave on demand.")
    ] = False,
) -> None:
    """Run the reference OMR server, for trials and tests."""
    try:
        from omrwatchd.receiver.server import serve
    except ImportError as error:
        _needs_extra(error)
    if not token.strip():
        raise Problem("usage_token", "--token is empty.", "Clients must show one: name any word.")
    try:
        serve(
            directory,
            token,
            host,
            port,
            control,
            ready=lambda base_url: print(f"listening on {base_url}", flush=True),
        )
    except OSError as error:
        raise Problem(
            "receiver_failed",
            f"The receiver can't work in {directory} and listen on {host}:{port}: {error.strerror or error}.",
            "Check --dir, --host and --port.",
        ) from None


@app.command(epilog="Example: omrwatchd demo --keep")
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folders behind to look at.")] = False,
) -> None:
    """Show the whole road: drawn sheets, a server on loopback, the real daemon."""
    try:
        from omrwatchd.cli.demo.run import run_demo
    except ImportError as error:
        _needs_extra(error)
    raise typer.Exit(run_demo(keep))


def _needs_extra(error: ImportError) -> NoReturn:
    raise Problem(
        "extra_missing",
        f"{error.name} is not installed: it comes with the extra `demo`.",
        "In the folder of the sources: sudo make install EXTRAS=demo",
    ) from None


def _config_file() -> Path:
    from omrwatchd.settings import find_file

    return find_file(_Given.config)


def _settings() -> Settings:
    from omrwatchd.settings import load

    return load(_config_file())


def _views() -> Views:
    from omrwatchd.clock import SystemClock
    from omrwatchd.queue.views import Views

    return Views(_settings().queue_file, SystemClock())


@contextmanager
def _control() -> Iterator[Control]:
    from omrwatchd.clock import SystemClock
    from omrwatchd.queue.control import opened_control

    with opened_control(_settings().queue_file, SystemClock()) as control:
        yield control


def _refuse_unless_ready(settings: Settings, *, every_folder: bool) -> None:
    from omrwatchd.ops.preflight import problems

    found = problems(settings, every_folder=every_folder)
    for problem in found:
        _complain(problem)
    if found:
        raise typer.Exit(EXIT_USAGE)


def _complain(problem: Problem) -> None:
    # the sentence may quote names from the file system that are no text
    words = f"omrwatchd: {problem.sentence()}".encode("utf-8", "backslashreplace").decode("utf-8")
    output.complain(_journal_mark() + words)


def _journal_mark() -> str:
    """Under journald, what makes a refused start an error there (`journalctl -p err`); else nothing."""
    if "JOURNAL_STREAM" not in os.environ:
        return ""
    from omrwatchd.ops.logs import PRIORITIES, into_journal

    return f"<{PRIORITIES['error']}>" if into_journal() else ""


def _settle_memory() -> None:
    """What is loaded by now stays; of what comes and goes little is to lie about."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLD)


def entry() -> NoReturn:
    """The program: a Problem becomes one sentence and an exit code."""
    # imports make many objects that stay: looking for garbage takes a fifth of a start
    gc.set_threshold(50_000)
    output.prepare()
    try:
        code = _outcome()
        sys.stdout.flush()
    except output.OutputLost as lost:
        output.discard()
        code = EXIT_FAILED
        _complain(Problem("output_lost", f"The output can't be written: {lost.strerror}."))
    sys.exit(code)


def _outcome() -> int:
    try:
        app()
    except Problem as problem:
        _complain(problem)
        return EXIT_USAGE if problem.code.startswith(("config_", "usage_")) else EXIT_FAILED
    except SystemExit as end:  # typer's way to say that a command is done
        return end.code if isinstance(end.code, int) else EXIT_FAILED if end.code else 0
    return 0
