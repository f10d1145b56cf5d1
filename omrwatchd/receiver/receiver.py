"""The server in a thread of this process, for tests: everything it saw is at hand."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from .app import build
from .batches import Batch
from .faults import Fault
from .house import BODY_LIMIT, House
from .ledger import RequestLog
from .server import Listener, base_url, listen

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0


class Receiver:
    """A reference server on a real socket; may be stopped and started again, on the same port.

    Args:
        directory: where sessions and batches are kept; another receiver with the same one knows them.
        control: whether the control surface is there too.
        port: 0 takes a free one, once.
        keep_data: False keeps a batch's record and SHA-256, but not its bytes.
        body_limit: bytes of a request body that the proxy would let through.
    """

    def __init__(
        self,
        directory: Path,
        token: str = "demo-token",
        control: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        keep_data: bool = True,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._house = House(Path(directory), token, keep_data=keep_data, body_limit=body_limit)
        self._control = control
        self._host = host
        self._port = port
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; returns when connections are accepted. Does nothing while it runs.

        Raises:
            OSError: the port can't be had.
            RuntimeError: the server did not come up.
        """
        if self._thread is not None:
            return
        self._house.open()
        listening = listen(self._host, self._port)
        self._port = listening.getsockname()[1]
        up = threading.Event()
        self._listener = Listener(build(self._house, control=self._control), up.set)
        self._thread = threading.Thread(
            target=self._listener.run, kwargs={"sockets": [listening]}, name="receiver", daemon=True
        )
        self._thread.start()
        if not up.wait(_START_SECONDS):
            raise RuntimeError("the receiver did not come up")

    def stop(self) -> None:
        """End every connection and the thread. Safe twice and before start."""
        if self._listener is None or self._thread is None:
            return
        self._listener.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the receiver did not stop")
        self._listener = self._thread = None

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """Where the API is; good once started."""
        return base_url(self._host, self._port)

    @property
    def token(self) -> str:
        """The one token that is good now."""
        return self._house.token

    @property
    def batches(self) -> list[Batch]:
        """Every batch, oldest first."""
        return self._house.batches.all()

    @property
    def duplicate_batches(self) -> list[str]:
        """The ids of batches whose content an earlier one already had."""
        return self._house.batches.duplicates()

    @property
    def requests(self) -> list[RequestLog]:
        """Every request since this object was made, in the order they came."""
        return self._house.ledger.requests()

    @property
    def max_concurrent(self) -> int:
        """The most uploads that were ever in flight at once."""
        return self._house.ledger.max_concurrent

    @property
    def busy_polls(self) -> int:
        """For how many more polls the processing queue is busy."""
        return self._house.queue.busy_polls

    @busy_polls.setter
    def busy_polls(self, polls: int) -> None:
        self._house.queue.busy_polls = polls

    def set_busy(self, busy: bool) -> None:
        """Make the processing queue busy until told otherwise."""
        self._house.queue.busy = busy

    def add_fault(self, fault: Fault) -> None:
        """Plan a misbehaviour."""
        self._house.plan.add(fault)

    def clear_faults(self) -> None:
        """Behave again."""
        self._house.plan.clear()

    def rotate_token(self, token: str) -> None:
        """From now on only this token is good."""
        self._house.rotate_token(token)

    def forget(self, upload_id: str | None = None) -> None:
        """Expire one upload session, or all: 410 from now on."""
        self._house.sessions.forget(upload_id)
