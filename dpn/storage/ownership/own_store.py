"""A store of ours: it takes and judges nothing unless it bears our marker (Misconfigured)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Unpack

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import StoreMismatch, StoreMissing, StoreUnavailable, TransientError
from dpn.storage.availability import Availability, RestoreRequested
from dpn.storage.ownership.marker import Ownership
from dpn.storage.retrieval import Retrieved
from dpn.storage.settings import StoreSettings, Tier
from dpn.storage.store import PutArguments, Replaced, Store
from dpn.storage.stored_object import READ_BYTES, Capabilities, Progress, StoredObject
from dpn.storage.stores import open_store
from models.manifests import Receipt


def open_own_store(settings: StoreSettings, *, node: str, sessions: Sessions, clock: Clock) -> Store:
    """The store of `node` that the settings name; it is opened when it is first asked."""
    opened = partial(open_store, settings, clock=clock)
    return OwnStore(opened, settings.name, Ownership(node, settings.name, sessions, clock))


class OwnStore:
    """See dpn.storage.store.Store. Every call raises Misconfigured, too, where the store is not ours."""

    def __init__(self, opened: Callable[[], Store], name: str, ownership: Ownership) -> None:
        self._opened = opened
        self._ownership = ownership
        self.name = name

    @cached_property
    def _store(self) -> Store:
        return self._opened()  # at first use: a worker at rest does without botocore's 25 MB

    def probe(self) -> Capabilities:
        self._require()
        return self._store.probe()

    def put(self, source: Path, key: str, **how: Unpack[PutArguments]) -> Receipt:
        with self._ours() as store:
            return store.put(source, key, **self._guarded(how))

    def replace(
        self, source: Path, key: str, *, bad: StoredObject | None, **how: Unpack[PutArguments]
    ) -> Replaced:
        with self._ours() as store:
            return store.replace(source, key, bad=bad, **self._guarded(how))

    def head(self, key: str) -> StoredObject | None:
        with self._ours() as store:
            found = store.head(key)
        if found is None:
            self._require()
        return found

    def confirm(
        self, receipt: Receipt, *, read_back: bool = False, cancellation: Cancellation | None = None
    ) -> Receipt:
        with self._ours() as store:
            return store.confirm(receipt, read_back=read_back, cancellation=cancellation)

    def read(self, key: str, *, chunk_size: int = READ_BYTES) -> Iterator[bytes]:
        with self._ours() as store:
            yield from store.read(key, chunk_size=chunk_size)

    def availability(self, key: str, *, version_id: str | None = None) -> Availability:
        with self._ours() as store:
            found = store.availability(key, version_id=version_id)
        if found.state == "missing":
            self._require()
        return found

    def request_restore(
        self,
        key: str,
        *,
        tier: Tier,
        days: int,
        faster: bool = False,
        version_id: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> RestoreRequested:
        with self._ours() as store:
            return store.request_restore(
                key, tier=tier, days=days, faster=faster, version_id=version_id, cancellation=cancellation
            )

    def retrieve(
        self,
        key: str,
        target: Path,
        *,
        receipt: Receipt | None = None,
        cancellation: Cancellation,
        progress: Progress | None = None,
    ) -> Retrieved:
        with self._ours() as store:
            return store.retrieve(key, target, receipt=receipt, cancellation=cancellation, progress=progress)

    def open_in_place(self, key: str) -> Path | None:
        with self._ours() as store:
            return store.open_in_place(key)

    def abort_abandoned_uploads(self, *, older_than: timedelta, keep: Collection[str]) -> int:
        with self._ours() as store:
            return store.abort_abandoned_uploads(older_than=older_than, keep=keep)

    def keys(self) -> Iterator[str]:
        with self._ours() as store:
            yield from store.keys()

    def marker(self) -> str | None:
        return self._store.marker()

    def mark(self, text: str) -> None:
        self._store.mark(text)

    def _require(self) -> None:
        try:
            self._ownership.require(self._store)
        except TransientError as error:
            # Of no bag: that the store does not tell whose it is is no failure of whatever is to be stored.
            raise StoreUnavailable(f"store:{self.name}", f"whose it is cannot be seen: {error}") from error

    @contextmanager
    def _ours(self) -> Iterator[Store]:
        """The store: ours when it is asked, and ours still when it speaks against a copy."""
        self._require()
        try:
            yield self._store
        except (StoreMissing, StoreMismatch):
            self._require()
            raise

    def _guarded(self, how: PutArguments) -> PutArguments:
        """The disk may have gone while the bag was written: asked again right before it becomes visible."""
        fence = how.get("fence")

        def still_ours() -> None:
            self._require()
            if fence is not None:
                fence()

        return {**how, "fence": still_ours}
