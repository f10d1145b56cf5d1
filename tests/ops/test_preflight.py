from __future__ import annotations

from pathlib import Path

from omrwatchd.ops.preflight import on_network

TABLE = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 21 0:40 / /mnt/share rw - cifs //nas/scans rw\n"


def test_queue_on_a_network_file_system_is_refused() -> None:
    """SQLite would lose the queue there: one sentence names the setting, the place and its kind."""
    [problem] = on_network("queue.path", Path("/mnt/share/queue.db"), TABLE)
    assert problem.code == "queue_on_network"
    assert "cifs" in problem.summary
    assert "/mnt/share/queue.db" in problem.summary
    assert not list(on_network("queue.path", Path("/var/lib/omrwatchd/queue.db"), TABLE))
