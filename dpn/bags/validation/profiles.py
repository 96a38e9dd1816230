"""BagIt Profiles: what a consortium wants of a bag beyond BagIt, as a JSON file (1.3 and 1.4).

All of the standard's sections are read. Three extensions, for what the standard cannot say:

* `Tag-Files-Info`: as `Bag-Info`, for other tag files: an object of paths, each with an object of tags.
* in a tag's rule, beside `required`, `values`, `repeatable`, `description`: `empty` (false: must have a value),
  `pattern` (a regular expression that the whole value must match), `ignore-case` (for `values`),
  `equals-bag-name` (the value is the bag's name), `severity` ("error", "warning" or "ignore" for a breach).
* `Finding-Severity`: an object of finding codes of the catalogue, each "error", "warning" or "ignore"; only those
  that the catalogue calls adjustable. `Bag-Name-Pattern`: a regular expression for the bag's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dpn.bags.codes import CATALOGUE
from dpn.bags.errors import ProfileError
from dpn.bags.findings import Ruling

SHIPPED_PROFILES = Path(__file__).resolve().parents[3] / "config" / "profiles"
NO_PROFILE = "none"
STRICT = "dpn-strict"
"""What we build ourselves is held to."""
MAX_PROFILE_BYTES = 4 << 20

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class TagRule:
    """What one tag must be like."""

    required: bool = False
    values: tuple[str, ...] = ()
    repeatable: bool = True
    empty: bool = True
    pattern: re.Pattern[str] | None = None
    ignore_case: bool = False
    equals_bag_name: bool = False
    severity: Ruling | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile. A None list allows everything."""

    name: str
    identifier: str
    tag_rules: Mapping[str, Mapping[str, TagRule]]
    """By tag file, then label; "bag-info.txt" stands for package-info.txt too."""
    manifests_required: tuple[str, ...] = ()
    manifests_allowed: tuple[str, ...] | None = None
    tag_manifests_required: tuple[str, ...] = ()
    tag_manifests_allowed: tuple[str, ...] | None = None
    tag_files_required: tuple[str, ...] = ()
    tag_files_allowed: tuple[str, ...] | None = None
    payload_files_required: tuple[str, ...] = ()
    payload_files_allowed: tuple[str, ...] | None = None
    allow_fetch: bool = True
    fetch_required: bool = False
    data_empty: bool = False
    serialization: str = "optional"
    accept_serialization: tuple[str, ...] = ()
    accept_version: tuple[str, ...] = ()
    bag_name_pattern: re.Pattern[str] | None = None
    rulings: Mapping[str, Ruling] = field(default_factory=dict)


BAG_INFO = "bag-info.txt"


def load_profile(name_or_path: str) -> Profile | None:
    """A shipped profile by name ("dpn", "dpn-strict"), any other by its file; None for "none".

    Raises ProfileError if there is no such file or it is not a profile.
    """
    if name_or_path == NO_PROFILE:
        return None
    if re.fullmatch(r"[a-z0-9-]+", name_or_path):
        path = SHIPPED_PROFILES / f"{name_or_path}.json"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in SHIPPED_PROFILES.glob("*.json")))
            raise ProfileError(
                f"no profile {name_or_path!r} (there are: {known}, {NO_PROFILE}, or give a JSON file)"
            )
    else:
        path = Path(name_or_path)
    return parse_profile(_content(path), path.stem, str(path))


def parse_profile(content: bytes, name: str, where: str) -> Profile:
    """A profile from its JSON. Raises ProfileError that names `where`, the key and what it should be."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as reason:
        raise ProfileError(f"{where} is not JSON: {reason}") from None
    return _Reader(document, where).profile(name)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PROFILE_BYTES + 1)
    except OSError as reason:
        raise ProfileError(f"cannot read the profile {path}: {reason.strerror}") from None
    if len(content) > MAX_PROFILE_BYTES:
        raise ProfileError(f"{path} is too large for a profile")
    return content


class _Reader:
    """Takes a JSON document apart; every complaint names the file and the key."""

    def __init__(self, document: object, where: str) -> None:
        self._where = where
        self._document = self._object(document, "the whole")

    def profile(self, name: str) -> Profile:
        info = self._object(self._document.get("BagIt-Profile-Info"), "BagIt-Profile-Info")
        identifier = self._text(info.get("BagIt-Profile-Identifier"), "BagIt-Profile-Identifier")
        profile = Profile(
            name=name,
            identifier=identifier,
            tag_rules=self._tag_rules(),
            manifests_required=self._texts("Manifests-Required") or (),
            manifests_allowed=self._texts("Manifests-Allowed"),
            tag_manifests_required=self._texts("Tag-Manifests-Required") or (),
            tag_manifests_allowed=self._texts("Tag-Manifests-Allowed"),
            tag_files_required=self._texts("Tag-Files-Required") or (),
            tag_files_allowed=self._texts("Tag-Files-Allowed"),
            payload_files_required=self._texts("Payload-Files-Required") or (),
            payload_files_allowed=self._texts("Payload-Files-Allowed"),
            allow_fetch=self._flag(self._document, "Allow-Fetch.txt", default=True),
            fetch_required=self._flag(self._document, "Fetch.txt-Required", default=False),
            data_empty=self._flag(self._document, "Data-Empty", default=False),
            serialization=self._choice("Serialization", ("forbidden", "required", "optional"), "optional"),
            accept_serialization=self._texts("Accept-Serialization") or (),
            accept_version=self._texts("Accept-BagIt-Version") or (),
            bag_name_pattern=self._pattern(self._document, "Bag-Name-Pattern"),
            rulings=self._rulings(),
        )
        self._check(profile)
        return profile

    def _check(self, profile: Profile) -> None:
        """What the standard says of the sections together."""
        if not profile.accept_version:
            raise self._complaint("Accept-BagIt-Version", "a list with at least one version")
        pairs = (
            ("Manifests", profile.manifests_required, profile.manifests_allowed),
            ("Tag-Manifests", profile.tag_manifests_required, profile.tag_manifests_allowed),
        )
        for section, required, allowed in pairs:
            if allowed is not None and not set(required) <= set(allowed):
                raise self._complaint(f"{section}-Allowed", f"a list that includes {section}-Required")
        if profile.fetch_required and not profile.allow_fetch:
            raise self._complaint("Fetch.txt-Required", "false where Allow-Fetch.txt is false")

    def _tag_rules(self) -> dict[str, dict[str, TagRule]]:
        rules = {BAG_INFO: self._rules_of(self._document.get("Bag-Info", {}), "Bag-Info")}
        files = self._object(self._document.get("Tag-Files-Info", {}), "Tag-Files-Info")
        for path, tags in files.items():
            rules[path] = self._rules_of(tags, f"Tag-Files-Info: {path}")
        return rules

    def _rules_of(self, tags: object, key: str) -> dict[str, TagRule]:
        return {
            label: self._rule(self._object(rule, f"{key}: {label}"))
            for label, rule in self._object(tags, key).items()
        }

    def _rule(self, rule: Mapping[str, Any]) -> TagRule:
        severity = rule.get("severity")
        return TagRule(
            required=self._flag(rule, "required", default=False),
            values=self._list(rule.get("values", []), "values"),
            repeatable=self._flag(rule, "repeatable", default=True),
            empty=self._flag(rule, "empty", default=True),
            pattern=self._pattern(rule, "pattern"),
            ignore_case=self._flag(rule, "ignore-case", default=False),
            equals_bag_name=self._flag(rule, "equals-bag-name", default=False),
            severity=None if severity is None else self._ruling(severity, "severity"),
        )

    def _rulings(self) -> dict[str, Ruling]:
        rulings = self._object(self._document.get("Finding-Severity", {}), "Finding-Severity")
        for code in rulings:
            if code not in CATALOGUE or not CATALOGUE[code].adjustable:
                raise self._complaint(f"Finding-Severity: {code}", "the code of an adjustable finding")
        return {code: self._ruling(value, f"Finding-Severity: {code}") for code, value in rulings.items()}

    def _ruling(self, value: object, key: str) -> Ruling:
        return self._made(lambda: Ruling(str(value)), key, "error, warning or ignore")

    def _texts(self, key: str) -> tuple[str, ...] | None:
        value = self._document.get(key)
        return None if value is None else self._list(value, key)

    def _list(self, value: object, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._complaint(key, "a list of texts")
        return tuple(value)

    def _choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self._document.get(key, default)
        if value not in choices:
            raise self._complaint(key, f"one of {', '.join(choices)}")
        return str(value)

    def _flag(self, section: Mapping[str, Any], key: str, *, default: bool) -> bool:
        """A boolean; older profiles write it as a text."""
        value = section.get(key, default)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise self._complaint(key, "true or false")
        return value

    def _pattern(self, section: Mapping[str, Any], key: str) -> re.Pattern[str] | None:
        value = section.get(key)
        return None if value is None else self._made(lambda: re.compile(value), key, "a regular expression")

    def _text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or not value:
            raise self._complaint(key, "a text")
        return value

    def _object(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._complaint(key, "an object")
        return value

    def _made(self, make: Callable[[], _Item], key: str, expected: str) -> _Item:
        try:
            return make()
        except (ValueError, TypeError, re.error):
            raise self._complaint(key, expected) from None

    def _complaint(self, key: str, expected: str) -> ProfileError:
        return ProfileError(f"{self._where}: {key} must be {expected}")
