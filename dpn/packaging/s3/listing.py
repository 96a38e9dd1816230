"""What lies under a prefix, as it was listed: kept in a file, so that a fetch goes on where it was killed.

Memory does not grow with the number of objects: what must be asked of all of them is asked in SQL.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dpn.bags.errors import SourceRefused
from dpn.bags.findings import shown
from dpn.errors import SourceChanged
from dpn.packaging.s3.keys import is_folder_marker, key_faults, refusal
from dpn.s3.pages import ListedObject
from dpn.text import folded, normalized

BATCH = 1000
PROBLEMS_TOLD = 10

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL, folded BLOB NOT NULL, checksums TEXT
) WITHOUT ROWID;
CREATE TABLE folders (name BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX objects_folded ON objects (folded);
"""
_CLASHES = """
SELECT name FROM objects WHERE folded IN (SELECT folded FROM objects GROUP BY folded HAVING count(*) > 1)
ORDER BY folded, name
"""
_FILE_AND_FOLDER = """
SELECT name FROM objects AS one WHERE EXISTS (
    SELECT 1 FROM objects AS other
    WHERE other.name > CAST(one.name || '/' AS BLOB) AND other.name < CAST(one.name || '0' AS BLOB)
) OR EXISTS (SELECT 1 FROM folders WHERE folders.name = one.name)
"""
_CONFLICTS = (
    (_CLASHES, "another key differs from it only in case or Unicode form"),
    (_FILE_AND_FOLDER, "it is a file and a folder at once"),
)


class Object(NamedTuple):
    """A listed object. `checksums` are, by algorithm, of the bytes that were fetched and are what the server says
    of them; None: it was not fetched yet."""

    name: bytes
    size: int
    etag: str
    checksums: Mapping[str, str] | None


class Listing:
    """A complete listing in a file. For one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def complete(self) -> bool:
        return self._connection.execute("SELECT 1 FROM facts WHERE name = 'complete'").fetchone() is not None

    def fill(self, listed: Iterable[ListedObject], where: str) -> None:
        """Takes a whole listing in. Raises SourceRefused for keys that no bag can hold, and if there are none."""
        problems = [refusal(*problem) for problem in islice(self.take_in(listed, where), PROBLEMS_TOLD)]
        if problems:
            told = "; ".join(problems)
            raise SourceRefused(f"{where} cannot be bagged: {told}. Rename these objects and deposit it again.")
        self._connection.execute("INSERT INTO facts VALUES ('complete', 'yes')")
        self._connection.commit()

    def take_in(self, listed: Iterable[ListedObject], where: str) -> Iterator[tuple[bytes, str]]:
        """Name and fault of each object that no bag can hold; all others are taken in. Raises SourceRefused if
        there are none."""
        rows, files = [], 0
        for one in listed:
            if is_folder_marker(one):
                self._add_folder(one.key)
                continue
            files += 1
            if found := list(key_faults(one)):
                yield from found
                continue
            name = one.key.encode()
            rows.append((name, one.size, one.etag, folded(name)))
            if len(rows) >= BATCH:
                rows = self._add(rows)
        self._add(rows)
        if not files:
            raise SourceRefused(f"there is no object under {where}: correct the prefix, or put the content there")
        for query, why in _CONFLICTS:
            yield from ((name, why) for (name,) in self._connection.execute(query))

    def compare(self, listed: Iterable[ListedObject], where: str) -> None:
        """Raises SourceChanged unless the source still shows what this listing has."""
        seen = 0
        for one in listed:
            if is_folder_marker(one):
                continue
            seen += 1
            name = one.key.encode("utf-8", "surrogatepass")
            row = self._connection.execute("SELECT size, etag FROM objects WHERE name = ?", (name,)).fetchone()
            if row != (one.size, one.etag):
                raise SourceChanged(
                    f"{where}{shown(name)} {'changed' if row else 'came'} meanwhile: it is fetched anew"
                )
        if seen != self.count():
            raise SourceChanged(
                f"{self.count() - seen:,} objects under {where} went meanwhile: it is fetched anew"
            )

    def objects(self) -> Iterator[Object]:
        """In the order of their names. The listing may be changed between."""
        last = b""
        while rows := self._connection.execute(
            "SELECT name, size, etag, checksums FROM objects WHERE name > ? ORDER BY name LIMIT ?", (last, BATCH)
        ).fetchall():
            yield from (_object(row) for row in rows)
            last = rows[-1][0]

    def folders(self) -> Iterator[bytes]:
        """Names of the folders that markers stand for."""
        yield from (name for (name,) in self._connection.execute("SELECT name FROM folders ORDER BY name"))

    def find(self, name: bytes) -> Object | None:
        row = self._connection.execute(
            "SELECT name, size, etag, checksums FROM objects WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else _object(row)

    def find_normalized(self, name: bytes) -> Object | None:
        """The one whose name is the same in Unicode's normal form."""
        rows = self._connection.execute(
            "SELECT name, size, etag, checksums FROM objects WHERE folded = ?", (folded(name),)
        )
        return next((_object(row) for row in rows if normalized(row[0]) == normalized(name)), None)

    def names_at_top(self) -> Iterator[bytes]:
        """Of objects that lie in no folder."""
        rows = self._connection.execute("SELECT name FROM objects WHERE instr(name, X'2F') = 0")
        yield from (name for (name,) in rows)

    def count(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM objects").fetchone()[0])

    def note_checksums(self, found: Iterable[tuple[bytes, Mapping[str, str]]]) -> None:
        """What these objects turned out to be when they were fetched; survives a kill."""
        self._connection.executemany(
            "UPDATE objects SET checksums = ? WHERE name = ?",
            [(json.dumps(dict(checksums)), name) for name, checksums in found],
        )
        self._connection.commit()

    def _add(self, rows: list[tuple[bytes, int, str, bytes]]) -> list[tuple[bytes, int, str, bytes]]:
        # A key that is listed twice changed meanwhile: what is fetched is held against the later one.
        self._connection.executemany(
            "INSERT OR REPLACE INTO objects (name, size, etag, folded) VALUES (?, ?, ?, ?)", rows
        )
        return []

    def _add_folder(self, key: str) -> None:
        if name := key.rstrip("/").encode():
            self._connection.execute("INSERT OR IGNORE INTO folders VALUES (?)", (name,))


@contextmanager
def open_listing(path: Path) -> Iterator[Listing]:
    """The listing in a file, empty if there is none. Nothing of it counts until it is complete."""
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            connection.executescript(_SCHEMA)
        yield Listing(connection)
    finally:
        connection.close()


def _object(row: tuple[bytes, int, str, str | None]) -> Object:
    name, size, etag, checksums = row
    return Object(name, size, etag, None if checksums is None else json.loads(checksums))
