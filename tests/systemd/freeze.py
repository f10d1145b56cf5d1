"""Stops single threads of a process, as a call that never returns would: by ptrace(2), until this ends.

    python3 freeze.py PID FIRST [LAST]      threads in the order in which they were begun, 0 is the main one

Run as root in the container, with nothing but the standard library.
"""

import ctypes
import os
import pathlib
import signal
import sys

SEIZE, INTERRUPT = 0x4206, 0x4207
libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request: int, thread: int) -> None:
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace of thread {thread}")


def asleep(thread: int) -> bool:
    """In a system call: so it holds up nothing but itself, least of all the interpreter's lock."""
    stat = pathlib.Path(f"/proc/{thread}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


process, first = int(sys.argv[1]), int(sys.argv[2])
threads = sorted(map(int, os.listdir(f"/proc/{process}/task")))
for each in threads[first : int(sys.argv[3]) if len(sys.argv) > 3 else first + 1]:
    ptrace(SEIZE, each)
    while not asleep(each):
        pass
    ptrace(INTERRUPT, each)
    print(each, flush=True)
print("frozen", flush=True)
signal.pause()
