"""What a dry run would have added so far, so that what refers to it is judged as the real run would judge it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from dpn.registry.records import BagRecord

FamilyPlace = tuple[str, int, str]
"""Version family, version, admin node: one bag at most has it."""


def family_place(bag: BagRecord) -> FamilyPlace:
    return bag.first_version_uuid, bag.version, bag.admin_node


class ForeseenBags:
    """Bags and their places, kept in a nameless temporary database on disk, gone when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE bags (uuid PRIMARY KEY) WITHOUT ROWID")
        self._database.execute(
            "CREATE TABLE places (family, version, admin_node, uuid, PRIMARY KEY (family, version, admin_node))"
            " WITHOUT ROWID"
        )

    def add(self, bags: Iterable[BagRecord]) -> None:
        kept = list(bags)
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO bags VALUES (?)", [(bag.uuid,) for bag in kept])
        places = [(*family_place(bag), bag.uuid) for bag in kept]
        self._database.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)", places)
        self._database.execute("COMMIT")

    def known(self, uuids: Iterable[str]) -> set[str]:
        """Those of the bags that would be there."""
        wanted = list(uuids)
        marks = ",".join("?" * len(wanted))
        return {row[0] for row in self._database.execute(f"SELECT uuid FROM bags WHERE uuid IN ({marks})", wanted)}  # noqa: S608

    def holders(self, families: Sequence[str]) -> dict[FamilyPlace, str]:
        """Which bag would have each place of these families."""
        marks = ",".join("?" * len(families))
        statement = f"SELECT family, version, admin_node, uuid FROM places WHERE family IN ({marks})"  # noqa: S608
        rows = self._database.execute(statement, families)
        return {(family, version, admin_node): uuid for family, version, admin_node, uuid in rows}

    def close(self) -> None:
        self._database.close()
