"""Copies in our store that our database does not know of (it was lost, or is an old backup) become known again.

Nothing is taken on a name, or on what lies beside an object: every byte is read, and the bag must be whole and the
one that our registry has the digest of. Done again, it goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from sqlalchemy import select

from dpn.audit.trail import Event, EventType, record
from dpn.bags.validation.profiles import Profile
from dpn.cancellation import Cancellation
from dpn.cli.node import operator
from dpn.cli.restore.fetch import registered
from dpn.cli.thaw import request_thaw
from dpn.database import reading
from dpn.errors import Misconfigured, NoSpace, PermanentError, StoreMismatch, StoreMissing, TransientError
from dpn.fixity.copies import remember
from dpn.node import OpenNode
from dpn.recovery.arrival import Judged, judge_received
from dpn.storage.errors import ObjectReplaced
from dpn.storage.retrieval import discard_partial
from dpn.storage.store import BAG_SUFFIX, Store
from dpn.storage.stored_object import CLAIMED_SHA256
from models.manifests import Receipt
from models.preservation import StoredCopy

KEYS_AT_ONCE = 500
"""Looked up in the database in one go."""


@dataclass(frozen=True)
class Adoption:
    """What came of one object."""

    bag: str
    state: Literal["adopted", "refused", "cold"]
    why: str


@dataclass(frozen=True)
class Adopting:
    """How objects are read: in place, or one at a time in the folder `scratch`. With `thaw`, cold ones are asked
    out of cold storage, which is billed."""

    node: OpenNode
    store: Store
    profile: Profile | None
    cancellation: Cancellation
    scratch: Path | None = None
    thaw: bool = False

    def unknown_bags(self) -> Iterator[str]:
        """The bags that the store has an object for, and of which no copy is known."""
        keys = self.store.keys()
        while some := [key.removesuffix(BAG_SUFFIX) for key in islice(keys, KEYS_AT_ONCE)]:
            with reading(self.node.sessions) as session:
                known = set(session.scalars(select(StoredCopy.bag).where(StoredCopy.bag.in_(some))))
            yield from (bag for bag in some if bag not in known)

    def adopt(self, bag: str) -> Adoption:
        """Makes the copy known, with a receipt, if it is proven to be the bag.

        Raises Misconfigured, StoreUnavailable: then no other could be adopted either; Interrupted.
        """
        try:
            _, digest = registered(self.node, bag)
        except Misconfigured as error:
            return Adoption(bag, "refused", str(error))
        key = f"{bag}{BAG_SUFFIX}"
        try:
            if (cold := self._cold(bag, key)) is not None:
                return cold
            with self._readable(key) as path:
                claimed = self._claimed_sha256(key)
                judged = self._judge(path, bag, digest, claimed)
                if problems := [*judged.problems, *_changed(judged, claimed)]:
                    return Adoption(bag, "refused", "; ".join(problems))
                receipt = self._receipt(path, key, judged)
        except (TransientError, PermanentError, NoSpace, OSError) as error:
            return Adoption(bag, "refused", str(error))
        self._enter(bag, receipt, judged)
        return Adoption(bag, "adopted", f"{receipt.size} bytes, SHA-256 {receipt.sha256}")

    def _cold(self, bag: str, key: str) -> Adoption | None:
        found = self.store.availability(key)
        if found.stored is None:
            raise StoreMissing(found.why)
        if found.state == "available":
            return None
        if not self.thaw:
            return Adoption(bag, "cold", f"{found.why}: --thaw asks for it (billed)")
        why = found.why
        if found.state == "cold":
            size, cancellation = found.stored.size, self.cancellation
            why = request_thaw(self.node, self.store, key, bag=bag, size=size, cancellation=cancellation).why
        return Adoption(bag, "cold", f"{why}: the same command again, once it can be read")

    @contextmanager
    def _readable(self, key: str) -> Iterator[Path]:
        """The object as a file: where it lies, or fetched for as long as it is looked at."""
        in_place = self.store.open_in_place(key)
        if in_place is not None:
            yield in_place
            return
        if self.scratch is None:
            raise Misconfigured("bags of this store are read in a folder, one at a time: give --scratch DIR")
        target = self.scratch / key
        try:
            self.store.retrieve(key, target, cancellation=self.cancellation)
        except StoreMismatch:
            discard_partial(target)
            raise
        try:
            yield target
        finally:
            target.unlink(missing_ok=True)

    def _claimed_sha256(self, key: str) -> str | None:
        """What was noted beside the object when it was stored: it adds to a proof, and stands for none."""
        found = self.store.head(key)
        return None if found is None else found.metadata.get(CLAIMED_SHA256)

    def _judge(self, path: Path, bag: str, digest: str | None, claimed: str | None) -> Judged:
        """Whether it is the bag."""
        return judge_received(
            path,
            bag=bag,
            size=None,
            tag_manifest_sha256=digest,
            profile=self.profile,
            validation=self.node.settings.validation,
            cancellation=self.cancellation,
            known_sha256=claimed,
        )

    def _receipt(self, path: Path, key: str, judged: Judged) -> Receipt:
        """As for a bag that is stored again and is there already: with the bytes that were judged."""

        def only_what_is_there() -> None:
            if self.store.head(key) is None:
                raise ObjectReplaced(f"{key} went while it was looked at")

        return self.store.put(
            path,
            key,
            sha256=judged.validation.sha256,
            metadata={},
            resume=None,
            checkpoint=lambda _: None,
            cancellation=self.cancellation,
            fence=only_what_is_there,
        )

    def _enter(self, bag: str, receipt: Receipt, judged: Judged) -> None:
        node = self.node
        detail = {
            "url": receipt.url,
            "size": receipt.size,
            "sha256": receipt.sha256,
            "confirmed_by": receipt.confirmed_by,
            "validation": judged.validation.model_dump(mode="json"),
        }
        with node.sessions.begin() as session:
            remember(
                session,
                receipt,
                bag=bag,
                tag_manifest_sha256=judged.validation.tag_manifest_sha256,
                item_id=None,
                every_days=node.settings.fixity.every_days,
            )
            event = Event(EventType.COPY_ADOPTED, bag, "success", detail)
            record(session, [event], agent=operator(), at=node.clock.now())


def _changed(judged: Judged, claimed: str | None) -> list[str]:
    has = judged.validation.sha256
    if claimed in (None, has):
        return []
    stored = f"it has SHA-256 {has}; when it was stored, as is noted beside it, {str(claimed)[:64]!a}"
    return [f"{stored}: it has changed, or the note is wrong (remove that, if the bag shall be known as it is)"]
