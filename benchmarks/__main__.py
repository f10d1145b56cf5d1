"""All benchmarks, one after another, with their usual rounds: `make bench`.

python -m benchmarks [upload] [line] [resident] [queue_growth] [split]
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

ALL = ("upload", "line", "resident", "queue_growth", "split")


def machine() -> str:
    """What the figures are of."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {processor}, {system}"


def main() -> None:
    asked = sys.argv[1:] or list(ALL)
    if unknown := set(asked) - set(ALL):
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}.")
    print(machine(), flush=True)
    failed = []
    for name in asked:
        print(f"\n## {name}\n", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"These did not end well: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
