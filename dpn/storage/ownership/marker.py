"""The marker of a store: made at its first use, demanded ever after."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

from sqlalchemy import select, update

from dpn.clock import Clock
from dpn.database import Sessions, insert_missing, reading
from dpn.errors import Misconfigured, StoreCold, StoreMismatch, StoreMissing
from dpn.storage.store import Store
from models.manifests import Receipt
from models.preservation import KnownStore, StoredCopy

TRIED_COPIES = 5
"""How many copies are looked for in a store that has no marker yet, the smallest ones: each may be read."""

_TEXT = re.compile(r"dpn-store node=([^ ]+) store=([^ ]+) id=([0-9a-f]{32})\Z")


@dataclass(frozen=True)
class Marker:
    """What a store says of itself. The id tells two disks apart that both were this store once."""

    node: str
    store: str
    id: str

    def __str__(self) -> str:
        return f"dpn-store node={self.node} store={self.store} id={self.id}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The marker that `text` is, or None."""
        found = _TEXT.match(text.strip())
        return cls(*found.groups()) if found else None


@dataclass(frozen=True)
class Ownership:
    """Which marker the store `name` of ours must bear. Asked anew each time: disks come and go while we run."""

    node: str
    name: str
    sessions: Sessions
    clock: Clock

    def require(self, store: Store) -> None:
        """Raises Misconfigured unless the store is ours.

        A store that we know of no copy in gets its marker now. So does one that held copies before there were
        markers, once one of them is proven there.
        """
        found, expected = self._found(store), self._expected()
        if found is not None and found.id == expected:
            return
        if self._knows_copies() and not (expected is None and (found or self._proves_a_copy(store))):
            raise Misconfigured(self._why_not(found))
        if found is not None:
            self._expect(found.id)
        elif (marker := self._begin_marking(expected)) is None:
            self.require(store)  # another process was quicker
        else:
            self._mark(store, marker)

    def mark(self, store: Store) -> Marker:
        """Gives the store a new marker, by an operator's word. What another disk was marked with is void."""
        self._found(store)
        marker = self._new()
        self._expect(marker.id)
        store.mark(str(marker))
        return marker

    def _new(self) -> Marker:
        return Marker(self.node, self.name, secrets.token_hex(16))

    def _found(self, store: Store) -> Marker | None:
        """The marker of ours that the store bears, or None. Raises Misconfigured for another's."""
        text = store.marker()
        if text is None:
            return None
        found = Marker.parse(text)
        if found is None or (found.node, found.store) != (self.node, self.name):
            raise Misconfigured(
                f"store:{self.name}: it is not store {self.name} of node {self.node}, its marker says "
                f"{text[:200]!a}: mount the right disk, or correct store.url and store.name"
            )
        return found

    def _why_not(self, found: Marker | None) -> str:
        said = "it has no marker" if found is None else f"its marker says id {found.id}, which is another disk's"
        return (
            f"store:{self.name}: {said}, and we have copies there: mount the right disk, or correct store.url. If "
            "this is meant to be the store from now on, `dpn store mark`: copies that are not in it are lost then"
        )

    # -- what our database knows ---------------------------------------------------------------------------------

    def _expected(self) -> str | None:
        """The id of the marker that was last seen to be there."""
        with reading(self.sessions) as session:
            known = session.get(KnownStore, self.name)
            return known.marker if known and known.marked_at else None

    def _knows_copies(self) -> bool:
        with reading(self.sessions) as session:
            return session.scalar(select(StoredCopy.bag).where(StoredCopy.store == self.name).limit(1)) is not None

    def _proves_a_copy(self, store: Store) -> bool:
        """Whether one of our smallest copies there is what its receipt says."""
        statement = (
            select(StoredCopy.receipt)
            .where(StoredCopy.store == self.name)
            .order_by(StoredCopy.size, StoredCopy.bag)
            .limit(TRIED_COPIES)
        )
        with reading(self.sessions) as session:
            receipts = session.scalars(statement).all()
        for receipt in receipts:
            try:
                store.confirm(Receipt.model_validate(receipt))
            except (StoreMissing, StoreMismatch, StoreCold):
                continue
            return True
        return False

    def _expect(self, marker: str) -> None:
        now = self.clock.now()
        with self.sessions.begin() as session:
            if not insert_missing(session, KnownStore, [{"name": self.name, "marker": marker, "marked_at": now}]):
                session.execute(
                    update(KnownStore).where(KnownStore.name == self.name).values(marker=marker, marked_at=now)
                )

    def _begin_marking(self, expected: str | None) -> Marker | None:
        """The marker that all who mark this store now write alike; None if it was marked since we looked."""
        marker = self._new()
        with self.sessions.begin() as session:
            insert_missing(session, KnownStore, [{"name": self.name, "marker": marker.id, "marked_at": None}])
            known = session.get_one(KnownStore, self.name, with_for_update=True)
            if known.marked_at is not None:
                if known.marker != expected:
                    return None
                known.marker, known.marked_at = marker.id, None
            return Marker(self.node, self.name, known.marker)

    def _mark(self, store: Store, marker: Marker) -> None:
        store.mark(str(marker))
        with self.sessions.begin() as session:
            session.execute(
                update(KnownStore)
                .where(KnownStore.name == self.name, KnownStore.marker == marker.id)
                .values(marked_at=self.clock.now())
            )
