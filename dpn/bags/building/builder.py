"""One bag in the making: takes entries, writes them to a tar or a folder, and what a bag says about them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, time
from pathlib import Path
from typing import BinaryIO, Literal, cast

from dpn.bags.building.entries import Content, Entry, Opened, changed
from dpn.bags.building.hash_lanes import HashLanes
from dpn.bags.building.metadata import DECLARATION_TEXT, DpnMetadata
from dpn.bags.building.sinks import FolderSink, Sink, TarSink
from dpn.bags.building.sources import nothing_in, refuse_unfit_name
from dpn.bags.digests import ALGORITHMS, Hasher
from dpn.bags.errors import ClaimRefuted, SourceRefused
from dpn.bags.hash_threads import READ_BYTES, Progress
from dpn.bags.index import PAYLOAD_PREFIX
from dpn.bags.names import is_plain

MANIFEST_KEPT_IN_MEMORY_BYTES = 8 << 20
SMALL_FILE_BYTES = READ_BYTES
"""Up to here a file is read, hashed and written in one go: not worth a thread."""
REQUIRED_ALGORITHM = "sha256"
LINES_AT_ONCE = 500

Form = Literal["tar", "folder"]


@contextmanager
def building(
    entries: Iterable[Entry],
    path: Path,
    form: Form,
    *,
    uuid: str,
    metadata: DpnMetadata,
    algorithms: Sequence[str],
    cores: int,
    progress: Progress,
    what: str,
) -> Iterator[None]:
    """Builds the bag `path`, on so many cores. In the `with` block it can be read, after it, it is on disk.

    Raises what building raises (see `dpn.bags.building.build`); what lies at `path` then is of no use.
    """
    unknown = [algorithm for algorithm in algorithms if algorithm not in ALGORITHMS]
    if unknown or REQUIRED_ALGORITHM not in algorithms:
        raise SourceRefused(f"manifests must be of known algorithms, and one of {REQUIRED_ALGORITHM}")
    names = tuple(sorted(set(algorithms)))
    dpn_info = metadata.dpn_info(uuid)
    with ExitStack() as closing:
        sink = closing.enter_context(_sink(path, form, uuid, metadata))
        lanes = closing.enter_context(HashLanes(len(names) + 1, cores, progress))
        manifests = {algorithm: closing.enter_context(_spool(path.parent)) for algorithm in names}
        bag = _Bag(sink, lanes, manifests, progress)
        bag.add_text(b"bagit.txt", DECLARATION_TEXT)
        bag.add_text(b"dpn-tags/dpn-info.txt", dpn_info)
        for entry in entries:
            bag.add(entry)
        if not bag.payload_files:
            raise nothing_in(what)
        bag.add_text(b"bag-info.txt", metadata.bag_info(bag.payload_bytes, bag.payload_files))
        bag.add_manifests()
        sink.close()
        with sink.becoming_durable(progress):
            yield


class _Bag:
    """What was written of the bag, and what its manifests must say of it."""

    def __init__(self, sink: Sink, lanes: HashLanes, manifests: dict[str, BinaryIO], progress: Progress) -> None:
        self._sink = sink
        self._lanes = lanes
        self._manifests = manifests
        self._algorithms = tuple(manifests)
        self._tag_lines: dict[str, list[tuple[bytes, bytes]]] = {algorithm: [] for algorithm in manifests}
        self._lines: dict[str, list[bytes]] = {algorithm: [] for algorithm in manifests}
        """Of the manifests, until there are enough of them to be written."""
        self._progress = progress
        self.payload_bytes = 0
        self.payload_files = 0

    def add(self, entry: Entry) -> None:
        name, content = entry.name, entry.content
        self._progress.tick()
        if content is None:
            refuse_unfit_name(name, os.fsdecode(name), of_folder=True)
            return self._sink.add_folder(name)
        if not is_plain(name):
            refuse_unfit_name(name, content.where)
        taken = content.take(SMALL_FILE_BYTES)
        if isinstance(taken, bytes):
            size, hashers = len(taken), self._add_small(entry, content, taken)
        else:
            with taken:
                size, hashers = taken.size, self._add_large(entry, content, taken)
        if entry.deliver is not None or entry.claims.digests:
            _verify(entry, hashers, content.where)
        if not name.startswith(PAYLOAD_PREFIX):
            return self._note_tag_file(name, hashers)
        for algorithm, lines in self._lines.items():
            lines.append(f"{hashers[algorithm].hexdigest()}  ".encode() + name)
        self.payload_bytes += size
        self.payload_files += 1
        if self.payload_files % LINES_AT_ONCE == 0:
            self._write_lines()
        return None

    def add_text(self, name: bytes, text: str) -> None:
        content = text.encode()
        self._sink.add_file(name, content)
        self._note_tag_file(name, {algorithm: ALGORITHMS[algorithm](content) for algorithm in self._algorithms})

    def add_manifests(self) -> None:
        """The last things of a bag: manifests, then the tag manifests that hold those."""
        self._write_lines()
        for algorithm, manifest in self._manifests.items():
            self._add_manifest(b"manifest-%s.txt" % algorithm.encode(), manifest)
        for algorithm, noted in self._tag_lines.items():
            content = b"".join(b"%s  %s\n" % (checksum, name) for name, checksum in sorted(noted))
            self._sink.add_file(b"tagmanifest-%s.txt" % algorithm.encode(), content)

    def _write_lines(self) -> None:
        for algorithm, lines in self._lines.items():
            if lines:
                self._manifests[algorithm].write(b"\n".join(lines) + b"\n")
                lines.clear()

    def _algorithms_of(self, entry: Entry) -> Iterable[str]:
        if not entry.algorithms and not entry.claims.digests:
            return self._algorithms
        return sorted({*self._algorithms, *entry.algorithms, *entry.claims.digests})

    def _add_small(self, entry: Entry, content: Content, data: bytes) -> dict[str, Hasher]:
        _verify_size(entry, content, len(data))
        self._sink.add_file(entry.name, data)
        self._progress.add(len(data), 1)
        return {algorithm: ALGORITHMS[algorithm](data) for algorithm in self._algorithms_of(entry)}

    def _add_large(self, entry: Entry, content: Content, file: Opened) -> dict[str, Hasher]:
        """Source to sink, read once; the digests are complete when this returns. Raises BagChanged."""
        _verify_size(entry, content, file.size)
        hashers = {algorithm: ALGORITHMS[algorithm]() for algorithm in self._algorithms_of(entry)}
        self._sink.begin_file(entry.name, file.size)
        self._copy(file, tuple(hashers.values()), content)
        self._sink.end_file()
        if not file.is_unchanged():
            raise changed(content.where)
        self._progress.add(0, 1)
        return hashers

    def _copy(self, file: Opened, hashers: tuple[Hasher, ...], content: Content) -> None:
        """Threads hash one buffer while this one writes it and reads the next."""
        left = file.size
        while left:
            buffer = self._lanes.buffer()
            count = file.read_into(buffer[:left])
            if not count:
                raise changed(content.where)
            self._lanes.hash(buffer, count, hashers)
            self._sink.write(buffer[:count])
            left -= count
            self._progress.add(count)
        self._lanes.finish()

    def _add_manifest(self, name: bytes, manifest: BinaryIO) -> None:
        """From the temporary file in which it grew."""
        hashers = {algorithm: ALGORITHMS[algorithm]() for algorithm in self._algorithms}
        size = manifest.seek(0, os.SEEK_END)
        manifest.seek(0)
        self._sink.begin_file(name, size)
        while chunk := manifest.read(READ_BYTES):
            self._progress.tick()
            for hasher in hashers.values():
                hasher.update(chunk)
            self._sink.write(chunk)
        self._sink.end_file()
        self._note_tag_file(name, hashers)

    def _note_tag_file(self, name: bytes, hashers: dict[str, Hasher]) -> None:
        for algorithm, lines in self._tag_lines.items():
            lines.append((name, hashers[algorithm].hexdigest().encode()))


def _sink(path: Path, form: Form, uuid: str, metadata: DpnMetadata) -> Sink:
    if form == "folder":
        return FolderSink(path)
    midnight = datetime.combine(metadata.bagging_date, time(), UTC)
    return TarSink(path, uuid, int(midnight.timestamp()))


def _verify_size(entry: Entry, content: Content, size: int) -> None:
    if entry.claims.size not in (None, size):
        raise ClaimRefuted(content.where, "size", f"{entry.claims.size:,}", f"{size:,}")


def _verify(entry: Entry, hashers: dict[str, Hasher], where: str) -> None:
    for algorithm, claimed in entry.claims.digests.items():
        found = hashers[algorithm].hexdigest()
        if found != claimed.lower():
            raise ClaimRefuted(where, algorithm, claimed.lower(), found)
    if entry.deliver is not None:
        entry.deliver({algorithm: hashers[algorithm].digest() for algorithm in entry.algorithms})


def _spool(folder: Path) -> BinaryIO:
    """A nameless file for a manifest that grows with the bag."""
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(MANIFEST_KEPT_IN_MEMORY_BYTES, dir=str(folder)))
