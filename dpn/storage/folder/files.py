"""What a folder store does with the files in it, beneath the promises: digests taken from the disk, and repair's
change of files, at no moment of which the name is free.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, StoreMismatch
from dpn.files import sync_folder, write_all
from dpn.s3.plan import Part, PartPlan, plan_parts
from dpn.storage.digests import Digester, Digests
from dpn.storage.errors import StagedChanged
from dpn.storage.source import Source, open_source
from dpn.storage.stored_object import Progress

BAD_INFIX = ".bad-"
"""`<key>.bad-<hex>`: what lay under the key until a repair; gone once the good copy has the name for good."""
READ_BACK_THREADS = min(len(os.sched_getaffinity(0)), 8)
"""Parts that are read back and hashed at once, for each bag: more than the cores would only have the disk turn."""
_log = logging.getLogger(__name__)


def copy_with_digests(
    source: Source, plan: PartPlan, copy: BinaryIO, cancellation: Cancellation, progress: Progress | None
) -> Digests:
    """Writes all of `source`; returns the digests of what was written."""
    digester = Digester(plan)

    def written(buffers: Iterator[memoryview]) -> Iterator[memoryview]:
        for buffer in buffers:
            write_all(copy, buffer)
            yield buffer

    for part in plan.parts():
        digester.digest(part, written(source.buffers(part, cancellation.check)))
        if progress:
            progress(part.offset + part.size, plan.size)
    return digester.digests()


def digests_on_disk(path: Path, plan: PartPlan | int, cancellation: Cancellation) -> Digests:
    """The digests of what is on the disk, in parts of a plan or of so many bytes.

    Raises StoreMismatch for what is no whole regular file, SourceUnreadable for a disk that fails.
    """
    with _whole_file(path) as file:
        file.leave_cache()
        plan = plan_parts(file.size, plan) if isinstance(plan, int) else plan
        digester = Digester(plan)
        for part in plan.parts():
            digester.digest(part, file.buffers(part, cancellation.check))
        return digester.digests()


def compare(path: Path, expected: Digests, cancellation: Cancellation) -> None:
    """Reads the file back, once. Raises StoreMismatch with the numbers of the parts that are wrong.

    Several parts are read and hashed at once: where each has its own digest, which were taken together with the
    whole's, the whole has its own.
    """
    if not _parts_prove_the_whole(expected):
        found = digests_on_disk(path, _in_one_piece(expected.plan), cancellation)
        if found.sha256 == expected.sha256:
            return
        raise _mismatch(path, expected, found.sha256, wrong_parts(path, expected, cancellation))
    if wrong := wrong_parts(path, expected, cancellation):
        found = digests_on_disk(path, _in_one_piece(expected.plan), cancellation)
        raise _mismatch(path, expected, found.sha256, wrong)


def wrong_parts(path: Path, expected: Digests, cancellation: Cancellation) -> list[int]:
    """The numbers of the parts that are not on the disk as they should be. Raises as `digests_on_disk` does.

    It takes the memory of a buffer a thread.
    """
    stop = Cancellation()

    def check() -> None:
        cancellation.check()
        stop.check()

    def is_wrong(file: Source, part: Part, sha256: str) -> bool:
        found = hashlib.sha256()
        for buffer in file.buffers(part, check):
            found.update(buffer)
        return found.hexdigest() != sha256

    pairs = list(zip(expected.plan.parts(), expected.part_sha256, strict=False))
    with _whole_file(path) as file, ThreadPoolExecutor(READ_BACK_THREADS, thread_name_prefix="read-back") as pool:
        file.leave_cache()
        under_way = [(part.number, pool.submit(is_wrong, file, part, sha256)) for part, sha256 in pairs]
        try:
            return [number for number, judged in under_way if judged.result()]
        except BaseException:
            stop.cancel(Interrupted("another part could not be read"))
            pool.shutdown(cancel_futures=True)
            raise


def _parts_prove_the_whole(expected: Digests) -> bool:
    return len(expected.part_sha256) == expected.plan.count > 1


def _in_one_piece(plan: PartPlan) -> PartPlan:
    return PartPlan(plan.size, max(1, plan.size))


def _mismatch(path: Path, expected: Digests, found_sha256: str, wrong: list[int]) -> StoreMismatch:
    return StoreMismatch(
        f"{path}: read back, its SHA-256 is {found_sha256} instead of {expected.sha256}; "
        f"wrong parts of {expected.plan.part_size} bytes: {', '.join(map(str, wrong)) or 'none'}"
    )


@contextmanager
def _whole_file(path: Path) -> Iterator[Source]:
    """Raises StoreMismatch for what is no whole regular file, SourceUnreadable for a disk that fails."""
    try:
        with open_source(path) as file:
            yield file
    except StagedChanged as error:
        raise StoreMismatch(f"{path} is cut short or no regular file: {error}") from error


def take_place(temporary: Path, path: Path) -> None:
    """Gives a finished, durable file the name of a bad one. The bad bytes have a name until the good ones have
    theirs for good. Raises OSError.
    """
    aside = path.with_name(f"{path.name}{BAD_INFIX}{secrets.token_hex(8)}")
    os.link(path, aside)
    sync_folder(path.parent)
    _log.warning("%s was found bad and is replaced; until that is done its bytes are at %s", path, aside)
    temporary.replace(path)
    sync_folder(path.parent)
    aside.unlink(missing_ok=True)


def is_bad_left_over(path: Path) -> bool:
    """Whether these are the bad bytes of a repair that a crash interrupted."""
    return BAD_INFIX in path.name
