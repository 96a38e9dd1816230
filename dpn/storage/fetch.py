"""Fills a file with an object's parts, several at a time, while its digests are taken from what comes."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, StoreMismatch
from dpn.s3.digests import base64_of
from dpn.s3.plan import Part, PartPlan
from dpn.storage.digests import Crc, Digests
from dpn.storage.journal import Journal
from dpn.storage.stored_object import READ_BYTES, Progress, StoredObject
from models.manifests import Receipt

ReadPart = Callable[[Part, Cancellation], Iterator[bytes | memoryview]]
"""Reads all of a part, piece by piece. Raises like Store.retrieve."""
Combine = Callable[[int, int, int], int]
"""The CRC of two pieces from that of each and the length of the second."""

TRIES_OF_A_PART = 2
"""Once more after a wrong digest: the wire may have damaged it. Wrong twice, it is wrong in the store."""
AHEAD = 2
"""Parts under way for each thread, so that none waits while the whole file's digest catches up."""
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Wanted:
    """One object as it is to be fetched."""

    where: str
    """The object's URL, for messages."""
    stored: StoredObject
    receipt: Receipt | None
    plan: PartPlan
    threads: int
    crc: Crc | None = None
    combine: Combine | None = None

    def identity(self) -> dict[str, object]:
        """What must be the same for parts that are there to be of use."""
        plan: dict[str, object] = {"size": self.plan.size, "part_size": self.plan.part_size}
        if self.receipt:
            return {**plan, "sha256": self.receipt.sha256}
        seen = self.stored
        return {
            **plan,
            "etag": seen.etag,
            "version_id": seen.version_id,
            "modified_at": seen.modified_at.isoformat(),
        }


class Fetching:
    """One partial file being filled by several threads; the caller's follows with the whole file's digest."""

    def __init__(
        self,
        wanted: Wanted,
        read: ReadPart,
        descriptor: int,
        journal: Journal,
        cancellation: Cancellation,
        progress: Progress | None,
    ) -> None:
        self._wanted = wanted
        self._plan = wanted.plan
        self._read = read
        self._descriptor = descriptor
        self._journal = journal
        self._cancellation = cancellation
        self._progress = progress
        self._stop = Cancellation()
        self._under_way: deque[Future[_Fetched]] = deque()
        self._counting = threading.Lock()
        self._arrived = 0
        self._told = -1
        self.resumed_bytes = 0

    def run(self) -> Digests:
        """Returns the digests of what is in the file once all of it is there.

        The whole's is the receipt's where each part was found to have the receipt's.
        """
        pool = ThreadPoolExecutor(self._wanted.threads, thread_name_prefix="retrieve")
        known = self._plan.whole or self._parts_prove_the_whole
        part_sha256: list[str] = []
        whole, crc = hashlib.sha256(), 0
        try:
            for fetched in self._in_order(pool):
                part_sha256.append(fetched.sha256)
                if self._wanted.combine:
                    crc = self._wanted.combine(crc, fetched.crc, fetched.part.size)
                if not known:
                    for buffer in self._written(fetched.part, self._cancellation.check):
                        whole.update(buffer)
        finally:
            self._end(pool)
        self._report()
        return Digests(
            plan=self._plan,
            sha256=self._whole_sha256(part_sha256) if known else whole.hexdigest(),
            part_sha256=tuple(part_sha256),
            crc64nvme=base64_of(f"{crc:016x}") if self._wanted.combine else None,
        )

    def _in_order(self, pool: ThreadPoolExecutor) -> Iterator[_Fetched]:
        parts = self._plan.parts()
        under_way = self._under_way
        under_way.extend(pool.submit(self._obtain, part) for part in islice(parts, AHEAD * self._wanted.threads))
        while under_way:
            yield self._first(under_way)
            under_way.extend(pool.submit(self._obtain, part) for part in islice(parts, 1))

    def _end(self, pool: ThreadPoolExecutor) -> None:
        """After a failure, parts that are on their way may arrive: they were paid for. A stop waits for none."""
        pool.shutdown(wait=False, cancel_futures=True)
        pending = {future for future in self._under_way if not future.done()}
        while pending and not self._cancellation.requested:
            pending = wait(pending, timeout=POLL_SECONDS).not_done
        self._stop.cancel(Interrupted("the retrieval was broken off"))
        pool.shutdown()

    def _first(self, under_way: deque[Future[_Fetched]]) -> _Fetched:
        """Waits for the first of the parts under way; raises what stopped any of them."""
        while True:
            self._cancellation.check()
            self._report()
            for future in under_way:
                if future.done() and (error := future.exception()):
                    raise error
            if under_way[0].done():
                return under_way.popleft().result()
            wait([under_way[0]], timeout=POLL_SECONDS)

    def _obtain(self, part: Part) -> _Fetched:
        """The part, from the file if it is there already."""
        claimed = self._journal.claims.get(part.number)
        if claimed is not None:
            kept = self._digest(part, self._written(part, self._stop.check))
            if kept.sha256 == (self._expected(part) or claimed):
                with self._counting:
                    self._arrived += part.size
                    self.resumed_bytes += part.size
                return kept
        return self._fetch(part)

    def _fetch(self, part: Part) -> _Fetched:
        expected = self._expected(part)
        for _ in range(TRIES_OF_A_PART):
            fetched = self._digest(part, self._arriving(part))
            if expected in (None, fetched.sha256):
                self._journal.add(part.number, fetched.sha256)
                return fetched
            with self._counting:
                self._arrived -= part.size
        raise StoreMismatch(
            f"{self._wanted.where}: part {part.number} of {self._plan.count} (bytes {part.offset} to "
            f"{part.offset + part.size}) has SHA-256 {fetched.sha256} instead of {expected}"
        )

    def _arriving(self, part: Part) -> Iterator[bytes | memoryview]:
        """The part's bytes as they come from the store, written to the file."""
        offset = part.offset
        for buffer in self._read(part, self._stop):
            _write(self._descriptor, buffer, offset)
            offset += len(buffer)
            with self._counting:
                self._arrived += len(buffer)
            yield buffer

    def _written(self, part: Part, check: Callable[[], None]) -> Iterator[memoryview]:
        """The part's bytes as they are in the file; each buffer is valid until the next."""
        whole = memoryview(bytearray(min(READ_BYTES, max(1, part.size))))
        done = 0
        while done < part.size:
            check()
            got = os.preadv(self._descriptor, [whole[: part.size - done]], part.offset + done)
            if got == 0:
                raise OSError(errno.EIO, f"the file that {self._wanted.where} is fetched into was cut short")
            yield whole[:got]
            done += got

    def _digest(self, part: Part, buffers: Iterator[bytes | memoryview] | Iterator[memoryview]) -> _Fetched:
        sha256, crc = hashlib.sha256(), 0
        for buffer in buffers:
            sha256.update(buffer)
            if self._wanted.crc:
                crc = self._wanted.crc(memoryview(buffer), crc)
        return _Fetched(part, sha256.hexdigest(), crc)

    def _expected(self, part: Part) -> str | None:
        """The part's digest by the receipt, if it was made in these parts."""
        receipt = self._wanted.receipt
        return receipt.part_sha256[part.number - 1] if receipt and self._parts_prove_the_whole else None

    @property
    def _parts_prove_the_whole(self) -> bool:
        """Whether the receipt tells each part's digest. It took them and the whole's from the same bytes: parts
        that have theirs are the whole, and to hash everything once more would prove nothing new.
        """
        receipt = self._wanted.receipt
        return (
            receipt is not None
            and receipt.part_size == self._plan.part_size
            and len(receipt.part_sha256) == self._plan.count
        )

    def _whole_sha256(self, part_sha256: list[str]) -> str:
        receipt = self._wanted.receipt
        return part_sha256[0] if self._plan.whole or receipt is None else receipt.sha256

    def _report(self) -> None:
        if self._progress and self._arrived > self._told:
            self._told = self._arrived
            self._progress(self._told, self._plan.size)


@dataclass(frozen=True)
class _Fetched:
    """A part that is in the file, with its digests."""

    part: Part
    sha256: str
    crc: int


def _write(descriptor: int, buffer: bytes | memoryview, offset: int) -> None:
    view = memoryview(buffer)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]
