"""Packaging: a deposit's source (a folder, a bag, an S3 prefix) becomes a valid DPN bag in a tar.

Uses dpn.bags alone: it knows of no registry, no work items and no stores.
"""

from __future__ import annotations

from dpn.packaging.confined_source import confined
from dpn.packaging.description import Description, Estimate, Packaged
from dpn.packaging.errors import FetchDamaged, NotTheBag, SourceBagInvalid, SourceChanged, SourceUnavailable
from dpn.packaging.estimate import estimate
from dpn.packaging.location import locate
from dpn.packaging.package import FETCHED_OBJECTS, package

__all__ = [
    "FETCHED_OBJECTS",
    "Description",
    "Estimate",
    "FetchDamaged",
    "NotTheBag",
    "Packaged",
    "SourceBagInvalid",
    "SourceChanged",
    "SourceUnavailable",
    "confined",
    "estimate",
    "locate",
    "package",
]
