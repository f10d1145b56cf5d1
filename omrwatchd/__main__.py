"""`python -m omrwatchd`."""

from omrwatchd.cli.main import entry

entry()
