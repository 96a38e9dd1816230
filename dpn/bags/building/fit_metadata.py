"""Metadata held against the rules of the bag that it is for, before anything is read, fetched or built."""

from __future__ import annotations

from collections.abc import Mapping

from dpn.bags.building.metadata import DpnMetadata, tag_text
from dpn.bags.codes import Severity
from dpn.bags.errors import SourceRefused
from dpn.bags.findings import Findings
from dpn.bags.identity import DPN_INFO
from dpn.bags.validation.profile_check import check_tags
from dpn.bags.validation.profiles import BAG_INFO, STRICT, Profile, TagRule, load_profile
from dpn.bags.validation.tags import Declaration, read_tags


def refuse_unfit_metadata(metadata: DpnMetadata, uuid: str, profile: Profile | None) -> None:
    """Raises SourceRefused for metadata with which no bag of this uuid is valid by the profile."""
    for path, text in ((DPN_INFO, metadata.dpn_info(uuid)), (BAG_INFO, metadata.bag_info(0, 0))):
        if profile is not None:
            _refuse(path, text, profile.tag_rules.get(path, {}), profile, uuid)


def refuse_unfit_tag(label: str, value: str) -> None:
    """Raises SourceRefused for a value of a tag that no bag which is built for a deposit can have."""
    text, profile = tag_text(((label, value),)), load_profile(STRICT)
    if profile is not None:
        for path, rules in profile.tag_rules.items():
            if label in rules:
                _refuse(path, text, {label: rules[label]}, profile, "")


def _refuse(path: str, text: str, rules: Mapping[str, TagRule], profile: Profile, uuid: str) -> None:
    findings = Findings(profile.rulings)
    tags = read_tags([text.encode()], path.encode(), Declaration(), findings, rules)
    check_tags(rules, tags, uuid, path, findings)
    for finding in findings.kept():
        if finding.severity is Severity.ERROR:
            raise SourceRefused(f"no bag can have this in {path}: {finding.message}")
