"""Copies one object between two roots by our own means: read once, written while it is read, proven as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import ObjectExists, SourceChanged, StoreMismatch, StoreMissing
from dpn.jobs.rules import Overwrite, Verdict, Verification, differing_hash, judge
from dpn.objects.keys import shown
from dpn.objects.root import (
    Checkpoint,
    ObjectInfo,
    PartialWrite,
    Root,
    WriteOptions,
    WrittenObject,
)

Proof = Literal["nothing", "size", "store-checksum", "read-back"]


@dataclass(frozen=True)
class Wish:
    """One object to be copied, and how."""

    source: str
    target: str
    overwrite: Overwrite = Overwrite.IF_DIFFERENT
    verify: Verification = Verification.FULL_READ
    size: int | None = None
    """In bytes, as whoever asked expects it."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """By algorithm, in hexadecimal: what the content must have."""
    resume: PartialWrite | None = None
    """What an earlier try of this wish last told `checkpoint`."""
    checkpoint: Checkpoint = lambda _: None
    progress: Callable[[int], None] = lambda _: None
    """Is told of each piece, in bytes, that was read at the source."""
    cancellation: Cancellation = field(default_factory=Cancellation)


@dataclass(frozen=True)
class CopyReceipt:
    """What is known of a copy, and by what."""

    root: str
    key: str
    size: int
    sha256: str | None
    """None for what was there already and not read."""
    etag: str | None
    version: str | None
    confirmed_by: Proof
    confirmed_at: datetime
    copied: bool
    """Whether it was copied now; else it was there."""


def copy_object(source: Root, target: Root, wish: Wish, clock: Clock) -> CopyReceipt:
    """Copies the object unless it is there. Whole and confirmed as `wish.verify` says, or the error says why not.

    What is at the target is as it was if the source is missing, changed while it was read or is not what was
    expected. A copy that was written and then found wrong stays until the next try replaces it.

    Raises what roots raise (dpn.objects.root), and StoreMismatch for a copy that is not what was read.
    """
    info = source.head(wish.source, wish.cancellation)
    if info is None:
        raise StoreMissing(f"{source.name} has no object {shown(wish.source)}")
    if wish.size is not None and wish.size != info.size:
        raise SourceChanged(
            f"{shown(wish.source)} has {info.size} bytes, the request says {wish.size}: correct the request"
        )
    there = target.head(wish.target, wish.cancellation)
    match judge(info, there, wish.overwrite):
        case Verdict.SKIP if there is not None:
            return _found(target, info, there, clock)
        case Verdict.REFUSE:
            raise ObjectExists(f"{target.name} has another object at {shown(wish.target)}, and may not replace it")
    written = _write(source, target, wish, info, there)
    return _confirm(target, wish, info, written, clock)


def _write(source: Root, target: Root, wish: Wish, info: ObjectInfo, there: ObjectInfo | None) -> WrittenObject:
    options = WriteOptions(
        if_absent=there is None and wish.overwrite is not Overwrite.ALWAYS,
        modified_at=info.modified_at,
        algorithms=tuple(info.hashes),
        expected={**info.hashes, **wish.expected},
        resume=wish.resume,
        checkpoint=wish.checkpoint,
        cancellation=wish.cancellation,
    )
    with source.open(wish.source, tag=info.tag, cancellation=wish.cancellation) as opened:
        return target.write(wish.target, _counted(opened.chunks, wish.progress), info.size, options)


def _counted(chunks: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        progress(len(chunk))


def _confirm(target: Root, wish: Wish, info: ObjectInfo, written: WrittenObject, clock: Clock) -> CopyReceipt:
    sha256 = written.hashes["sha256"]
    proof = _proven(target, wish, info, written)
    return CopyReceipt(
        root=target.name,
        key=written.key,
        size=written.size,
        sha256=sha256,
        etag=written.tag,
        version=written.version,
        confirmed_by=proof,
        confirmed_at=clock.now(),
        copied=True,
    )


def _proven(target: Root, wish: Wish, info: ObjectInfo, written: WrittenObject) -> Proof:
    """By what the copy is confirmed. Raises StoreMismatch, StoreMissing if it is not."""
    if wish.verify is Verification.NONE:
        return "nothing"
    if wish.verify is Verification.FULL_READ or (wish.verify is Verification.CHECKSUM and not written.checked):
        # Where the target compares no checksum, reading it back is the only proof that there is.
        _require_read_back(target, wish, written)
        return "read-back"
    if wish.verify is Verification.CHECKSUM:
        return "store-checksum"
    found = target.head(wish.target, wish.cancellation)
    if found is None or found.size != info.size:
        size = "is not there" if found is None else f"has {found.size} bytes instead of {info.size}"
        raise StoreMismatch(f"{target.name}: {shown(wish.target)} {size}")
    if (name := differing_hash(written.hashes, found.hashes)) is not None:
        raise StoreMismatch(f"{target.name}: {shown(wish.target)} has another {name} than what was read")
    return "size"


def _require_read_back(target: Root, wish: Wish, written: WrittenObject) -> None:
    sha256 = hashlib.sha256()
    with target.open(wish.target, tag=written.tag, cancellation=wish.cancellation) as opened:
        for chunk in opened.chunks:
            wish.cancellation.check()
            sha256.update(chunk)
    if sha256.hexdigest() != written.hashes["sha256"]:
        raise StoreMismatch(
            f"{target.name}: {shown(wish.target)} read back has SHA-256 {sha256.hexdigest()} instead of "
            f"{written.hashes['sha256']}"
        )


def _found(target: Root, info: ObjectInfo, there: ObjectInfo, clock: Clock) -> CopyReceipt:
    return CopyReceipt(
        root=target.name,
        key=there.key,
        size=there.size,
        sha256=there.hashes.get("sha256"),
        etag=there.tag,
        version=there.version,
        confirmed_by="store-checksum" if info.hashes.keys() & there.hashes.keys() else "size",
        confirmed_at=clock.now(),
        copied=False,
    )
