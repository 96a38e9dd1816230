"""What going through a folder of many objects costs, beside a bare `os.scandir` of it in the same run.

    .venv/bin/python -m benchmarks.objects [--objects 1000000] [--in-folder 1000] [--runs 5] [--keep DIR]

The objects are empty files, so many in each folder. In turn, each in its own process: `os.scandir`, which tells
names; `os.scandir` with a look at each file, for sizes and times; `FolderRoot.walk`, which tells all this in the
order of keys, also from the middle on. Then all in one folder, for the memory. Figures: objects.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("names", "files", "walk", "second half")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--in-folder", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="make the files there, and leave them")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(_once(options.once[0], Path(options.once[1]))))
        return 0
    with tempfile.TemporaryDirectory() as made:
        for in_folder in (options.in_folder, options.objects):
            folder = (options.keep or Path(made)) / str(in_folder)
            _make(folder, options.objects, in_folder)
            _compare(folder, in_folder, options.runs)
    return 0


def _make(folder: Path, objects: int, in_folder: int) -> None:
    for first in range(0, objects, in_folder):
        below = folder / f"folder-{first // in_folder:06}"
        below.mkdir(parents=True, exist_ok=True)
        for number in range(first, min(first + in_folder, objects)):
            (below / f"object-{number:08}").touch()


def _compare(folder: Path, in_folder: int, runs: int) -> None:
    found = {kind: [_in_process(kind, folder) for _ in range(runs)] for kind in KINDS}
    for kind, results in found.items():
        count, rate = results[0]["objects"], statistics.median(one["objects"] / one["seconds"] for one in results)
        memory = max(one["mib"] for one in results)
        print(f"{in_folder:>9,} a folder  {kind:<12} {count:>9,} objects  {rate:>11,.0f}/s  {memory:>4.0f} MiB")


def _in_process(kind: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.objects", "--once", kind, str(folder)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def _once(kind: str, folder: Path) -> dict[str, float]:
    begun = time.perf_counter()
    if kind in ("names", "files"):
        count = _scan(str(folder), look=kind == "files")
    else:
        from dpn.objects.folder.root import FolderRoot

        after = _middle(folder) if kind == "second half" else None
        begun = time.perf_counter()
        count = sum(1 for _ in FolderRoot("here", folder).walk(after=after))
    seconds = time.perf_counter() - begun
    return {"objects": count, "seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _scan(folder: str, *, look: bool) -> int:
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += _scan(entry.path, look=look)
            else:
                count += 1
                if look:
                    entry.stat(follow_symlinks=False)
    return count


def _middle(folder: Path) -> str:
    """A key with as many before it as behind it, by the names that we gave."""
    folders = sorted(os.listdir(folder))  # noqa: PTH208
    middle = folders[len(folders) // 2]
    names = sorted(os.listdir(folder / middle))  # noqa: PTH208
    return f"{middle}/{names[len(names) // 2]}" if len(folders) == 1 else middle


if __name__ == "__main__":
    sys.exit(main())
