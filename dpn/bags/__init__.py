"""Bags: read, validate, build. What this package calls valid is kept for decades."""

from __future__ import annotations

from dpn.bags.building.build import SCRATCH_PREFIX, BuiltBag, build_bag, build_from_entries
from dpn.bags.building.entries import NO_CLAIMS, Claims, Entry, FileContent
from dpn.bags.building.fit_metadata import refuse_unfit_metadata, refuse_unfit_tag
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.building.source_bag import SourceBag, is_bag, open_source_bag, root_tag_files
from dpn.bags.building.sources import folder_entries, refuse_unfit_name
from dpn.bags.codes import CATALOGUE, Kind, Severity
from dpn.bags.errors import BagChanged, BuiltBagInvalid, ClaimRefuted, NotABag, ProfileError, SourceRefused
from dpn.bags.findings import Finding
from dpn.bags.identity import BagIdentity, read_identity, tag_manifest_sha256
from dpn.bags.report import Report
from dpn.bags.tar.size import TarSize
from dpn.bags.unpacking import unpack
from dpn.bags.validation.profiles import STRICT, Profile, load_profile
from dpn.bags.validation.validation import validate

__all__ = [
    "CATALOGUE",
    "NO_CLAIMS",
    "SCRATCH_PREFIX",
    "STRICT",
    "BagChanged",
    "BagIdentity",
    "BuiltBag",
    "BuiltBagInvalid",
    "ClaimRefuted",
    "Claims",
    "DpnMetadata",
    "Entry",
    "FileContent",
    "Finding",
    "Kind",
    "NotABag",
    "Profile",
    "ProfileError",
    "Report",
    "Severity",
    "SourceBag",
    "SourceRefused",
    "TarSize",
    "build_bag",
    "build_from_entries",
    "folder_entries",
    "is_bag",
    "load_profile",
    "open_source_bag",
    "read_identity",
    "refuse_unfit_metadata",
    "refuse_unfit_name",
    "refuse_unfit_tag",
    "root_tag_files",
    "tag_manifest_sha256",
    "unpack",
    "validate",
]
