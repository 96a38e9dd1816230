"""The process that reads a tar while another one builds it (see `following`). All that it can say is that the bag
is valid: who hears nothing from it validates the tar himself."""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path

from dpn.bags.building.builder import REQUIRED_ALGORITHM
from dpn.bags.findings import Findings
from dpn.bags.hash_threads import Progress
from dpn.bags.index import DEFAULT_MAX_ENTRIES
from dpn.bags.tar.contents import TarContents
from dpn.bags.tar.file import TarFile
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import judge

_NOT_YET_KNOWN = 1 << 62
_LOOK_EVERY_SECONDS = 0.01
_LONGEST_WORD_BYTES = 100


def main(path: str, profile_name: str, threads: str) -> None:
    """Prints the report of a valid bag as a line of JSON, nothing if it is not valid; before that, while somebody
    listens, how many bytes and files were read."""
    profile, algorithms = load_profile(profile_name), {REQUIRED_ALGORITHM}
    findings = Findings(profile.rulings if profile else None)
    with _GrowingTar(Path(path), sys.stdin.fileno()) as tar:
        progress = Progress(tar.tell)
        contents = TarContents(
            tar,
            findings,
            max_entries=DEFAULT_MAX_ENTRIES,
            threads=int(threads),
            progress=progress,
            algorithms=(algorithms, algorithms),
        )
        contents.read(whole_file_sha256=True)
        report = judge(Path(path), contents, profile, findings)
        progress.tell()
    if report.valid:
        print(json.dumps(report.to_json()), flush=True)


class _GrowingTar(TarFile):
    """What is not there yet is waited for, until `words`, a pipe from the builder, says size and time of the last
    change of the whole; a builder that goes without a word ends the process."""

    def __init__(self, path: Path, words: int) -> None:
        super().__init__(path)
        self.size = _NOT_YET_KNOWN
        self._words = words
        self._changed_ns = 0

    def read(self, offset: int, length: int) -> bytes:
        self._wait_for(offset + length)
        return super().read(offset, length)

    def read_into(self, view: memoryview, offset: int) -> int:
        self._wait_for(offset + len(view))
        return super().read_into(view, offset)

    def check_unchanged(self) -> None:
        now = os.fstat(self.fd)
        if (now.st_size, now.st_mtime_ns) != (self.size, self._changed_ns):
            raise self.changed()

    def tell(self, read_bytes: int, files: int) -> None:
        """Only once the builder has said his word: before that, he does not listen."""
        if self.size != _NOT_YET_KNOWN:
            print(json.dumps([read_bytes, files]), flush=True)

    def _wait_for(self, end: int) -> None:
        while self.size == _NOT_YET_KNOWN and os.fstat(self.fd).st_size < end:
            if select.select([self._words], [], [], _LOOK_EVERY_SECONDS)[0]:
                word = os.read(self._words, _LONGEST_WORD_BYTES).split()
                if not word:
                    raise SystemExit(1)
                self.size, self._changed_ns = map(int, word)
