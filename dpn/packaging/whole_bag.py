"""A DPN bag in a tar that is taken byte for byte, under its own uuid: copied, then proven like one of ours."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from dpn.bags.building.build import SCRATCH_PREFIX
from dpn.bags.building.entries import FileContent
from dpn.bags.errors import BagChanged, SourceRefused
from dpn.bags.hash_threads import OnProgress
from dpn.bags.identity import read_identity
from dpn.cancellation import Cancellation
from dpn.errors import NotABag
from dpn.files import make_durable, publish_new, write_all
from dpn.packaging.already_packaged import difference, judged, packaged
from dpn.packaging.description import Description, Packaged
from dpn.packaging.errors import NotTheBag, SourceBagInvalid
from dpn.packaging.location import BagLocation, locate

COPY_BYTES = 1 << 20


def take_as_it_is(
    description: Description, folder: Path, progress: OnProgress | None, cancellation: Cancellation
) -> Packaged:
    """Copies the tar into `folder` and validates the copy.

    Raises NotTheBag, SourceBagInvalid, SourceRefused, BagChanged, SourceUnavailable, OSError.
    """
    location = locate(description.source)
    if not isinstance(location, BagLocation) or location.path.is_dir():
        raise SourceRefused(f"{description.source} is no bag in a tar: only such a one is taken as it is")
    try:
        other = difference(description, read_identity(location.path))
    except NotABag as error:
        raise NotTheBag(f"{description.source} is no DPN bag: {error}") from error
    if other is not None:
        raise NotTheBag(f"{description.source} is another bag than was deposited: {other}")
    final = folder / description.tar_name()
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=folder) as scratch:
        path = Path(scratch) / final.name
        _copy(location.path, path, progress, cancellation)
        report = judged(description, path, progress, cancellation)
        if not report.valid:
            raise SourceBagInvalid(description.source, report)
        publish_new(path, final)
    return packaged(final, replace(report, path=final))


def _copy(source: Path, target: Path, progress: OnProgress | None, cancellation: Cancellation) -> None:
    buffer, done = memoryview(bytearray(COPY_BYTES)), 0
    with FileContent(os.fsencode(source)).open() as file, target.open("xb") as copy:
        while done < file.size:
            cancellation.check()
            count = file.read_into(buffer[: file.size - done])
            if not count:
                break
            write_all(copy, buffer[:count])
            done += count
            if progress is not None:
                progress(done, 0)
        if done != file.size or not file.is_unchanged():
            raise BagChanged(f"{source} changed while it was being read: try again when it is at rest")
        make_durable(copy)
