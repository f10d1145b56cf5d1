"""For those who run it: logs, systemd, the checks before a start."""
