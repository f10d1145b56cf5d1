from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omrwatchd import __version__
from omrwatchd.cli.main import app
from omrwatchd.queue.database import open_database

COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(command: str) -> None:
    """A sentence, its options, and a line to copy that names the command itself."""
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert done.exit_code == 0
    assert "Example: " in done.output
    assert f" {command} " in done.output.partition("Example: ")[2].replace("\n", " ") + " "
    assert max(map(len, done.output.splitlines())) <= 80


def test_the_version_is_told() -> None:
    """`omrwatchd --version` is one line, and needs no configuration."""
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"omrwatchd {__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str) -> None:
    """What `--show-completion` prints makes the shell ask the program, which answers with commands."""
    program = [sys.executable, "-c", "from omrwatchd.cli.main import app; app(prog_name='omrwatchd')"]
    environment = os.environ | {"_OMRWATCHD_COMPLETE": f"source_{shell}"}
    script = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
    assert "_OMRWATCHD_COMPLETE" in script
    asked = os.environ | {
        "_OMRWATCHD_COMPLETE": f"complete_{shell}", "COMP_WORDS": "omrwatchd pri", "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "omrwatchd pri", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }  # fmt: skip
    done = subprocess.run(program, env=asked, capture_output=True, text=True, check=False)
    assert "prioritise" in done.stdout


def test_status_starts_light(tmp_path: Path) -> None:
    """`status` answers at once because it imports none of what the daemon works with."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\nbase_url = "http://127.0.0.1:9"\n[queue]\npath = "{tmp_path}/queue.db"\n'
        f'[[watch]]\ndrop = "{tmp_path}/drop"\n'
    )
    open_database(tmp_path / "queue.db", create=True).dispose()
    program = (
        "import sys; from omrwatchd.cli.main import app\n"
        f"try: app(['--config', {str(config)!r}, 'status'])\nexcept SystemExit as end: assert not end.code\n"
        "print({name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "No files." in done.stdout
    for heavy in ("sqlalchemy", "alembic", "httpx", "watchdog", "structlog", "prometheus_client"):
        assert f"'{heavy}'" not in done.stdout
