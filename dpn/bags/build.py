"""Builds DPN bags, into a tar or a folder. Each byte of the source is read once, hashed while it is written.

Deterministic: the same files, metadata and uuid make the same bytes. What was built is validated from disk before
it gets its name; until then it lies in a hidden folder beside it.
"""

from __future__ import annotations

import os
import queue
import stat
import tempfile
import uuid as uuids
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, cast

from dpn.bags.digests import ALGORITHMS, Hasher
from dpn.bags.errors import BagChanged, BuiltBagInvalid, SourceRefused
from dpn.bags.metadata import DECLARATION_TEXT, DpnMetadata
from dpn.bags.profiles import Profile, load_profile
from dpn.bags.report import Report
from dpn.bags.sinks import FolderSink, Sink, TarSink
from dpn.bags.sources import SourceEntry, payload_entries
from dpn.bags.validation import validate
from dpn.bags.workers import READ_BYTES, Progress, Workers, take
from dpn.cancellation import Cancellation
from dpn.files import publish_new, sync_folder

BUFFERS = 4
MANIFEST_KEPT_IN_MEMORY_BYTES = 8 << 20
REQUIRED_ALGORITHM = "sha256"

Form = Literal["tar", "folder"]


@dataclass(frozen=True, slots=True)
class BuiltBag:
    """A valid bag under its final name. `size` is the tar's, or the sum of a folder's files."""

    path: Path
    uuid: str
    size: int
    tag_manifest_sha256: str
    sha256: str | None
    """Of the tar; None for a folder."""
    files: int
    payload_bytes: int
    report: Report


def build_bag(
    sources: Path | Sequence[Path],
    out_dir: Path,
    *,
    metadata: DpnMetadata,
    uuid: str | None = None,
    form: Form = "tar",
    algorithms: Sequence[str] = (REQUIRED_ALGORITHM,),
    profile: Profile | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancellation: Cancellation | None = None,
) -> BuiltBag:
    """Bag a folder (what is in it) or several sources (each under its name) as `<uuid>.tar` or folder `<uuid>`.

    `uuid` None: a new one. `profile` None: "dpn-strict", for a folder "dpn". `progress` is told bytes and files of
    the source. Raises SourceRefused (links, unfit names, nothing to bag, unfit metadata), FileExistsError (nothing
    is overwritten), BagChanged, BuiltBagInvalid, OSError, and what `cancellation` was given. Leaves nothing behind
    then.
    """
    bag_uuid = uuid or str(uuids.uuid4())
    paths = [sources] if isinstance(sources, Path) else list(sources)
    name = f"{bag_uuid}.tar" if form == "tar" else bag_uuid
    final = out_dir / name
    if final.exists():
        raise FileExistsError(f"{final} is there already; nothing is overwritten")
    with tempfile.TemporaryDirectory(prefix=".building-", dir=out_dir) as scratch:
        path = Path(scratch) / name
        _Build(bag_uuid, metadata, algorithms, Progress(progress, cancellation)).run(paths, path, form)
        judged_by = profile or load_profile("dpn-strict" if form == "tar" else "dpn")
        report = validate(path, profile=judged_by, whole_file_sha256=form == "tar", cancellation=cancellation)
        if not report.valid or report.tag_manifest_sha256 is None:
            reason = report.first_error
            raise BuiltBagInvalid(
                f"the bag built from {paths[0]} is not valid: {reason.message if reason else '?'}"
            )
        _place(path, final)
    return BuiltBag(
        path=final,
        uuid=bag_uuid,
        size=final.stat().st_size if form == "tar" else _size_of_folder(final),
        tag_manifest_sha256=report.tag_manifest_sha256,
        sha256=report.sha256,
        files=report.files,
        payload_bytes=report.bytes,
        report=replace(report, path=final),
    )


class _Build:
    """One bag in the making."""

    def __init__(self, uuid: str, metadata: DpnMetadata, algorithms: Sequence[str], progress: Progress) -> None:
        unknown = [algorithm for algorithm in algorithms if algorithm not in ALGORITHMS]
        if unknown or REQUIRED_ALGORITHM not in algorithms:
            raise SourceRefused(f"manifests must be of known algorithms, and one of {REQUIRED_ALGORITHM}")
        self._uuid = uuid
        self._metadata = metadata
        self._algorithms = sorted(set(algorithms))
        self._progress = progress
        self._free: queue.Queue[memoryview] = queue.Queue()
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(READ_BYTES)))
        self._tag_lines: dict[str, list[tuple[bytes, bytes]]] = {}
        self._payload_bytes = 0
        self._payload_files = 0

    def run(self, sources: Sequence[Path], path: Path, form: Form) -> None:
        dpn_info = self._metadata.dpn_info(self._uuid)
        with ExitStack() as closing:
            lane = closing.enter_context(Workers(1, self._progress))
            manifests = {algorithm: closing.enter_context(_spool(path.parent)) for algorithm in self._algorithms}
            sink = self._sink(path, form)
            self._add_text(sink, b"bagit.txt", DECLARATION_TEXT)
            self._add_text(sink, b"dpn-tags/dpn-info.txt", dpn_info)
            for entry in payload_entries(sources):
                if entry.is_file:
                    self._add_payload(sink, entry, lane, manifests)
                else:
                    sink.add_folder(entry.name)
            if not self._payload_files:
                raise SourceRefused(
                    f"there is no file in {', '.join(map(str, sources))}: an empty bag keeps nothing"
                )
            self._add_text(
                sink, b"bag-info.txt", self._metadata.bag_info(self._payload_bytes, self._payload_files)
            )
            for algorithm, manifest in manifests.items():
                self._add_manifest(sink, b"manifest-%s.txt" % algorithm.encode(), manifest)
            self._add_tag_manifests(sink)
            sink.close()

    def _sink(self, path: Path, form: Form) -> Sink:
        if form == "folder":
            return FolderSink(path)
        midnight = datetime.combine(self._metadata.bagging_date, time(), UTC)
        return TarSink(path, self._uuid, int(midnight.timestamp()))

    def _add_payload(self, sink: Sink, entry: SourceEntry, lane: Workers, manifests: dict[str, BinaryIO]) -> None:
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _changed(entry)
            hashers = {algorithm: ALGORITHMS[algorithm]() for algorithm in self._algorithms}
            sink.begin_file(entry.name, status.st_size)
            self._copy(fd, status.st_size, sink, tuple(hashers.values()), lane, entry)
            sink.end_file()
            if file.read(1) or os.fstat(fd).st_mtime_ns != status.st_mtime_ns:
                raise _changed(entry)
        self._progress.tick()
        for algorithm, manifest in manifests.items():
            manifest.write(b"%s  %s\n" % (hashers[algorithm].hexdigest().encode(), entry.name))
        self._payload_bytes += status.st_size
        self._payload_files += 1
        self._progress.add(0, 1)

    def _copy(
        self, fd: int, size: int, sink: Sink, hashers: tuple[Hasher, ...], lane: Workers, entry: SourceEntry
    ) -> None:
        """Source to sink; a thread hashes one buffer while this one writes it and reads the next."""
        left = size
        while left:
            buffer = take(self._free, self._progress)
            count = os.readv(fd, [buffer[:left]])
            if not count:
                raise _changed(entry)
            hash_it = partial(self._hash, buffer, count, hashers)
            if size > READ_BYTES:
                lane.submit(hash_it)
                sink.write(buffer[:count])
            else:  # not worth a thread
                sink.write(buffer[:count])
                hash_it()
            left -= count
            self._progress.add(count)
        if size > READ_BYTES:
            lane.finish()

    def _hash(self, buffer: memoryview, count: int, hashers: tuple[Hasher, ...]) -> None:
        for hasher in hashers:
            hasher.update(buffer[:count])
        self._free.put(buffer)

    def _add_text(self, sink: Sink, name: bytes, text: str) -> None:
        self._add_tag_file(sink, name, text.encode())

    def _add_tag_file(self, sink: Sink, name: bytes, content: bytes) -> None:
        sink.begin_file(name, len(content))
        sink.write(content)
        sink.end_file()
        for algorithm in self._algorithms:
            self._note(algorithm, ALGORITHMS[algorithm](content), name)

    def _add_manifest(self, sink: Sink, name: bytes, manifest: BinaryIO) -> None:
        """From the temporary file in which it grew."""
        size = manifest.seek(0, os.SEEK_END)
        manifest.seek(0)
        hashers = {algorithm: ALGORITHMS[algorithm]() for algorithm in self._algorithms}
        sink.begin_file(name, size)
        while chunk := manifest.read(READ_BYTES):
            for hasher in hashers.values():
                hasher.update(chunk)
            sink.write(chunk)
        sink.end_file()
        for algorithm, hasher in hashers.items():
            self._note(algorithm, hasher, name)

    def _add_tag_manifests(self, sink: Sink) -> None:
        for algorithm in self._algorithms:
            lines = sorted(self._tag_lines[algorithm])
            content = b"".join(b"%s  %s\n" % (checksum, name) for name, checksum in lines)
            sink.begin_file(b"tagmanifest-%s.txt" % algorithm.encode(), len(content))
            sink.write(content)
            sink.end_file()

    def _note(self, algorithm: str, hasher: Hasher, name: bytes) -> None:
        self._tag_lines.setdefault(algorithm, []).append((name, hasher.hexdigest().encode()))


def _spool(folder: Path) -> BinaryIO:
    """A nameless file for a manifest that grows with the payload."""
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(MANIFEST_KEPT_IN_MEMORY_BYTES, dir=str(folder)))


def _place(path: Path, final: Path) -> None:
    """Under its final name, in one step, never over something else."""
    if path.is_dir():
        path.rename(final)  # refused by the system if there is a folder with anything in it
        sync_folder(final.parent)
    else:
        publish_new(path, final)


def _size_of_folder(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def _changed(entry: SourceEntry) -> BagChanged:
    return BagChanged(f"{os.fsdecode(entry.path)} changed while it was being read: try again when it is at rest")
