"""What a folder store does with the files in it, beneath the promises: digests taken from the disk, and repair's
change of files, at no moment of which the name is free.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dpn.cancellation import Cancellation
from dpn.errors import StoreMismatch
from dpn.files import sync_folder, write_all
from dpn.s3.plan import PartPlan, plan_parts
from dpn.storage.digests import Digester, Digests
from dpn.storage.errors import StagedChanged
from dpn.storage.source import Source, open_source
from dpn.storage.stored_object import Progress

BAD_INFIX = ".bad-"
"""`<key>.bad-<hex>`: what lay under the key until a repair; gone once the good copy has the name for good."""
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
    try:
        with open_source(path) as file:
            file.leave_cache()
            plan = plan_parts(file.size, plan) if isinstance(plan, int) else plan
            digester = Digester(plan)
            for part in plan.parts():
                digester.digest(part, file.buffers(part, cancellation.check))
            return digester.digests()
    except StagedChanged as error:
        raise StoreMismatch(f"{path} is cut short or no regular file: {error}") from error


def compare(path: Path, expected: Digests, cancellation: Cancellation) -> None:
    """Reads the file back. Raises StoreMismatch with the numbers of the parts that are wrong."""
    # In one piece: hashing the parts as well would double the work, and tells only where a mismatch is.
    in_one_piece = PartPlan(expected.plan.size, max(1, expected.plan.size))
    found = digests_on_disk(path, in_one_piece, cancellation)
    if found.sha256 == expected.sha256:
        return
    parts = digests_on_disk(path, expected.plan, cancellation).part_sha256
    wrong = [
        str(number)
        for number, (ours, theirs) in enumerate(zip(expected.part_sha256, parts, strict=False), 1)
        if ours != theirs
    ]
    raise StoreMismatch(
        f"{path}: read back, its SHA-256 is {found.sha256} instead of {expected.sha256}; "
        f"wrong parts of {expected.plan.part_size} bytes: {', '.join(wrong) or 'none'}"
    )


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
