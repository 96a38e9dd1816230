"""Entries of a bag from what lies on disk: a folder, or a bag that is held against its manifests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpn.bags.building.entries import Claims, Entry
from dpn.bags.building.source_bag import open_source_bag
from dpn.bags.building.sources import folder_entries
from dpn.cancellation import Cancellation
from dpn.packaging.description import check_source_name
from dpn.packaging.errors import SourceBagInvalid, SourceUnavailable
from dpn.packaging.location import BagLocation, FolderLocation, source_name_of

ClaimsOf = Callable[[bytes], Claims]


@contextmanager
def local_entries(
    location: FolderLocation | BagLocation,
    source_name: str | None,
    cancellation: Cancellation | None,
    *,
    claims_of: ClaimsOf | None = None,
    called: str | None = None,
) -> Iterator[Iterator[Entry]]:
    """The entries, while the `with` block lasts. `claims_of` knows what else is claimed of a file, by its name.

    `called`: how the source is called in errors. Raises SourceRefused, SourceBagInvalid (once all was read),
    NotABag, BagChanged, OSError.
    """
    if isinstance(location, FolderLocation):
        yield folder_entries(location.path, claims_of, cancellation)
        return
    tags_folder = f"{_name(location.path, source_name)}-tags/".encode()
    with open_source_bag(location.path, cancellation=cancellation) as bag:

        def entries() -> Iterator[Entry]:
            yield from bag.entries(tags_folder, claims_of)
            report = bag.report()
            if not report.valid:
                raise SourceBagInvalid(called or str(location.path), report)

        yield entries()


@contextmanager
def permission_is_waited_for(source: str) -> Iterator[None]:
    """What may not be read of the source is not there now: an operator can repair that, and nobody is at fault."""
    try:
        yield
    except PermissionError as error:
        if not Path(os.fsdecode(error.filename or "")).is_relative_to(source):
            raise
        raise SourceUnavailable(
            f"source:{source}", f"{error}: let the user that runs the workers read it"
        ) from error


def _name(bag: Path, given: str | None) -> str:
    return source_name_of(bag) if given is None else check_source_name(given)
