"""Fetches every object of a listing, several at once, each into a file of its own name; goes on after a kill.

A file has its final name once it is whole, and what the server says of the whole was held against it, however
many answers its bytes came in. Until then they lie in a partial file, which the next attempt continues. The entity
tag goes along with every request: an object that was replaced is noticed, never mixed.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from dpn.bags.hash_threads import OnProgress
from dpn.cancellation import Cancellation
from dpn.errors import SourceChanged, StoreUnavailable
from dpn.files import make_durable
from dpn.packaging.errors import FetchDamaged
from dpn.packaging.s3.connection import S3Source
from dpn.packaging.s3.listing import Listing, Object
from dpn.s3.checksums import OURS, RunningDigests, claimed

READ_BYTES = 256 << 10
TICK_SECONDS = 0.2
NOTED_AT_ONCE = 200

Checksums = Mapping[str, str]


class Fetched(NamedTuple):
    name: bytes
    checksums: Checksums


@dataclass(slots=True)
class _Known:
    """Of an object that is being fetched: what is claimed of it, and the digests of the bytes that came."""

    claims: Checksums | None = None
    digests: RunningDigests | None = None


class Fetch:
    """One fetching of a listing into `objects`, with partial files in `partial`."""

    def __init__(
        self,
        source: S3Source,
        objects: Path,
        partial: Path,
        *,
        threads: int,
        etags_are_checksums: bool,
        progress: OnProgress | None,
        cancellation: Cancellation,
    ) -> None:
        self._source = source
        self._objects = os.fsencode(objects)
        self._partial = partial
        self._threads = threads
        self._etags_are_checksums = etags_are_checksums
        self._progress = progress
        self._cancellation = cancellation
        self._stopping = threading.Event()
        self._tasks: queue.Queue[Object | None] = queue.Queue(2 * threads)
        self._results: queue.Queue[Fetched | BaseException] = queue.Queue()
        self._lock = threading.Lock()
        self._bytes = 0

    def run(self, listing: Listing) -> None:
        """Fetches what is not there yet. Raises SourceChanged, StoreUnavailable, FetchDamaged, Misconfigured,
        Interrupted, OSError. The threads end by themselves, at the latest when the server's answer times out, and
        write nothing more."""
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._threads)]
        for worker in workers:
            worker.start()
        try:
            self._hand_out(listing)
        finally:
            with self._lock:  # from here on no file gets a name: the folder may be removed
                self._stopping.set()
            for _ in workers:
                self._put_nowait(None)

    def _hand_out(self, listing: Listing) -> None:
        todo, under_way, files = self._missing(listing), 0, 0
        noted: list[Fetched] = []
        waiting = next(todo, None)
        while waiting is not None or under_way:
            self._cancellation.check()
            while waiting is not None and self._put_nowait(waiting):
                under_way += 1
                waiting = next(todo, None)
            try:
                result = self._results.get(timeout=TICK_SECONDS)
            except queue.Empty:
                self._tell(files)
                continue
            if isinstance(result, BaseException):
                listing.note_checksums(noted)
                raise result
            under_way, files = under_way - 1, files + 1
            noted.append(result)
            if len(noted) >= NOTED_AT_ONCE:
                listing.note_checksums(noted)
                noted = []
            self._tell(files)
        listing.note_checksums(noted)

    def _missing(self, listing: Listing) -> Iterator[Object]:
        for one in listing.objects():
            if OURS not in (one.checksums or {}) or not self._is_there(one):
                yield one

    def _work(self) -> None:
        while not self._stopping.is_set() and (one := self._tasks.get()) is not None:
            try:
                self._results.put(Fetched(one.name, self._fetch(one)))
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that hands out
                self._results.put(error)

    def _fetch(self, one: Object) -> Checksums:
        """Tried again while the server is away or sends less than it should, from where it stopped."""
        known, patience = _Known(), self._source.connection.patience(one.size)
        while True:
            self._check()
            try:
                return self._fetch_once(one, known)
            except (StoreUnavailable, FetchDamaged) as error:
                self._stopping.wait(patience.wait_seconds(self._size_of_partial(one), error))

    def _fetch_once(self, one: Object, known: _Known) -> Checksums:
        partial = self._path_of_partial(one)
        if self._is_there(one):  # named by an attempt that died before it was noted: nothing is known of it
            with self._naming():
                os.replace(self._path(one), partial)  # noqa: PTH105 - names are bytes
        start = self._size_of_partial(one)
        if start > one.size:
            partial.unlink()
            start = 0
        if start:
            self._catch_up(one, partial, start, known)
        if start < one.size or not start:
            self._receive(one, partial, start, known)
        found = self._proven(one, partial, known)
        self._name(one, partial, durably=not known.claims)
        return {OURS: found[OURS]}

    def _catch_up(self, one: Object, partial: Path, start: int, known: _Known) -> None:
        """Reads what lies there of another attempt; what came in this one was reckoned when it came."""
        if known.claims is None:
            known.claims = self._claims(self._source.head(one.name.decode(), one.etag, self._cancellation), one)
        if known.digests is None or known.digests.size != start:
            known.digests = RunningDigests(known.claims)
            with partial.open("rb") as file:
                while known.digests.size < start and (
                    data := file.read(min(READ_BYTES, start - known.digests.size))
                ):
                    self._check()
                    known.digests.update(data)

    def _receive(self, one: Object, partial: Path, start: int, known: _Known) -> None:
        """Appends to the partial file what is missing of it."""
        key = one.name.decode()
        answer = self._source.get(key, one.etag, start)
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        begins = start if status == 206 else 0
        if status == 206 and not str(answer.get("ContentRange", "")).startswith(f"bytes {start}-"):
            raise self._source.connection.nonsense(f"{key}: it answers with another range than asked for")
        if begins + self._source.connection.given(answer, "ContentLength") != one.size:
            raise SourceChanged(f"{self._source.location}{key} is of another size than listed: it is fetched anew")
        if known.claims is None:
            known.claims = self._claims(answer, one)
        if known.digests is None or not begins:
            known.digests = RunningDigests(known.claims)
        with self._naming():
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        body = self._source.body(answer, one.size - begins, self._cancellation)
        with os.fdopen(descriptor, "wb") as file, closing(body):
            file.truncate(begins)
            file.seek(begins)
            try:
                for data in body:
                    self._check()
                    file.write(data)
                    known.digests.update(data)
                    with self._lock:
                        self._bytes += len(data)
            except FetchDamaged:
                file.truncate(0)
                raise

    def _proven(self, one: Object, partial: Path, known: _Known) -> Checksums:
        """The digests of the whole, which are what is claimed. Raises FetchDamaged, and nothing is kept."""
        assert known.digests is not None  # noqa: S101 - all bytes went through them
        found = known.digests.found()
        for algorithm, claim in (known.claims or {}).items():
            if found[algorithm] != claim:
                known.digests = None
                partial.unlink()
                raise FetchDamaged(
                    f"{self._source.location}{one.name.decode()}: {algorithm} of what was fetched is "
                    f"{found[algorithm]}, its source says {claim}: it is fetched again. If that never helps, "
                    "have the object repaired"
                    + (", or set ingest.s3.etags_are_checksums = false." if algorithm == "md5" else ".")
                )
        return found

    def _name(self, one: Object, partial: Path, *, durably: bool) -> None:
        """Under its final name; on disk before, if there is no checksum that would tell."""
        if durably:
            with partial.open("rb+") as file:
                make_durable(file)
        final = self._path(one)
        with self._naming():
            os.makedirs(os.path.dirname(final), exist_ok=True)  # noqa: PTH103, PTH120 - names are bytes
            os.replace(partial, final)  # noqa: PTH105

    def _claims(self, answer: Mapping[str, Any], one: Object) -> Checksums:
        return claimed(answer, one.etag, etags_are_checksums=self._etags_are_checksums)

    def _is_there(self, one: Object) -> bool:
        try:
            return os.lstat(self._path(one)).st_size == one.size
        except FileNotFoundError:
            return False

    def _path(self, one: Object) -> bytes:
        return self._objects + b"/" + one.name

    def _path_of_partial(self, one: Object) -> Path:
        digest = blake2b(one.name + b"\0" + one.etag.encode(), digest_size=20)
        return self._partial / digest.hexdigest()

    def _size_of_partial(self, one: Object) -> int:
        try:
            return self._path_of_partial(one).stat().st_size
        except FileNotFoundError:
            return 0

    def _check(self) -> None:
        """In a thread: whether the work was given up."""
        self._cancellation.check()
        if self._stopping.is_set():
            raise _Stopped

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """While files get names, for the work was not given up."""
        with self._lock:
            self._check()
            yield

    def _put_nowait(self, task: Object | None) -> bool:
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            return False
        return True

    def _tell(self, files: int) -> None:
        if self._progress is not None:
            self._progress(self._bytes, files)


class _Stopped(Exception):
    """Another thread's error ends this one."""
