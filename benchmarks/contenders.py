"""What benchmarks share in which programs do the same work beside each other: measured, in a table, in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Measurement:
    """One run: time on the wall and of processors, and the largest process at its largest."""

    contender: str
    seconds: float
    processor_seconds: float
    peak_mebibytes: float


def measured(
    contender: str, commands: Iterable[Sequence[str]], *, afterwards: Callable[[Sequence[str]], None] | None = None
) -> Measurement:
    """Runs the commands one after the other; `afterwards` belongs to the work of each."""
    seconds = processor = peak = 0.0
    for command in commands:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if afterwards is not None:
            afterwards(command)
        seconds += time.perf_counter() - start
        processor += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
        if child.returncode:
            raise SystemExit(f"{contender} failed: {command}")
    return Measurement(contender, seconds, processor, peak)


def best_in_turns(
    contenders: Iterable[str], measure: Callable[[str], Measurement], repeat: int
) -> list[Measurement]:
    """The best run of each; they take turns, so that what else the machine does meets all of them."""
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the first run", flush=True)
    runs: dict[str, list[Measurement]] = {contender: [] for contender in contenders}
    for _ in range(repeat):
        for contender, of_it in runs.items():
            of_it.append(measure(contender))
    return [min(of_it, key=lambda one: one.seconds) for of_it in runs.values()]


def print_table(best: Sequence[Measurement], ratio: str, of: Callable[[Measurement], float]) -> None:
    """A line each; the last column is `of` it, headed `ratio`."""
    print(f"{'':32}{'seconds':>9}{'processor':>11}{'peak MiB':>10}{ratio:>20}")
    for one in best:
        print(
            f"{one.contender:32}{one.seconds:9.2f}{one.processor_seconds:11.2f}{one.peak_mebibytes:10.0f}{of(one):20.2f}"
        )
    sys.stdout.flush()


def write_results(path: Path | None, results: object) -> None:
    if path is not None:
        facts = {"cores": os.cpu_count(), "python": sys.version.split()[0], "results": results}
        path.write_text(json.dumps(facts, indent=2, default=asdict) + "\n")


def content(noise: bytes, number: int, size: int) -> Iterator[bytes]:
    """The bytes of one file of many, which differ from each other's; `noise` is a mebibyte."""
    for at in range(0, size, MEBIBYTE):
        stamp = f"{number:08}{at:012}".encode()
        yield (stamp + noise[len(stamp) :])[: size - at]
