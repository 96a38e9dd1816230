"""Bags: read, validate, build. What this package calls valid is kept for decades."""

from __future__ import annotations

from dpn.bags.build import BuiltBag, build_bag
from dpn.bags.catalogue import CATALOGUE, Kind, Severity
from dpn.bags.errors import BagChanged, BuiltBagInvalid, NotABag, ProfileError, SourceRefused
from dpn.bags.findings import Finding
from dpn.bags.identity import BagIdentity, read_identity, tag_manifest_sha256
from dpn.bags.metadata import DpnMetadata
from dpn.bags.profiles import Profile, load_profile
from dpn.bags.report import Report
from dpn.bags.validation import validate

__all__ = [
    "CATALOGUE",
    "BagChanged",
    "BagIdentity",
    "BuiltBag",
    "BuiltBagInvalid",
    "DpnMetadata",
    "Finding",
    "Kind",
    "NotABag",
    "Profile",
    "ProfileError",
    "Report",
    "Severity",
    "SourceRefused",
    "build_bag",
    "load_profile",
    "read_identity",
    "tag_manifest_sha256",
    "validate",
]
