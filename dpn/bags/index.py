"""The files of a bag by name, in memory that does not grow with the length of their names.

A file costs some 250 bytes, so that a million stay well below one gigabyte; names longer than 64 bytes are known
by their BLAKE2b only. A bag with more entries than the limit is refused rather than indexed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import compress, pairwise

from dpn.bags.digests import GROWTH_FILES, DigestTable
from dpn.bags.findings import MAX_FINDINGS_KEPT, Findings
from dpn.bags.manifest_names import ManifestName, manifest_name
from dpn.bags.names import UNSAFE, faults, is_plain
from dpn.text import folded, normalized

DEFAULT_MAX_ENTRIES = 5_000_000
"""Files and folders together: some 1.3 GB at worst."""

PAYLOAD_PREFIX = b"data/"
PAYLOAD_DIRECTORY = b"data"
_LONGEST_KEPT_NAME_BYTES = 64
_AMBIGUOUS = -1


class TooManyEntries(Exception):
    """The limit is reached: reading stops."""


class FileIndex:
    """Numbers the files in the order they come; remembers of each: name, where it is, size, whether payload."""

    def __init__(self, findings: Findings, digests: DigestTable, max_entries: int = DEFAULT_MAX_ENTRIES) -> None:
        self._findings = findings
        self._max_entries = max_entries
        self._max_files = max_entries
        self._room_files = 0
        self.digests = digests
        self._numbers: dict[bytes, int] = {}
        self._folders: set[bytes] = set()
        self._last_folder = b""
        self._folded = array("q")
        self._normalized: dict[bytes, int] = {}
        self.places = array("Q")
        """What the owner of the index needs to find a file again: an offset in a tar, a number in a list."""
        self.sizes = array("Q")
        self.is_payload = bytearray()
        self.payload_bytes = 0
        self.manifests: dict[bytes, tuple[int, ManifestName]] = {}
        """Payload and tag manifests of any algorithm, by name, however that is written."""
        self.hard_links: set[bytes] = set()
        """Names of the first of them: a finding each. Their content is there, so that no file is missing."""

    def __len__(self) -> int:
        return len(self.places)

    def add_file(self, name: bytes, place: int, size: int) -> int | None:
        """Number a file; None (and a finding) if its name cannot be kept or was there before."""
        plain = is_plain(name)
        if not plain and not self._acceptable(name):
            return None
        number = len(self.places)
        key = name if len(name) <= _LONGEST_KEPT_NAME_BYTES else _key(name)
        if self._numbers.setdefault(key, number) != number:
            self._findings.add(
                "tar-duplicate", "A second file of this name. Pack the bag again with each file once.", name
            )
            return None
        folder = name.rpartition(b"/")[0]
        if folder != self._last_folder:
            self._note_folder(folder)
        self._folded.append(hash(name.lower() if plain else folded(name)))
        if not plain and not name.isascii():
            normal = _key(normalized(name))
            self._normalized[normal] = _AMBIGUOUS if normal in self._normalized else number
        self.places.append(place)
        self.sizes.append(size)
        payload = name.startswith(PAYLOAD_PREFIX)
        self.is_payload.append(payload)
        if payload:
            self.payload_bytes += size
        elif b"/" not in name and (said := manifest_name(name)) is not None:
            self.manifests[name] = number, said
        if number >= self._room_files:
            self._grow()
        if number >= self._max_files:
            self._refuse_more()
        return number

    def add_folder(self, name: bytes) -> None:
        if self._acceptable(name, of_folder=True):
            self._note_folder(name)

    def add_hard_link(self, name: bytes) -> None:
        if len(self.hard_links) < MAX_FINDINGS_KEPT:
            self.hard_links.add(name)

    def find(self, name: bytes) -> int | None:
        return self._numbers.get(_key(name))

    def find_normalized(self, name: bytes) -> int | None:
        """The one file whose name is the same after Unicode normalisation (RFC 8493 §6.1.1.3)."""
        number = None if name.isascii() else self._normalized.get(_key(normalized(name)))
        return None if number == _AMBIGUOUS else number

    def has_folder(self, name: bytes) -> bool:
        return _key(name) in self._folders

    def payload_numbers(self) -> Iterator[int]:
        return compress(range(len(self)), self.is_payload)

    def tag_numbers(self) -> Iterator[int]:
        return compress(range(len(self)), (not payload for payload in self.is_payload))

    def report_conflicts(self, name_of: Callable[[int], bytes]) -> None:
        """Findings for names that are file and folder at once, and for names that a file system may hold equal."""
        for key in self._folders & self._numbers.keys():
            self._findings.add("name-conflict", "Both a file and a folder.", name_of(self._numbers[key]))
        if len(set(self._folded)) < len(self._folded):
            self._report_clashes(name_of)

    def _report_clashes(self, name_of: Callable[[int], bytes]) -> None:
        by_hash = sorted(range(len(self._folded)), key=self._folded.__getitem__)
        for one, other in pairwise(by_hash):
            if self._folded[one] == self._folded[other]:
                first, second = name_of(one), name_of(other)
                if folded(first) == folded(second):
                    message = f"Differs from {first!r} only in case or normalisation."
                    self._findings.add("name-clash", message, second)

    def _acceptable(self, name: bytes, *, of_folder: bool = False) -> bool:
        acceptable = True
        for code, message in faults(name, of_folder=of_folder):
            self._findings.add(code, message, name)
            acceptable = acceptable and code not in UNSAFE
        return acceptable

    def _note_folder(self, folder: bytes) -> None:
        """A folder, and those that it lies in."""
        self._last_folder = folder
        while folder and (key := _key(folder)) not in self._folders:
            self._folders.add(key)
            folder = folder.rpartition(b"/")[0]
        self._max_files = self._max_entries - len(self._folders)
        if len(self.places) > self._max_files:
            self._refuse_more()

    def _refuse_more(self) -> None:
        self._findings.add("too-many-entries", f"More than {self._max_entries:,} files and folders.")
        raise TooManyEntries

    def _grow(self) -> None:
        self._room_files += GROWTH_FILES
        self.digests.grow(self._room_files)


def _key(name: bytes) -> bytes:
    """Short names as they are, long ones by a digest that no name can equal: names have no NUL."""
    if len(name) <= _LONGEST_KEPT_NAME_BYTES:
        return name
    return b"\0" + blake2b(name, digest_size=31).digest()
