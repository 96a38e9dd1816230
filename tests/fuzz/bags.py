"""Fuzzes the validator for as long as asked: `python -m tests.fuzz.bags --seconds 600`.

Guided by coverage: an input that reaches a line of dpn/bags for the first time is spoiled further. An input that
breaks a promise is kept in tests/fuzz/seeds/bags, where the test suite tries it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import dpn.bags
from tests.fixtures.fuzzed_bags import judge, spoil
from tests.fixtures.made_bags import UUID

SEEDS = Path(__file__).parent / "seeds" / "bags"
WATCHED = str(Path(dpn.bags.__file__).parent)
SAY_EVERY_SECONDS = 30


class Coverage:
    """Which lines of the validator have ever run, in this thread."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()

    def of(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        if event == "line":
            self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self.of


def run(seconds: float, seed: int) -> int:
    """How many promises were broken."""
    chance, coverage = random.Random(seed), Coverage()
    corpus = [path.read_bytes() for path in sorted(SEEDS.glob("*.tar"))]
    broken = tried = 0
    ends = said = time.monotonic()
    ends += seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{UUID}.tar"
        while time.monotonic() < ends:
            content = spoil(chance.choice(corpus), chance, corpus)
            before = len(coverage.lines)
            sys.settrace(coverage.of)
            try:
                judge(content, path)
            except Exception:  # noqa: BLE001 - any exception is what we look for
                sys.settrace(None)
                broken += 1
                kept = SEEDS / f"broken-{hashlib.sha256(content).hexdigest()[:12]}.tar"
                kept.write_bytes(content)
                print(f"{kept}:\n{traceback.format_exc()}", flush=True)
            finally:
                sys.settrace(None)
            tried += 1
            if len(coverage.lines) > before:
                corpus.append(content)
            if time.monotonic() - said > SAY_EVERY_SECONDS:
                said = time.monotonic()
                print(
                    f"{tried:,} tried, {len(corpus):,} kept, {len(coverage.lines):,} lines, {broken} broken",
                    flush=True,
                )
    print(f"{tried:,} tried, {len(coverage.lines):,} lines reached, {broken} promises broken (seed {seed})")
    return broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    sys.exit(1 if run(arguments.seconds, arguments.seed) else 0)
