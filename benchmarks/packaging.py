"""Packaging a deposit beside `tar` and `openssl dgst -sha256` of the same folder, in the same run.

    python -m benchmarks.packaging [--scenario large small] [--repeat 3] [--workdir DIR] [--json FILE]

`large` is one file of 4 GiB, `small` 50,000 files of 1,000 bytes. The baseline writes a tar of the folder, then
reads the folder again to print each file's SHA-256; "and on disk" has it wait until the tar is on disk, as we
always do. Packaging also hashes, writes manifests, reads the finished tar again, and validates it. Everything is
in the page cache when a run begins, and nothing is being written back. Contenders take turns; the best run of each
counts.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import (
    MEBIBYTE,
    Measurement,
    best_in_turns,
    content,
    measured,
    print_table,
    write_results,
)

UUID = "5b7d9d4c-2f7e-4c55-8a44-9a7b6c5d4e3f"
FILES_PER_FOLDER = 1000

BASELINE, ON_DISK, OURS = "tar + openssl", "tar + openssl, and on disk", "dpn"

PACKAGE = """
import sys
from datetime import date
from pathlib import Path
from dpn.packaging.description import Description
from dpn.packaging.package import package
from dpn.packaging.settings import DepositS3Settings
description = Description(
    bag=sys.argv[1], source=sys.argv[2], member="0a1b2c3d-0000-4000-8000-000000000001", local_id="benchmark",
    bagging_date=date(2026, 1, 2), ingest_node="north",
)
package(description, Path(sys.argv[3]), s3=DepositS3Settings())
"""


@dataclass(frozen=True)
class Scenario:
    """A folder: so many files of so many bytes; and how many times the baseline's time is allowed."""

    files: int
    file_bytes: int
    allowed: float


SCENARIOS = {"large": Scenario(1, 4096 * MEBIBYTE, 1.25), "small": Scenario(50_000, 1000, 2.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=[*SCENARIOS], nargs="*", default=[*SCENARIOS])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.scenario:
        with tempfile.TemporaryDirectory(dir=arguments.workdir) as folder:
            results[name] = compare(name, SCENARIOS[name], Path(folder), arguments.repeat)
    write_results(arguments.json, results)


def compare(name: str, scenario: Scenario, folder: Path, repeat: int) -> list[Measurement]:
    source = folder / "source"
    write_source(source, scenario)
    print(f"\n{name}: {scenario.files:,} files of {scenario.file_bytes:,} bytes, best of {repeat}")
    best = best_in_turns((BASELINE, ON_DISK, OURS), lambda one: measure(one, source, folder / "out"), repeat)
    print_table(best, "× the baseline", lambda one: one.seconds / best[0].seconds)
    print(f"wanted: at most {scenario.allowed} ×", flush=True)
    return best


def measure(contender: str, source: Path, out: Path) -> Measurement:
    out.mkdir()
    os.sync()
    found = measured(contender, commands(contender, source, out))
    shutil.rmtree(out)
    return found


def commands(contender: str, source: Path, out: Path) -> list[list[str]]:
    if contender == OURS:
        return [[sys.executable, "-c", PACKAGE, UUID, str(source), str(out)]]
    tar = out / "source.tar"
    both = [
        ["tar", "-C", str(source.parent), "-cf", str(tar), source.name],
        ["find", str(source), "-type", "f", "-exec", "openssl", "dgst", "-sha256", "{}", "+"],
    ]
    return both if contender == BASELINE else [both[0], ["sync", str(tar)], both[1]]


def write_source(folder: Path, scenario: Scenario) -> None:
    noise = random.Random(1).randbytes(MEBIBYTE)
    for number in range(scenario.files):
        path = folder / f"folder-{number // FILES_PER_FOLDER:04}" / f"file-{number:07}.bin"
        if number % FILES_PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.writelines(content(noise, number, scenario.file_bytes))


if __name__ == "__main__":
    main()
