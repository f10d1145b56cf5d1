"""Stops single threads of a process, as a call that never returns would: by ptrace(2), until this ends.

    python3 freeze.py PID FIRST:[LAST]      as a slice of its threads, in the order in which they were begun

Run as root in the container, with nothing but the standard library.
"""

import contextlib
import ctypes
import os
import pathlib
import sys

SEIZE, INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request: int, thread: int) -> None:
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace of thread {thread}")


def asleep(thread: int) -> bool:
    """In a system call: so it holds up nothing but itself, least of all the interpreter's lock."""
    stat = pathlib.Path(f"/proc/{thread}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


process = int(sys.argv[1])
first, _, last = sys.argv[2].partition(":")
threads = sorted(map(int, os.listdir(f"/proc/{process}/task")))
for each in threads[int(first) : int(last) if last else None]:
    ptrace(SEIZE, each)
    while not asleep(each):
        pass
    ptrace(INTERRUPT, each)
    print(each, flush=True)
print("frozen", flush=True)
with contextlib.suppress(ChildProcessError):
    while True:
        os.waitpid(-1, WALL)  # a killed process is gone only when its tracer has seen the end of each thread
