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
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

MEBIBYTE = 1 << 20
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


@dataclass(frozen=True)
class Measurement:
    contender: str
    seconds: float
    processor_seconds: float
    peak_mebibytes: float


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
            results[name] = [asdict(one) for one in compare(name, SCENARIOS[name], Path(folder), arguments.repeat)]
    if arguments.json:
        facts = {"cores": os.cpu_count(), "python": sys.version.split()[0], "results": results}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def compare(name: str, scenario: Scenario, folder: Path, repeat: int) -> list[Measurement]:
    source = folder / "source"
    write_source(source, scenario)
    print(f"\n{name}: {scenario.files:,} files of {scenario.file_bytes:,} bytes, best of {repeat}")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the first run", flush=True)
    runs: dict[str, list[Measurement]] = {contender: [] for contender in (BASELINE, ON_DISK, OURS)}
    for _ in range(repeat):
        for contender, measured in runs.items():
            measured.append(measure(contender, source, folder / "out"))
    best = [min(measured, key=lambda one: one.seconds) for measured in runs.values()]
    print(f"{'':28}{'seconds':>9}{'processor':>11}{'peak MiB':>10}{'× the baseline':>16}")
    for one in best:
        ratio = one.seconds / best[0].seconds
        print(
            f"{one.contender:28}{one.seconds:9.2f}{one.processor_seconds:11.2f}"
            f"{one.peak_mebibytes:10.0f}{ratio:16.2f}"
        )
    print(f"wanted: at most {scenario.allowed} ×", flush=True)
    return best


def measure(contender: str, source: Path, out: Path) -> Measurement:
    out.mkdir()
    os.sync()
    seconds = processor = peak = 0.0
    for command in commands(contender, source, out):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds += time.perf_counter() - start
        processor += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
        if child.returncode:
            raise SystemExit(f"{contender} failed: {command}")
    shutil.rmtree(out)
    return Measurement(contender, seconds, processor, peak)


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


def content(noise: bytes, number: int, size: int) -> Iterator[bytes]:
    for at in range(0, size, MEBIBYTE):
        stamp = f"{number:08}{at:012}".encode()
        yield (stamp + noise[len(stamp) :])[: size - at]


if __name__ == "__main__":
    main()
