"""What every long-term store promises: a copy counts only with a receipt, and a receipt only after proof."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict, Unpack

from dpn.cancellation import Cancellation
from dpn.identifiers import UUID
from dpn.storage.availability import Availability, RestoreRequested
from dpn.storage.retrieval import Retrieved
from dpn.storage.settings import Tier
from dpn.storage.stored_object import READ_BYTES, Capabilities, Progress, StoredObject
from models.manifests import Receipt, UploadState

Checkpoint = Callable[[UploadState | None], None]
Fence = Callable[[], None]

MARKER = ".dpn-store"
"""The file or object that is a store's marker. No key of a bag begins with a dot."""

BAG_SUFFIX = ".tar"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


class PutArguments(TypedDict):
    """What goes with every put and replacement; see `Store.put`."""

    sha256: str
    metadata: Mapping[str, str]
    resume: UploadState | None
    checkpoint: Checkpoint
    cancellation: Cancellation
    fence: NotRequired[Fence]
    progress: NotRequired[Progress | None]


@dataclass(frozen=True)
class Replaced:
    """A good copy that took the place of a bad or missing one."""

    receipt: Receipt
    kept_version: str | None = None
    """The version of the bad object that the bucket's history keeps, if it keeps one: delete it there by hand, or
    let a lifecycle rule do so."""


class Store(Protocol):
    """One long-term store. Safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """The store's name in the settings; its breaker is `store:<name>`."""
        ...

    def probe(self) -> Capabilities:
        """Tries what the store really does, with a tiny object under a prefix of its own, removed afterwards.

        The answer is kept and used by `put`, which probes by itself if nobody did.
        Raises StoreUnavailable, Misconfigured.
        """
        ...

    def put(self, source: Path, key: str, **how: Unpack[PutArguments]) -> Receipt:
        """Stores `source`, whose validated SHA-256 (hex) is given, and returns the proof of the copy.

        Running it again after any crash ends in the same state: an object of the same proven content is answered
        with its receipt and nothing is sent; parts that an upload under way (`resume`) already has are kept.

        `checkpoint` is called with the state of an upload before any part is sent, and with None once that state
        is of no more use. `fence` is called right before the object becomes visible and raises if we may not.
        `progress` gets bytes done and bytes in all.

        The digests are taken from the bytes that are sent. If they are not those of `sha256`, nothing becomes
        visible and StagedChanged is raised. Further: StoreUnavailable, StoreMismatch, StoreMissing, UploadLost,
        StoreConflict (another content under the key; never overwritten), ObjectTooLarge, Misconfigured,
        Interrupted, SourceUnreadable (an OSError).
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """What the store says of an object, or none. Raises StoreUnavailable, Misconfigured."""
        ...

    def confirm(
        self, receipt: Receipt, *, read_back: bool = False, cancellation: Cancellation | None = None
    ) -> Receipt:
        """Proves a copy again from its receipt alone, the way it was proven before; returns the renewed receipt.

        `read_back` reads every byte, whatever the store's checksums say: only that finds rot on its disks.
        Raises StoreMismatch, StoreMissing, StoreCold, StoreUnavailable, Misconfigured, Interrupted.
        """
        ...

    def read(self, key: str, *, chunk_size: int = READ_BYTES) -> Iterator[bytes]:
        """The object's bytes. Raises StoreMissing, StoreCold, StoreUnavailable, Misconfigured."""
        ...

    def availability(self, key: str, *, version_id: str | None = None) -> Availability:
        """Whether the object can be read now, and if not, what it takes. Costs one question, restores nothing.

        A store that keeps files answers "available" at once. Raises StoreUnavailable, Misconfigured.
        """
        ...

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
        """Asks for the object to be readable for `days` days from when it is restored.

        Asks first how it stands: nothing is requested twice or without need. A restore under way is left alone,
        but with `faster` it is asked to go by `tier` (give the `days` that it was begun with, S3 wants them
        unchanged). One that ends sooner than in `days` days is extended, which costs a request, no retrieval.

        Raises StoreMissing, StoreUnavailable, Misconfigured (access denied), Interrupted.
        """
        ...

    def retrieve(
        self,
        key: str,
        target: Path,
        *,
        receipt: Receipt | None = None,
        cancellation: Cancellation,
        progress: Progress | None = None,
    ) -> Retrieved:
        """Fetches the object into `target`, which appears whole, proven and durable, or not at all.

        With a receipt its version is read, and every part must have the receipt's digest; in any case the bytes
        must have what checksum the store shows. All of them are of one version of the object.

        After any failure, or a crash, the same call goes on with what came: it lies beside `target` until then
        (`discard_partial` removes it). `progress` gets bytes done, those that were there included, and bytes in
        all.

        Raises StoreMissing, StoreCold (it was never restored, or that is over; what came is kept),
        StoreMismatch (with the number of the part that is wrong, when the receipt tells), ObjectReplaced,
        StoreUnavailable, Misconfigured, NoSpace, TargetBusy, Interrupted; OSError for a failing staging disk.
        """
        ...

    def open_in_place(self, key: str) -> Path | None:
        """The object as a file to read where it is; None if this store has no files: then `retrieve` it.

        Open it for reading only, and once: a repair may put another file under the name at any time.
        Raises StoreMissing, StoreUnavailable, Misconfigured.
        """
        ...

    def replace(
        self, source: Path, key: str, *, bad: StoredObject | None, **how: Unpack[PutArguments]
    ) -> Replaced:
        """Puts a validated good copy in place of one that was found bad or missing: a repair.

        `bad` is what `head` answered before the object was found to be bad; None if there was none. Only that
        object is replaced: for any other that lies there by now ObjectReplaced is raised, unless it proves to be
        the bag, read back wherever it can be; then it is answered with its receipt and stays. At no time does
        nothing lie under the key, and the bad bytes go only once the good ones are proven.

        All else as in `put`, which never replaces anything. Raises the same, and ObjectReplaced.
        """
        ...

    def abort_abandoned_uploads(self, *, older_than: timedelta, keep: Collection[str]) -> int:
        """Removes what uploads of ours left unfinished that long ago, but for the upload ids in `keep`.

        Returns how many. Raises StoreUnavailable, Misconfigured.
        """
        ...

    def keys(self) -> Iterator[str]:
        """The key of each object that is named as a bag, in no order. Raises StoreUnavailable, Misconfigured."""
        ...

    def marker(self) -> str | None:
        """What the store's marker says, or None if it has none; see dpn.storage.ownership.

        Raises StoreUnavailable, Misconfigured.
        """
        ...

    def mark(self, text: str) -> None:
        """Gives the store this marker, in the place of any it has. Raises as `marker` does."""
        ...


def check_key(key: str) -> str:
    """Returns `key`; raises ValueError if it could leave the store's folder or hide in it."""
    if not _KEY.match(key):
        raise ValueError(f"not a key for an object: {key!r}")
    return key


def is_bag_key(key: str) -> bool:
    """Whether an object of this key may be a bag: it is named `<uuid>.tar`."""
    return key.endswith(BAG_SUFFIX) and UUID.match(key.removesuffix(BAG_SUFFIX)) is not None
