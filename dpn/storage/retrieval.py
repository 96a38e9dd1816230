"""Fetches an object into a file: in parts side by side, each proven as it comes, and none twice after a crash.

Under its name the file is whole, proven and durable, or it is not there. Until then it is `.<name>.partial`, with
a journal beside it; a later call goes on with what of it still has the right digests. Memory is bounded by the
number of threads, whatever the size of the object or of its parts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpn.cancellation import Cancellation
from dpn.errors import NoSpace, StoreMismatch
from dpn.files import DISK_FULL, sync_folder
from dpn.s3.plan import PartPlan, plan_parts, same_plan
from dpn.storage.digests import Digests
from dpn.storage.evidence import Differs, Proven, judge
from dpn.storage.fetch import Fetching, ReadPart, Wanted
from dpn.storage.journal import open_journal
from dpn.storage.stored_object import READ_BYTES, Capabilities, Progress, StoredObject
from models.manifests import Receipt

SHOWN = Capabilities(refuses_wrong_sha256=True, shows_sha256=True, shows_crc64nvme=True)
"""Whatever checksum a store shows of an object, what it hands out must have it."""

Verified = Literal["receipt", "store-checksums"]


@dataclass(frozen=True)
class Retrieved:
    """A file that was fetched, and what it was found equal to."""

    path: Path
    size: int
    sha256: str
    """Of the whole file, lower-case hex: taken from what was written, or the receipt's when every part has been
    found to have the digest that the receipt gives it."""
    verified_by: tuple[Verified, ...]
    """Empty if there was no receipt and the store shows no checksum: then only the caller can judge `sha256`."""
    resumed_bytes: int
    """Of them, how many an earlier call had fetched."""
    stored: StoredObject
    """What was read: its version and entity tag."""


def choose_plan(stored: StoredObject, receipt: Receipt | None, part_size: int) -> PartPlan:
    """The receipt's parts, whose digests are known; else those it says to be stored in; else our own."""
    named = receipt.part_size if receipt else stored.claimed_part_size
    return same_plan(stored.size, named) or plan_parts(stored.size, part_size)


def refuse_other_size(where: str, stored: StoredObject, receipt: Receipt | None) -> None:
    """Raises StoreMismatch for an object that cannot be the receipt's."""
    if receipt and receipt.size != stored.size:
        raise StoreMismatch(f"{where} has {stored.size} bytes instead of {receipt.size}")


def discard_partial(target: Path) -> None:
    """Removes what a broken-off retrieval of `target` left beside it, if anything. Raises OSError."""
    for path in _beside(target):
        path.unlink(missing_ok=True)


def retrieve(
    wanted: Wanted, read: ReadPart, target: Path, *, cancellation: Cancellation, progress: Progress | None
) -> Retrieved:
    """See dpn.storage.store.Store.retrieve."""
    partial, journal_path = _beside(target)
    with _staging_troubles(target), open_journal(journal_path, wanted.identity()) as journal:
        if wanted.receipt and (there := _finished(target, wanted, cancellation)):
            discard_partial(target)
            return there
        if not journal.continues:
            partial.unlink(missing_ok=True)
        with _open(partial) as descriptor:
            _refuse_without_room(descriptor, target.parent, wanted.plan.size)
            os.ftruncate(descriptor, wanted.plan.size)
            fetching = Fetching(wanted, read, descriptor, journal, cancellation, progress)
            digests = fetching.run()
            verified_by = _verify(wanted, digests)
            os.fsync(descriptor)
        partial.replace(target)
        sync_folder(target.parent)
        journal_path.unlink()
    return Retrieved(target, digests.plan.size, digests.sha256, verified_by, fetching.resumed_bytes, wanted.stored)


def _verify(wanted: Wanted, digests: Digests) -> tuple[Verified, ...]:
    """What the file was found equal to. Raises StoreMismatch."""
    verified_by: list[Verified] = []
    if wanted.receipt:
        if digests.sha256 != wanted.receipt.sha256:
            raise StoreMismatch(
                f"{wanted.where} has SHA-256 {digests.sha256} instead of {wanted.receipt.sha256} "
                "(no single part is wrong by the receipt)"
            )
        verified_by.append("receipt")
    judgement = judge(wanted.stored, digests, SHOWN)
    if isinstance(judgement, Differs):
        raise StoreMismatch(f"{wanted.where}: it is not what the store says: {judgement.why}")
    if isinstance(judgement, Proven):
        verified_by.append("store-checksums")
    return tuple(verified_by)


def _finished(target: Path, wanted: Wanted, cancellation: Cancellation) -> Retrieved | None:
    """The target, if an earlier call has finished it: it died before it could say so."""
    receipt = wanted.receipt
    if receipt is None or target.is_symlink() or not target.is_file() or target.stat().st_size != receipt.size:
        return None
    sha256 = hashlib.sha256()
    with target.open("rb", buffering=0) as file:
        while chunk := file.read(READ_BYTES):
            cancellation.check()
            sha256.update(chunk)
    if sha256.hexdigest() != receipt.sha256:
        return None
    sync_folder(target.parent)
    return Retrieved(target, receipt.size, receipt.sha256, ("receipt",), receipt.size, wanted.stored)


def _beside(target: Path) -> tuple[Path, Path]:
    """Where the bytes go until they are whole, and where their journal is."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.partial.journal")


@contextmanager
def _open(partial: Path) -> Iterator[int]:
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_without_room(descriptor: int, folder: Path, size: int) -> None:
    missing = size - 512 * os.fstat(descriptor).st_blocks
    free = shutil.disk_usage(folder).free
    if free < missing:
        raise NoSpace(f"{folder} has {free} bytes left, {missing} are still to come: free or add some")


@contextmanager
def _staging_troubles(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise NoSpace(f"{target.parent}: {error.strerror}: free space there; what came is kept") from error
