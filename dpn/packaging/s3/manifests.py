"""Manifests beside the objects: `manifest-sha256.txt` or another algorithm's, at the top of the prefix. What is
called like one in other letters is one, too: nothing that claims a checksum is passed over."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from dpn.bags.digests import ALGORITHMS, DIGEST_BYTES
from dpn.bags.errors import ClaimRefuted, SourceRefused
from dpn.bags.hash_threads import READ_BYTES
from dpn.bags.manifest_names import manifest_name
from dpn.bags.path_list import PathList, checksum_and_path, no_entry
from dpn.bags.validation.text import MAX_LINE_BYTES, Lines, NotDecodable
from dpn.packaging.s3.listing import Listing, Object
from dpn.s3.checksums import OURS

BATCH_LINES = 1000
NAMES_TOLD = 5

_SCHEMA = """
CREATE TABLE claims (
    name BLOB, is_there INTEGER, algorithm TEXT, digest TEXT, PRIMARY KEY (name, algorithm, digest)
) WITHOUT ROWID
"""
_Claim = tuple[bytes, bool, str, str]


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
    algorithms = dict(_algorithms(listing))
    for name, algorithm in algorithms.items():
        path = objects / name.decode()
        _check_as_fetched(listing.find(name), path)
        _read(connection, path, algorithm, listing, f"{where}{name.decode()}")
    manifests = Manifests(connection, tuple(algorithms))
    if algorithms:
        _refuse_conflict(connection, where)
        _refuse_what_differs(manifests, connection, listing, where)
    return manifests


def _algorithms(listing: Listing) -> Iterator[tuple[bytes, str]]:
    """The manifests, however their names are written, and their algorithms."""
    for name in listing.names_at_top():
        said = manifest_name(name)
        if said is not None and not said.of_tags and said.algorithm in ALGORITHMS:
            yield name, said.algorithm


def _check_as_fetched(one: Object | None, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, OURS).hexdigest()
    wanted = (one.checksums or {}).get(OURS) if one else None
    if wanted != found:
        raise ClaimRefuted(str(path), OURS, wanted or "nothing", found)


def _read(connection: sqlite3.Connection, path: Path, algorithm: str, listing: Listing, where: str) -> None:
    """By the same rules as a manifest of a bag before BagIt 1.0."""
    paths = PathList(listing.find, listing.find_normalized, encoded_first=False)
    rows: list[_Claim] = []
    with path.open("rb") as file:
        lines = Lines(iter(partial(file.read, READ_BYTES), b""), "utf-8")
        try:
            for number, line in enumerate(lines, 1):
                if no_entry(line) is not None:
                    continue
                entry = checksum_and_path(line, DIGEST_BYTES[algorithm])
                if entry is None or len(line) >= MAX_LINE_BYTES:
                    raise SourceRefused(f"line {number} of {where} is not 'checksum path': correct the manifest")
                meant = paths.resolve(entry[1])
                name = meant.path if meant.found is None else meant.found.name
                rows.append((name, meant.found is not None, algorithm, entry[0].decode()))
                if len(rows) >= BATCH_LINES:
                    rows = _add(connection, rows)
        except NotDecodable as error:
            raise SourceRefused(f"{where} is {error}: correct the manifest") from error
    _add(connection, rows)


def _add(connection: sqlite3.Connection, rows: list[_Claim]) -> list[_Claim]:
    connection.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?)", rows)
    return []


def _refuse_conflict(connection: sqlite3.Connection, where: str) -> None:
    """A file may be listed twice with one checksum, not with two."""
    several = "SELECT name FROM claims GROUP BY name, algorithm HAVING count(*) > 1 LIMIT 1"
    for (name,) in connection.execute(several):
        raise SourceRefused(f"{where} has a manifest that lists {_shown(name)} with two checksums: correct it")


def _refuse_what_differs(
    manifests: Manifests, connection: sqlite3.Connection, listing: Listing, where: str
) -> None:
    unlisted = [
        one.name
        for one in listing.objects()
        if one.name not in manifests.names and not manifests.claimed(one.name)
    ]
    absent = [name for (name,) in connection.execute("SELECT DISTINCT name FROM claims WHERE NOT is_there")]
    for names, what in (
        (absent, "listed in the manifest and not there"),
        (unlisted, "not listed in the manifest"),
    ):
        if names:
            told = ", ".join(map(_shown, names[:NAMES_TOLD]))
            raise SourceRefused(
                f"{len(names):,} objects under {where} are {what}: {told}. Fix the manifest or the objects."
            )


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace"))
