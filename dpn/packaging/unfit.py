"""All that keeps a source out of a bag by its names alone, told before anything is fetched or built."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dpn.bags.building import sources
from dpn.bags.building.source_bag import open_source_bag
from dpn.bags.errors import UnfitEntry
from dpn.bags.findings import Findings
from dpn.bags.validation.profiles import load_profile
from dpn.cancellation import Cancellation
from dpn.packaging.already_packaged import AS_PEERS_MAKE_THEM
from dpn.packaging.disk_source import permission_is_waited_for
from dpn.packaging.location import FolderLocation, S3Location, locate
from dpn.packaging.settings import DepositS3Settings


def unfit_entries(
    source: str, *, as_is: bool, s3: DepositS3Settings, cancellation: Cancellation | None = None
) -> Iterator[UnfitEntry]:
    """Every file, object and folder for which packaging the source would fail; of a bag that is taken as it is,
    for which it is invalid.

    Raises SourceRefused for a source that can be no deposit, SourceUnavailable, Misconfigured, NotABag, OSError.
    """
    with permission_is_waited_for(source):
        location = locate(source)
        if isinstance(location, S3Location):
            from dpn.packaging.s3 import unfit_objects

            yield from unfit_objects(location, s3, cancellation or Cancellation())
        elif isinstance(location, FolderLocation):
            yield from sources.unfit_entries([location.path], cancellation)
        else:
            profile = load_profile(AS_PEERS_MAKE_THEM) if as_is else None
            findings = Findings(profile.rulings if profile else None, keep=math.inf)
            with open_source_bag(location.path, cancellation=cancellation, findings=findings) as bag:
                yield from bag.unfit_entries(as_it_is=as_is)
