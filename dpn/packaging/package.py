"""Turns a deposit's source into a valid DPN bag in a tar. The same description makes the same bytes.

Each byte of a source on disk is read once and written once; what lies in S3 is fetched first, then bagged from
the fetched files. What was written is read again and validated by dpn-strict before it gets its name.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpn.bags.building.build import SCRATCH_PREFIX, BuiltBag, build_from_entries
from dpn.bags.building.entries import Entry
from dpn.bags.building.sources import refuse_to_build_within
from dpn.bags.hash_threads import OnProgress
from dpn.cancellation import Cancellation
from dpn.errors import NoSpace
from dpn.files import DISK_FULL
from dpn.packaging.already_packaged import finished
from dpn.packaging.description import Description, Packaged
from dpn.packaging.disk_source import local_entries, permission_is_waited_for
from dpn.packaging.location import S3Location, locate
from dpn.packaging.settings import DepositS3Settings
from dpn.packaging.whole_bag import take_as_it_is

FETCHED = "fetched"
"""The folder, within the working folder, of what is fetched from elsewhere."""
FETCHED_OBJECTS = f"{FETCHED}/objects"
"""The folder in it that may hold very many files."""


def package(
    description: Description,
    folder: Path,
    *,
    s3: DepositS3Settings,
    progress: OnProgress | None = None,
    when_fetched: Callable[[], None] | None = None,
    cancellation: Cancellation | None = None,
) -> Packaged:
    """Makes `<folder>/<uuid>.tar`, or finds it made, and returns what is in it.

    `folder` must be nobody else's while this runs. Safe to repeat after a crash at any line: what was fetched is
    used again, what was half built is built anew. `progress` is told bytes and files: of what is fetched, then
    of what is bagged, then of the bag as it is read again. `when_fetched` is called once all is fetched that must
    be. Stops within a second of a cancellation.

    Raises SourceRefused and its kinds (the depositor must repair something), ServiceUnavailable, BagChanged and
    SourceChanged (begun again from scratch), FetchDamaged, BuiltBagInvalid, NoSpace, Misconfigured, OSError. Then
    nothing is left in `folder` but what was fetched; of a source that changed not even that.
    """
    cancellation = cancellation or Cancellation()
    if "://" not in description.source:
        refuse_to_build_within([Path(description.source)], folder)
    with _room_is_waited_for(folder), permission_is_waited_for(description.source):
        _remove_half_built(folder)
        done = finished(description, folder, progress, cancellation)
        if done is None and description.as_is:
            done = take_as_it_is(description, folder, progress, cancellation)
        elif done is None:
            done = _build(description, folder, s3, progress, when_fetched, cancellation)
    shutil.rmtree(folder / FETCHED, ignore_errors=True)
    return done


@contextmanager
def _room_is_waited_for(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if not _says_full(error):
            raise
        raise NoSpace(f"{folder}: {error}: free space on this volume; packaging goes on then") from error


def _says_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL  # of a listing or of manifests


def _build(
    description: Description,
    folder: Path,
    s3: DepositS3Settings,
    progress: OnProgress | None,
    when_fetched: Callable[[], None] | None,
    cancellation: Cancellation,
) -> Packaged:
    description.require_fit()
    with _entries(description, folder, s3, progress, when_fetched, cancellation) as entries:
        bag = build_from_entries(
            entries,
            folder,
            what=description.source,
            metadata=description.metadata(),
            uuid=description.bag,
            progress=progress,
            validating=progress,
            cancellation=cancellation,
        )
    return _packaged(bag)


@contextmanager
def _entries(
    description: Description,
    folder: Path,
    s3: DepositS3Settings,
    progress: OnProgress | None,
    when_fetched: Callable[[], None] | None,
    cancellation: Cancellation,
) -> Iterator[Iterator[Entry]]:
    location = locate(description.source)
    if isinstance(location, S3Location):
        # Only now: botocore costs a process that needs no S3 some 25 MB and 0.2 s of processor.
        from dpn.packaging.s3 import fetched_entries

        with fetched_entries(
            location, folder / FETCHED, description.source_name, s3, progress, cancellation
        ) as entries:
            if when_fetched is not None:
                when_fetched()
            yield entries
        return
    with local_entries(location, description.source_name, cancellation) as entries:
        yield entries


def _remove_half_built(folder: Path) -> None:
    """What a process left that was killed."""
    for scratch in folder.glob(f"{SCRATCH_PREFIX}*"):
        shutil.rmtree(scratch)


def _packaged(bag: BuiltBag) -> Packaged:
    assert bag.sha256 is not None  # noqa: S101 - a tar has one
    return Packaged(
        path=bag.path,
        size=bag.size,
        sha256=bag.sha256,
        tag_manifest_sha256=bag.tag_manifest_sha256,
        files=bag.files,
        payload_bytes=bag.payload_bytes,
        report=bag.report,
    )
