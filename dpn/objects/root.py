"""What every root promises: objects are read as they were looked at, and appear whole or not at all.

How a root fails, each a type of its own, so that a job can tell what is wrong, and where:

| error | means |
| --- | --- |
| StoreMissing | there is no such object to be read |
| SourceChanged | it is not, or no longer, the one that was looked at |
| ObjectExists | something lies under the key that is not to be replaced |
| StoreFull | there is no room |
| AccessRefused | who we are may not do this |
| StoreMismatch | the bytes are not those that were expected, or not those that were sent |
| StoreTimeout | no answer in time |
| StoreUnavailable, of other kinds | the root cannot be reached, or talks nonsense |
| KeyRefused, ObjectTooLarge, Misconfigured of other kinds | this can never work as it was asked for |

Besides, Interrupted comes out of everything that takes long, within a piece of at most 1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol

from dpn.cancellation import Cancellation

NO_HASHES: Mapping[str, str] = MappingProxyType({})


class ObjectInfo(NamedTuple):
    """What a root says of one object, without reading it."""

    key: str
    size: int
    modified_at: datetime
    """When its content was made or last changed, as far as the root knows."""
    tag: str | None
    """Tells this content from any other under the key: a bucket's entity tag; of a file inode, size and time."""
    version: str | None = None
    """Where the root keeps earlier contents of a key, too."""
    hashes: Mapping[str, str] = NO_HASHES
    """By algorithm, in hexadecimal, of the whole content, where the root knows them. A listing knows none."""


class Skipped(NamedTuple):
    """Something that a walk came by and left out."""

    name: str
    """Fit for a log; of no use as a key."""
    why: str


@dataclass(frozen=True)
class OpenObject:
    """An object that is being read. `chunks` can be gone through once."""

    info: ObjectInfo
    """Of the whole object, not of the range that is read."""
    chunks: Iterator[bytes]


class WrittenObject(NamedTuple):
    """An object as it was just written."""

    key: str
    size: int
    tag: str | None
    version: str | None
    hashes: Mapping[str, str]
    """SHA-256 and what else was asked for, of the bytes that were sent."""
    checked: bool
    """Whether the root itself compared a checksum of every byte. Else only reading it back proves anything."""


@dataclass(frozen=True)
class SentPart:
    """A part of an upload that the root took."""

    sha256: str
    """In hexadecimal."""
    etag: str


@dataclass(frozen=True)
class PartialWrite:
    """A write under way, for whoever may have to take it up again after a kill: kept by the caller as it is."""

    id: str
    """What the root calls it."""
    part_size: int = 0
    """In bytes; 0 where a write begins anew."""
    parts: Mapping[int, SentPart] = field(default_factory=dict)
    """By number, from 1 on."""


Checkpoint = Callable[[PartialWrite | None], None]
"""Is told of a large write once it begins and after each part, and of its end by None; called by the thread that
writes. What it raises ends the write."""
Tell = Callable[[Skipped], None]


@dataclass(frozen=True)
class WriteOptions:
    """How one object is to be written."""

    if_absent: bool = False
    """Nothing may be replaced."""
    if_tag: str | None = None
    """Only the object with this tag may be replaced, and it must be there."""
    modified_at: datetime | None = None
    """When the content was made, kept where the root can keep it."""
    algorithms: tuple[str, ...] = ()
    """Hashes to reckon beside SHA-256: `md5`, `sha1`, `sha512`, `crc32`, `crc32c`, `crc64nvme`."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """By algorithm, in hexadecimal: what the bytes must have. Else nothing becomes visible."""
    resume: PartialWrite | None = None
    """What an earlier try of this very write last told `checkpoint`."""
    checkpoint: Checkpoint = lambda _: None
    cancellation: Cancellation = field(default_factory=Cancellation)


class Root(Protocol):
    """One root. Safe to use from several threads at once. Nothing is asked of it before the first call.

    A key that no object may have is refused everywhere (KeyRefused, see dpn.objects.keys).
    """

    @property
    def name(self) -> str:
        """Its name in the settings."""
        ...

    def walk(
        self,
        prefix: str = "",
        *,
        after: str | None = None,
        skipped: Tell = lambda _: None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[ObjectInfo]:
        """Every object below the folder `prefix`, in the order of keys as bytes of UTF-8, from behind `after` on.

        Memory is bounded by what one folder holds, or a page of a listing. `skipped` is told of what is no object
        that could be read by its key: links, devices, names that are no keys. Nothing below a prefix that is not
        there. Raises StoreUnavailable, Misconfigured: never ends early.
        """
        ...

    def head(self, key: str, cancellation: Cancellation | None = None) -> ObjectInfo | None:
        """What the root says of an object; None if there is none. Raises StoreUnavailable, Misconfigured."""
        ...

    def open(
        self,
        key: str,
        *,
        tag: str | None = None,
        start: int = 0,
        size: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> AbstractContextManager[OpenObject]:
        """An object to be read, or `size` bytes of it from `start` on; `size` is at least 1.

        What is read is of one content from the first byte to the last, that with `tag` if one is given. Raises,
        also while it is read: SourceChanged, StoreMissing, StoreCold, StoreMismatch, StoreUnavailable,
        Misconfigured, Interrupted.
        """
        ...

    def write(self, key: str, chunks: Iterable[bytes], size: int, how: WriteOptions) -> WrittenObject:
        """Makes the bytes of `chunks`, which must be `size`, the object under `key`: whole, and on disk, or not.

        A write that is taken up again (`how.resume`) reads all of `chunks`, and sends only what the root lacks.
        One that ends with Interrupted or StoreUnavailable may be taken up again, or must be `abandon`ed.

        Raises ObjectExists, SourceChanged (there are more or fewer bytes), StoreMismatch (they are not what was
        expected), StoreFull, StoreUnavailable, Misconfigured, Interrupted, and what `chunks` raises.
        """
        ...

    def abandon(self, key: str, partial: PartialWrite) -> None:
        """Removes what a write left that nobody will take up again; fine if it is gone. Raises StoreUnavailable,
        Misconfigured."""
        ...

    def remove(self, key: str, *, tag: str | None = None, cancellation: Cancellation | None = None) -> bool:
        """Removes the object, if it is the one with `tag` where one is given; whether there was one.

        A file that is exchanged at that very moment may be removed in its place; where the bucket's server knows
        conditions, no object is. Raises SourceChanged, StoreUnavailable, Misconfigured.
        """
        ...
