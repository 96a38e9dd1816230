"""Manifests beside the objects: `manifest-sha256.txt` or another algorithm's, at the top of the prefix."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from dpn.bags.digests import ALGORITHMS, DIGEST_BYTES
from dpn.bags.errors import ClaimRefuted, SourceRefused
from dpn.bags.names import manifest_algorithm
from dpn.packaging.s3.checksums import OURS
from dpn.packaging.s3.listing import Listing, Object

LONGEST_LINE_BYTES = 16 << 10
BATCH_LINES = 1000
NAMES_TOLD = 5

_SCHEMA = """
CREATE TABLE claims (name BLOB, algorithm TEXT, digest TEXT, PRIMARY KEY (name, algorithm)) WITHOUT ROWID
"""
_LINE = re.compile(rb"([0-9A-Fa-f]{32,128})[ \t]+\*?(.+)")


class Manifests:
    """What the manifests say, in a database of its own file, so that memory does not grow with them."""

    def __init__(self, connection: sqlite3.Connection, names: tuple[bytes, ...]) -> None:
        self._connection = connection
        self.names = names
        """Of the manifests themselves: they are no payload."""

    def claimed(self, name: bytes) -> Mapping[str, str]:
        """What they say of an object, by algorithm."""
        rows = self._connection.execute("SELECT algorithm, digest FROM claims WHERE name = ?", (name,))
        return dict(rows.fetchall())


@contextmanager
def open_manifests(listing: Listing, objects: Path, where: str) -> Iterator[Manifests]:
    """Reads the manifests that were fetched. Raises SourceRefused for a line that is none, for objects that the
    manifests do not list, and for what they list and is not there; ClaimRefuted for one that is not what was
    fetched; OSError."""
    with closing(sqlite3.connect("")) as connection:  # a temporary file, gone when it is closed
        connection.execute(_SCHEMA)
        yield _read_all(connection, listing, objects, where)


def _read_all(connection: sqlite3.Connection, listing: Listing, objects: Path, where: str) -> Manifests:
    names = tuple(_manifests(listing))
    for name in names:
        algorithm = manifest_algorithm(name)[0]
        assert algorithm is not None  # noqa: S101 - else it was not among them
        _check_as_fetched(listing.find(name), objects / name.decode())
        _read(connection, objects / name.decode(), algorithm, f"{where}{name.decode()}")
    manifests = Manifests(connection, names)
    if names:
        _refuse_what_differs(manifests, connection, listing, where)
    return manifests


def _manifests(listing: Listing) -> Iterator[bytes]:
    for algorithm in ALGORITHMS:
        name = f"manifest-{algorithm}.txt".encode()
        if listing.find(name) is not None:
            yield name


def _check_as_fetched(one: Object | None, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, OURS).hexdigest()
    wanted = (one.checksums or {}).get(OURS) if one else None
    if wanted != found:
        raise ClaimRefuted(str(path), OURS, wanted or "nothing", found)


def _read(connection: sqlite3.Connection, path: Path, algorithm: str, where: str) -> None:
    rows: list[tuple[bytes, str, str]] = []
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE_BYTES):
            number += 1
            text = line.rstrip(b"\r\n")
            if not text:
                continue
            match = _LINE.fullmatch(text)
            if match is None or len(match[1]) != 2 * DIGEST_BYTES[algorithm]:
                raise SourceRefused(f"line {number} of {where} is not 'checksum path': correct the manifest")
            rows.append((match[2].removeprefix(b"./"), algorithm, match[1].decode().lower()))
            if len(rows) >= BATCH_LINES:
                rows = _add(connection, rows, where)
    _add(connection, rows, where)


def _add(
    connection: sqlite3.Connection, rows: list[tuple[bytes, str, str]], where: str
) -> list[tuple[bytes, str, str]]:
    try:
        connection.executemany("INSERT INTO claims VALUES (?, ?, ?)", rows)
    except sqlite3.IntegrityError:
        raise SourceRefused(f"{where} lists a file twice: correct the manifest") from None
    return []


def _refuse_what_differs(
    manifests: Manifests, connection: sqlite3.Connection, listing: Listing, where: str
) -> None:
    unlisted = [
        one.name
        for one in listing.objects()
        if one.name not in manifests.names and not manifests.claimed(one.name)
    ]
    absent = [
        name
        for (name,) in connection.execute("SELECT DISTINCT name FROM claims ORDER BY name")
        if listing.find(name) is None
    ]
    for names, what in (
        (absent, "listed in the manifest and not there"),
        (unlisted, "not listed in the manifest"),
    ):
        if names:
            told = ", ".join(repr(name.decode("utf-8", "backslashreplace")) for name in names[:NAMES_TOLD])
            raise SourceRefused(
                f"{len(names):,} objects under {where} are {what}: {told}. Mend the manifest or the objects."
            )
