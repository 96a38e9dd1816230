"""Packaging: a deposit's source (a folder, a bag, an S3 prefix) becomes a valid DPN bag in a tar.

Uses dpn.bags alone: it knows of no registry, no work items and no stores.
"""

from __future__ import annotations

from dpn.ingest.packaging.confined import confined
from dpn.ingest.packaging.description import Description, Estimate, Packaged
from dpn.ingest.packaging.errors import FetchDamaged, NotTheBag, SourceBagInvalid, SourceChanged, SourceUnavailable
from dpn.ingest.packaging.estimating import estimate
from dpn.ingest.packaging.location import locate
from dpn.ingest.packaging.package import FETCHED_OBJECTS, package

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
