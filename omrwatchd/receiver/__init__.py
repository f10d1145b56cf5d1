"""The reference OMR server: strict, streaming, and able to misbehave on demand.

It is written from the server's API alone and imports nothing else of this package, so that a mistake
in the daemon's reading of the wire can't hide in code that both sides share.
"""

from __future__ import annotations

from .batches import Batch, BatchFile
from .faults import Fault
from .ledger import RequestLog
from .receiver import Receiver

__all__ = ["Batch", "BatchFile", "Fault", "Receiver", "RequestLog"]
