"""Checksum algorithms of manifests, and a table that keeps one digest a file in as many bytes as it has."""

from __future__ import annotations

import hashlib
from binascii import hexlify
from collections.abc import Callable
from functools import partial
from typing import Protocol

Data = bytes | bytearray | memoryview


class Hasher(Protocol):
    """What hashlib gives."""

    def update(self, data: Data, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


NewHasher = Callable[..., Hasher]

ALGORITHMS: dict[str, NewHasher] = {
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "sha224": hashlib.sha224,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha3224": hashlib.sha3_224,
    "sha3256": hashlib.sha3_256,
    "sha3384": hashlib.sha3_384,
    "sha3512": hashlib.sha3_512,
    "blake2b": hashlib.blake2b,
    "blake2b256": partial(hashlib.blake2b, digest_size=32),
    "blake2b384": partial(hashlib.blake2b, digest_size=48),
    "blake2b512": hashlib.blake2b,
    "blake2s": hashlib.blake2s,
    "blake2s256": hashlib.blake2s,
}
"""By the normalised name that stands in a manifest's file name (RFC 8493 §2.4)."""

DIGEST_BYTES = {name: len(new(b"").digest()) for name, new in ALGORITHMS.items()}

UNFORGEABLE = frozenset(ALGORITHMS) - {"md5", "sha1"}
"""Nobody can make two files of one digest."""

GROWTH_FILES = 16384


class Column:
    """The digests of one algorithm by file number: as many bytes a file as the digest has, and one more."""

    __slots__ = ("_have", "_values", "algorithm", "new", "width")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.new = ALGORITHMS[algorithm]
        self.width = DIGEST_BYTES[algorithm]
        self._values = bytearray()
        self._have = bytearray()

    def grow(self, files: int) -> None:
        """Make room for this many files. Only the thread that numbers the files calls it."""
        more = max(0, files - len(self._have))
        self._values.extend(bytes(more * self.width))
        self._have.extend(bytes(more))

    def put(self, number: int, digest: bytes) -> None:
        """Any thread may; the slot must be there."""
        at = number * self.width
        self._values[at : at + self.width] = digest
        self._have[number] = 1

    def missing(self, kinds: bytearray, kind: int) -> list[int]:
        """The files of this kind (`kinds` has one byte a file) whose digest was not computed."""
        have = memoryview(self._have)[: len(kinds)]
        return [
            number
            for number, (one, there) in enumerate(zip(kinds, have, strict=True))
            if one == kind and not there
        ]

    def get(self, number: int) -> bytes | None:
        """The digest of this file, None if it was not computed."""
        if number >= len(self._have) or not self._have[number]:
            return None
        at = number * self.width
        return bytes(self._values[at : at + self.width])

    def says(self, number: int, checksum: bytes) -> bool:
        """Whether this file's digest is that, in lower-case hexadecimal."""
        at = number * self.width
        return self._have[number] == 1 and hexlify(self._values[at : at + self.width]) == checksum


class DigestTable:
    """Which algorithms are computed while the files are read, for payload and for tag files, and the results."""

    def __init__(self, payload: set[str], tags: set[str]) -> None:
        self._columns = {name: Column(name) for name in sorted(payload | tags)}
        self.payload = tuple(self._columns[name] for name in sorted(payload))
        self.tags = tuple(self._columns[name] for name in sorted(tags))
        self._room_files = 0

    def columns(self) -> tuple[Column, ...]:
        return tuple(self._columns.values())

    def column(self, algorithm: str) -> Column:
        """The column of an algorithm, made if nobody asked for it so far."""
        if algorithm not in self._columns:
            self._columns[algorithm] = Column(algorithm)
            self._columns[algorithm].grow(self._room_files)
        return self._columns[algorithm]

    def grow(self, files: int) -> None:
        """Make room for this many files in every column."""
        self._room_files = files
        for column in self._columns.values():
            column.grow(files)
