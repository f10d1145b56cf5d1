"""omrwatchd: delivers finished ZIPs of scanned answer sheets from a folder to an OMR server."""

__version__ = "0.1.0"
