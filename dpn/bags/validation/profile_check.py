"""Holds a bag against a profile. Pure but for the findings, and for names that are asked for one at a time."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dpn.bags.codes import Severity
from dpn.bags.findings import Findings, Ruling
from dpn.bags.manifest_names import ManifestName, is_manifest
from dpn.bags.validation.profiles import BAG_INFO, Profile, TagRule
from dpn.bags.validation.tags import DECLARATION, Tags

TAR_TYPES = {"application/tar", "application/x-tar"}
PROFILE_LABEL = "BagIt-Profile-Identifier"


@dataclass(frozen=True, slots=True)
class BagFacts:
    """What a profile can ask about."""

    name: str
    version: str
    serialized: bool
    tags: Mapping[str, Tags | None]
    """The parsed tag files that the profile has rules for; None for one that is not there."""
    manifests: Mapping[bytes, ManifestName]
    """By their names in the bag."""
    has_file: Callable[[str], bool]
    tag_names: Callable[[], Iterator[str]]
    payload_names: Callable[[], Iterator[str]]
    payload_files: int
    payload_bytes: int


def check_profile(profile: Profile, bag: BagFacts, findings: Findings) -> None:
    """Every section of the profile; a breach is a finding."""
    _check_form(profile, bag, findings)
    _check_manifests(profile, bag, findings)
    _check_files(profile, bag, findings)
    for path, rules in profile.tag_rules.items():
        tags = bag.tags.get(path)
        if tags is None:
            if path not in profile.tag_files_required and any(rule.required for rule in rules.values()):
                findings.add("profile-tag-file", f"The profile asks for tags in {path}.", path)
            continue
        check_tags(rules, tags, bag.name, path, findings)


def check_tags(rules: Mapping[str, TagRule], tags: Tags, bag_name: str, path: str, findings: Findings) -> None:
    """The rules for one tag file; a breach is a finding."""
    for label, rule in rules.items():
        _check_tag(label, rule, tags, bag_name, path, findings)


def _check_form(profile: Profile, bag: BagFacts, findings: Findings) -> None:
    identifiers = (bag.tags.get(BAG_INFO) or Tags()).values(PROFILE_LABEL)
    if profile.identifier not in identifiers:
        findings.add("profile-identifier", f"bag-info.txt does not name {profile.identifier}.", BAG_INFO)
    if profile.serialization == "forbidden" and bag.serialized:
        findings.add("profile-serialization", "The bag must be a folder.")
    if profile.serialization == "required" and not bag.serialized:
        findings.add("profile-serialization", "The bag must be serialised.")
    if (
        bag.serialized
        and profile.serialization != "forbidden"
        and not TAR_TYPES & set(profile.accept_serialization)
    ):
        findings.add("profile-serialization", "The profile does not accept a tar.")
    if bag.version not in profile.accept_version:
        message = f"BagIt {bag.version}; the profile accepts {', '.join(profile.accept_version)}."
        findings.add("profile-bagit-version", message, DECLARATION)
    if profile.bag_name_pattern is not None and not profile.bag_name_pattern.fullmatch(bag.name):
        findings.add("profile-bag-name", f"The bag's name is {bag.name[:100]!r}.")


def _check_manifests(profile: Profile, bag: BagFacts, findings: Findings) -> None:
    """One with another name than the standard's is there where it is not allowed, and not where it is required."""
    kinds = (
        ("profile-manifest", b"", profile.manifests_required, profile.manifests_allowed),
        ("profile-tag-manifest", b"tag", profile.tag_manifests_required, profile.tag_manifests_allowed),
    )
    for code, of, required, allowed in kinds:
        present = {name: said for name, said in bag.manifests.items() if said.of_tags is bool(of)}
        missing = set(required) - {said.algorithm for said in present.values() if said.is_exact}
        for name in sorted(b"%bmanifest-%b.txt" % (of, algorithm.encode()) for algorithm in missing):
            findings.add(code, "Required and missing.", name)
        if allowed is not None:
            for name in sorted(name for name, said in present.items() if said.algorithm not in allowed):
                findings.add(code, "Not allowed.", name)


def _check_files(profile: Profile, bag: BagFacts, findings: Findings) -> None:
    for path in profile.tag_files_required:
        if not bag.has_file(path):
            findings.add("profile-tag-file", "Required and missing.", path)
    for path in profile.payload_files_required:
        if not bag.has_file(path):
            findings.add("profile-payload-file", "Required and missing.", path)
    if profile.tag_files_allowed is not None:
        allowed = _any_of(profile.tag_files_allowed)
        for name in bag.tag_names():
            if not allowed(name) and not _always_allowed(name):
                findings.add("profile-tag-file", "Not allowed.", name)
    if profile.payload_files_allowed is not None:
        allowed = _any_of(profile.payload_files_allowed)
        for name in bag.payload_names():
            if not allowed(name):
                findings.add("profile-payload-file", "Not allowed.", name)
    if bag.has_file("fetch.txt") and not profile.allow_fetch:
        findings.add("profile-fetch", "fetch.txt is not allowed.", "fetch.txt")
    if profile.fetch_required and not bag.has_file("fetch.txt"):
        findings.add("profile-fetch", "fetch.txt is required and missing.", "fetch.txt")
    if profile.data_empty and (bag.payload_files > 1 or bag.payload_bytes):
        findings.add("profile-payload-not-empty", f"{bag.payload_files} files, {bag.payload_bytes} bytes.")


def _check_tag(label: str, rule: TagRule, tags: Tags, bag_name: str, path: str, findings: Findings) -> None:
    severity = Severity(rule.severity.value) if rule.severity in (Ruling.ERROR, Ruling.WARNING) else None
    if rule.severity is Ruling.IGNORE:
        return
    values = tags.values(label)
    if rule.required and not values:
        other_case = " (there is one in other letters)" if tags.has_in_other_letters(label) else ""
        findings.add("profile-tag-missing", f"{label} is missing{other_case}.", path, severity)
    if not rule.repeatable and len(values) > 1:
        findings.add("profile-tag-repeated", f"{label} stands {len(values)} times.", path, severity)
    for value in values:
        if not value:
            if not rule.empty:
                findings.add("profile-tag-empty", f"{label} is empty.", path, severity)
        elif (wanted := _wanted(rule, value, bag_name)) is not None:
            findings.add("profile-tag-value", f"{label} is {value[:100]!r}, not {wanted}.", path, severity)


def _wanted(rule: TagRule, value: str, bag_name: str) -> str | None:
    """What the value should have been; None if it is good."""
    values = [allowed.lower() for allowed in rule.values] if rule.ignore_case else rule.values
    if values and (value.lower() if rule.ignore_case else value) not in values:
        return f"one of {', '.join(rule.values)}"
    if rule.pattern is not None and not rule.pattern.fullmatch(value):
        return f"of the form {rule.pattern.pattern}"
    if rule.equals_bag_name and value != bag_name:
        return f"the bag's name {bag_name[:100]!r}"
    return None


def _any_of(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Asterisks match anything, also across folders, as the standard's own validator has it."""
    expression = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")
    return lambda name: expression.match(name) is not None


def _always_allowed(name: str) -> bool:
    return name in (DECLARATION.decode(), BAG_INFO, "package-info.txt", "fetch.txt") or is_manifest(name.encode())
