"""Profiles: the standard's sections, our extensions, and files that are no profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpn.bags.codes import CATALOGUE
from dpn.bags.errors import ProfileError
from dpn.bags.report import Report
from dpn.bags.validation.profiles import SHIPPED_PROFILES, load_profile, parse_profile
from dpn.bags.validation.validation import validate
from tests.fixtures.made_bags import (
    UUID,
    bag_files,
    bag_info,
    checksums,
    declaration,
    dpn_info,
    tar_bag,
    write_folder,
)

IDENTIFIER = "https://example.org/profile.json"
NAMED = {"bag-info.txt": bag_info() + f"BagIt-Profile-Identifier: {IDENTIFIER}\n".encode()}


def document(**sections: Any) -> dict[str, Any]:
    return {
        "BagIt-Profile-Info": {"BagIt-Profile-Identifier": IDENTIFIER},
        "Accept-BagIt-Version": ["0.97"],
        "Accept-Serialization": ["application/tar"],
        **{name.replace("__", "."): value for name, value in sections.items()},
    }


def judged(tmp_path: Path, sections: dict[str, Any], files: dict[str, bytes] | None = None) -> list[str]:
    profile = parse_profile(json.dumps({**document(), **sections}).encode(), "mine", "mine.json")
    path = tar_bag(tmp_path, bag_files(changes=NAMED) if files is None else files)
    report = validate(path, profile=profile)
    return [finding.code for finding in report.findings]


@pytest.mark.parametrize(
    ("sections", "code"),
    [
        ({}, None),
        ({"Serialization": "required"}, None),
        ({"Serialization": "forbidden"}, "profile-serialization"),
        ({"Accept-Serialization": ["application/zip"]}, "profile-serialization"),
        ({"Accept-BagIt-Version": ["1.0"]}, "profile-bagit-version"),
        ({"Manifests-Required": ["sha256"]}, None),
        ({"Manifests-Required": ["md5"]}, "profile-manifest"),
        ({"Manifests-Allowed": ["md5"]}, "profile-manifest"),
        ({"Manifests-Allowed": ["md5", "sha256"]}, None),
        ({"Tag-Manifests-Required": ["md5"]}, "profile-tag-manifest"),
        ({"Tag-Manifests-Allowed": ["md5"]}, "profile-tag-manifest"),
        ({"Tag-Files-Required": ["dpn-tags/dpn-info.txt"]}, None),
        ({"Tag-Files-Required": ["other.txt"]}, "profile-tag-file"),
        ({"Tag-Files-Allowed": ["dpn-tags/*"]}, None),
        ({"Tag-Files-Allowed": ["*"]}, None),
        ({"Tag-Files-Allowed": []}, "profile-tag-file"),
        ({"Payload-Files-Required": ["data/a.txt"]}, None),
        ({"Payload-Files-Required": ["data/z.txt"]}, "profile-payload-file"),
        ({"Payload-Files-Allowed": ["data/*"]}, None),
        ({"Payload-Files-Allowed": ["data/*.txt"]}, "profile-payload-file"),
        ({"Fetch.txt-Required": True}, "profile-fetch"),
        ({"Data-Empty": True}, "profile-payload-not-empty"),
        ({"Data-Empty": "false"}, None),
        ({"Bag-Info": {"Bag-Count": {"required": True}}}, None),
        ({"Bag-Info": {"Mood": {"required": True}}}, "profile-tag-missing"),
        ({"Bag-Info": {"bag-count": {"required": True}}}, None),
        ({"Bag-Info": {"Bag-Count": {"values": ["1", "2"]}}}, None),
        ({"Bag-Info": {"Bag-Count": {"values": ["2"]}}}, "profile-tag-value"),
        ({"Bag-Info": {"Bag-Count": {"values": []}}}, None),
        ({"Bag-Info": {"Contact-Name": {"empty": False}}}, "profile-tag-empty"),
        ({"Bag-Info": {"Bag-Count": {"pattern": "[0-9]"}}}, None),
        ({"Bag-Info": {"Bag-Count": {"pattern": "[2-9]"}}}, "profile-tag-value"),
        ({"Tag-Files-Info": {"dpn-tags/dpn-info.txt": {"Bag-Type": {"values": ["DATA"]}}}}, "profile-tag-value"),
        (
            {"Tag-Files-Info": {"dpn-tags/dpn-info.txt": {"Bag-Type": {"values": ["DATA"], "ignore-case": True}}}},
            None,
        ),
        ({"Tag-Files-Info": {"other.txt": {"A": {"required": True}}}}, "profile-tag-file"),
        ({"Tag-Files-Info": {"other.txt": {"A": {"required": False}}}}, None),
        ({"Bag-Name-Pattern": "[a-z]+"}, "profile-bag-name"),
        ({"Bag-Name-Pattern": "[a-f0-9-]+"}, None),
    ],
)
def test_each_section_is_held_against_the_bag(tmp_path: Path, sections: dict[str, Any], code: str | None) -> None:
    assert judged(tmp_path, sections) == ([code] if code else [])


def test_the_bag_must_name_the_profile_unless_the_profile_says_otherwise(tmp_path: Path) -> None:
    assert judged(tmp_path, {}, bag_files()) == ["profile-identifier"]
    assert judged(tmp_path, {"Finding-Severity": {"profile-identifier": "ignore"}}, bag_files()) == []


def test_a_manifest_by_another_name_is_not_where_it_is_required_and_is_where_it_is_not_allowed(
    tmp_path: Path,
) -> None:
    named = {**NAMED, "manifest-SHA1.txt": b"", "manifest-my notes.txt": b"x", "TagManifest-md5.txt": b""}
    files = bag_files(changes=named)

    def found(**sections: Any) -> list[str]:
        written = {section.replace("_", "-"): value for section, value in sections.items()}
        return [code for code in judged(tmp_path, written, files) if code.startswith("profile-")]

    assert found() == []
    assert found(Manifests_Required=["sha1"]) == ["profile-manifest"]
    assert found(Manifests_Allowed=["sha256"]) == ["profile-manifest"] * 2
    assert found(Manifests_Allowed=["sha256", "sha1", "mynotes"]) == []
    assert found(Tag_Manifests_Required=["md5"]) == ["profile-tag-manifest"]
    assert found(Tag_Manifests_Allowed=["sha256"]) == ["profile-tag-manifest"]
    assert found(Tag_Files_Allowed=["dpn-tags/*"]) == ["profile-tag-file"] * 3


@pytest.mark.parametrize("ruling", ["error", "warning", "ignore"])
def test_a_profile_rules_on_a_fetch_txt_with_nothing_left_to_fetch(tmp_path: Path, ruling: str) -> None:
    files = bag_files(changes={**NAMED, "fetch.txt": b"s3://bucket/a - data/a.txt\n"})
    profile = parse_profile(
        json.dumps(document() | {"Finding-Severity": {"fetch-not-needed": ruling}}).encode(), "mine", "mine.json"
    )
    report = validate(tar_bag(tmp_path, files), profile=profile)
    assert [str(finding.severity) for finding in report.findings] == ([] if ruling == "ignore" else [ruling])


def test_fetch_txt_may_be_forbidden(tmp_path: Path) -> None:
    files = bag_files(changes={**NAMED, "fetch.txt": b"https://example.org/a - data/a.txt\n"})
    assert judged(tmp_path, {"Allow-Fetch.txt": False}, files) == ["profile-fetch", "fetch-not-needed"]
    assert judged(tmp_path, {"Fetch.txt-Required": True}, files) == ["fetch-not-needed"]


def test_tags_must_not_repeat_where_the_profile_says_so(tmp_path: Path) -> None:
    files = bag_files(changes={"bag-info.txt": NAMED["bag-info.txt"] + b"Bag-Count: 2\n"})
    assert judged(tmp_path, {"Bag-Info": {"Bag-Count": {"repeatable": False}}}, files) == ["profile-tag-repeated"]
    assert judged(tmp_path, {"Bag-Info": {"Bag-Count": {}}}, files) == []


@pytest.mark.parametrize(
    ("rule", "line", "code"),
    [
        ({"values": ["Good"]}, "Bad", "profile-tag-value"),
        ({"pattern": "G.*"}, "Bad", "profile-tag-value"),
        ({"empty": False}, "", "profile-tag-empty"),
        ({"repeatable": False}, "one\n{label}: two", "profile-tag-repeated"),
        ({"required": True, "values": ["Good"]}, "Good", None),
    ],
)
@pytest.mark.parametrize("label", ["External-Identifier", "external-identifier", "EXTERNAL-IDENTIFIER"])
@pytest.mark.parametrize("ruled", ["External-Identifier", "external-Identifier"])
def test_rules_for_reserved_labels_hold_in_any_case(
    tmp_path: Path, rule: dict[str, Any], line: str, code: str | None, label: str, ruled: str
) -> None:
    info = NAMED["bag-info.txt"] + f"{label}: {line.format(label='External-identifier')}\n".encode()
    found = judged(tmp_path, {"Bag-Info": {ruled: rule}}, bag_files(changes={"bag-info.txt": info}))
    assert found == ([code] if code else [])


def test_labels_of_ones_own_and_of_other_tag_files_are_what_they_are_written_like(tmp_path: Path) -> None:
    info, required = NAMED["bag-info.txt"] + b"mood: calm\n", {"required": True}
    files = bag_files(changes={"bag-info.txt": info, "other.txt": b"contact-name: Ann\n"})
    assert judged(tmp_path, {"Bag-Info": {"Mood": required}}, files) == ["profile-tag-missing"]
    rules = {"other.txt": {"Contact-Name": required}}
    assert judged(tmp_path, {"Tag-Files-Info": rules}, files) == ["profile-tag-missing"]


def test_a_rule_may_be_a_warning_and_a_finding_an_error(tmp_path: Path) -> None:
    profile = document()
    profile["Bag-Info"] = {"Mood": {"required": True, "severity": "warning"}}
    report = report_of(tmp_path, profile, bag_files(changes=NAMED))
    assert report.valid
    assert report.warnings == 1
    profile["Finding-Severity"] = {"tag-file-unlisted": "error"}
    assert not report_of(tmp_path, profile, {**bag_files(changes=NAMED), "stray": b""}).valid


def report_of(tmp_path: Path, profile: dict[str, Any], files: dict[str, bytes]) -> Report:
    return validate(tar_bag(tmp_path, files), profile=parse_profile(json.dumps(profile).encode(), "p", "p.json"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be an object"),
        (b"{}", "BagIt-Profile-Info"),
        (json.dumps(document(Serialization="perhaps")).encode(), "Serialization"),
        (json.dumps(document(**{"Manifests-Required": "md5"})).encode(), "Manifests-Required"),
        (json.dumps(document(**{"Manifests-Required": [5]})).encode(), "Manifests-Required"),
        (json.dumps(document(**{"Accept-BagIt-Version": []})).encode(), "Accept-BagIt-Version"),
        (
            json.dumps(document(**{"Manifests-Required": ["md5"], "Manifests-Allowed": ["sha1"]})).encode(),
            "Manifests-Allowed",
        ),
        (
            json.dumps(document(**{"Allow-Fetch.txt": False, "Fetch.txt-Required": True})).encode(),
            "Fetch.txt-Required",
        ),
        (json.dumps(document(**{"Allow-Fetch.txt": 1})).encode(), "Allow-Fetch.txt"),
        (json.dumps(document(**{"Bag-Info": {"A": {"pattern": "("}}})).encode(), "pattern"),
        (json.dumps(document(**{"Bag-Info": {"A": {"severity": "awful"}}})).encode(), "severity"),
        (
            json.dumps(document(**{"Finding-Severity": {"payload-checksum-mismatch": "ignore"}})).encode(),
            "adjustable",
        ),
        (json.dumps(document(**{"Finding-Severity": {"no-such-code": "ignore"}})).encode(), "no-such-code"),
    ],
)
def test_what_is_no_profile_is_refused_with_file_and_key(content: bytes, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint) as refused:
        parse_profile(content, "mine", "mine.json")
    assert "mine.json" in str(refused.value)


def test_profiles_are_found_by_name_or_file(tmp_path: Path) -> None:
    assert load_profile("none") is None
    assert {path.stem for path in SHIPPED_PROFILES.glob("*.json")} == {"dpn", "dpn-strict"}
    own = tmp_path / "own.json"
    own.write_text(json.dumps(document()))
    profile = load_profile(str(own))
    assert profile is not None
    assert profile.name == "own"
    with pytest.raises(ProfileError, match="dpn, dpn-strict"):
        load_profile("unheard-of")
    with pytest.raises(ProfileError, match=r"gone\.json"):
        load_profile(str(tmp_path / "gone.json"))


def test_no_profile_can_talk_away_what_proves_the_bytes() -> None:
    integrity = {
        code for code in CATALOGUE if "checksum" in code or code.endswith("-missing") or "truncated" in code
    }
    adjustable = {code for code, kind in CATALOGUE.items() if kind.adjustable}
    assert integrity & adjustable == {"tar-end-missing", "profile-tag-missing"}


@pytest.mark.parametrize("name", ["dpn", "dpn-strict"])
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"dpn-tags/dpn-info.txt": dpn_info("00000000-0000-4000-a000-000000000001")}, "profile-tag-value"),
        ({"dpn-tags/dpn-info.txt": dpn_info().replace(b"Bag-Type: data", b"Bag-Type: cake")}, "profile-tag-value"),
        (
            {"dpn-tags/dpn-info.txt": dpn_info().replace(b"Version-Number: 1", b"Version-Number: 0")},
            "profile-tag-value",
        ),
        ({"dpn-tags/dpn-info.txt": dpn_info().replace(b"inst.example/thing-1", b"")}, "profile-tag-empty"),
        ({"dpn-tags/dpn-info.txt": dpn_info().replace(b"Local-ID", b"Local-Id")}, "profile-tag-missing"),
        ({"dpn-tags/dpn-info.txt": dpn_info() + b"Local-ID: 2\n"}, "profile-tag-repeated"),
        ({"dpn-tags/dpn-info.txt": None}, "profile-tag-file"),
        ({"bag-info.txt": None}, "profile-tag-file"),
        ({"bag-info.txt": bag_info().replace(b"Contact-Name", b"Contact")}, "profile-tag-missing"),
        ({"fetch.txt": b"https://example.org/a - data/a.txt\n"}, "profile-fetch"),
        ({"bagit.txt": declaration("0.96")}, "profile-bagit-version"),
    ],
)
def test_dpn_profiles_want_what_dpn_bags_have(
    tmp_path: Path, name: str, changes: dict[str, bytes | None], code: str | None
) -> None:
    report = validate(tar_bag(tmp_path, bag_files(changes=changes)), profile=load_profile(name))
    assert {finding.code for finding in report.findings} == ({code} if code else set())


def test_dpn_wants_sha256_and_the_strict_profile_a_tar(tmp_path: Path) -> None:
    files = bag_files(algorithms=("md5",))
    codes = {finding.code for finding in validate(tar_bag(tmp_path, files), profile=load_profile("dpn")).findings}
    assert codes == {"profile-manifest", "profile-tag-manifest"}
    folder = write_folder(tmp_path / UUID, bag_files())
    assert validate(folder, profile=load_profile("dpn")).valid
    assert [finding.code for finding in validate(folder, profile=load_profile("dpn-strict")).findings] == [
        "profile-serialization"
    ]


def test_bag_types_are_read_in_any_case_by_dpn_and_exactly_by_strict(tmp_path: Path) -> None:
    changes = {"dpn-tags/dpn-info.txt": dpn_info().replace(b"Bag-Type: data", b"Bag-Type: Data")}
    path = tar_bag(tmp_path, bag_files(changes=changes))
    assert validate(path, profile=load_profile("dpn")).valid
    assert not validate(path, profile=load_profile("dpn-strict")).valid


def test_a_folder_of_strays_passes_dpn_and_fails_strict(tmp_path: Path) -> None:
    files = {**bag_files(), "dpn-tags/._dpn-info.txt": b"x"}
    files["tagmanifest-sha256.txt"] = checksums({"bagit.txt": files["bagit.txt"]}, "sha256")
    path = tar_bag(tmp_path, files)
    lenient, strict = (validate(path, profile=load_profile(name)) for name in ("dpn", "dpn-strict"))
    assert lenient.valid
    assert {finding.code for finding in lenient.findings} == {"tag-file-unlisted", "tag-manifest-incomplete"}
    assert not strict.valid
