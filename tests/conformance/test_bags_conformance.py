"""Bags that nobody here made: the Library of Congress's conformance suite, and bags that DPN nodes exchanged."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from dpn.bags.identity import read_identity, tag_manifest_sha256
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SUITE = DATA / "bagit-conformance-suite"
DPN_BAGS = DATA / "dpn-bags"
CASES = sorted(SUITE.glob("v*/*/*"))

needs_suite = pytest.mark.skipif(not CASES, reason="the conformance suite is not at ../shared/data")
needs_dpn_bags = pytest.mark.skipif(not DPN_BAGS.is_dir(), reason="the DPN bags are not at ../shared/data")

FIXITIES = {
    "a9f7cbab-b531-4eb7-b532-770f592629ba": "fbcf91342bdd894fb55f2820dc2fce392d527ea60fd691dbef066477489820ef",
    "00000000-0000-4000-a000-000000000001": "e39a201a88bc3d7803a5e375d9752439d328c2e85b4f1ba70a6d984b6c5378bd",
    "00000000-0000-4000-a000-000000000002": "cd9c918c4ca76842febfc70ed27873c70a7e98f436bd2061e4b714092ffcae5b",
    "00000000-0000-4000-a000-000000000003": "6b0c77595fa6209c6afbf5851cb76160c8b0ae0e3cb06238b1b316c31200c7a6",
}
"""Of the tag manifests, as their registries had them."""


def name_of(case: Path) -> str:
    return "/".join(case.parts[-3:])


@needs_suite
def test_the_suite_is_there_in_full() -> None:
    assert len([case for case in CASES if case.parent.name == "invalid"]) >= 11
    assert len([case for case in CASES if case.parent.name == "valid"]) >= 26


@needs_suite
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_each_case_of_the_suite_comes_out_as_its_folder_says(case: Path) -> None:
    assert validate(case, profile=None).valid is (case.parent.name == "valid")


@needs_suite
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_each_case_comes_out_the_same_in_a_tar(case: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{case.name}.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(case, arcname=case.name)
    for whole in (False, True):
        in_tar = validate(path, profile=None, whole_file_sha256=whole)
        in_folder = validate(case, profile=None)
        assert in_tar.valid is (case.parent.name == "valid")
        assert sorted(map(str, in_tar.findings)) == sorted(map(str, in_folder.findings))


@needs_dpn_bags
@pytest.mark.parametrize("uuid", FIXITIES)
@pytest.mark.parametrize("whole", [False, True])
def test_bags_of_real_nodes_are_valid_with_the_fixity_that_their_registries_had(uuid: str, whole: bool) -> None:
    path = DPN_BAGS / f"{uuid}.tar"
    report = validate(path, profile=load_profile("dpn"), whole_file_sha256=whole)
    assert report.valid
    assert report.tag_manifest_sha256 == FIXITIES[uuid] == tag_manifest_sha256(path, uuid)
    assert read_identity(path).uuid == uuid
    assert report.sha256 == (hashlib.sha256(path.read_bytes()).hexdigest() if whole else None)


@needs_dpn_bags
def test_the_clean_bag_is_clean_but_for_its_end() -> None:
    path = DPN_BAGS / "a9f7cbab-b531-4eb7-b532-770f592629ba.tar"
    report = validate(path, profile=load_profile("dpn-strict"), whole_file_sha256=True)
    assert report.valid
    assert (report.files, report.bytes) == (10, 42122)
    assert report.sha256 == "83bca383c11aaf2ed0a75d91d4594b0755d232d3b66da85543d434ffde818d24"
    assert [finding.code for finding in report.findings] == ["tar-end-missing"]


@needs_dpn_bags
@pytest.mark.parametrize("uuid", list(FIXITIES)[1:])
def test_the_dirty_bags_pass_with_warnings_and_fail_the_strict_profile(uuid: str) -> None:
    path = DPN_BAGS / f"{uuid}.tar"
    lenient = validate(path, profile=load_profile("dpn"))
    assert {finding.code for finding in lenient.findings} == {
        "tag-file-unlisted",
        "tag-manifest-incomplete",
        "bagging-date-implausible",
    }
    strict = validate(path, profile=load_profile("dpn-strict"))
    assert not strict.valid
    assert strict.errors == lenient.warnings


@needs_dpn_bags
def test_the_same_tag_manifest_does_not_make_the_same_bag(tmp_path: Path) -> None:
    """As the one invalid fixture of the original network: its fixity alone calls it good."""
    uuid = "a9f7cbab-b531-4eb7-b532-770f592629ba"
    kept = io.BytesIO()
    with tarfile.open(DPN_BAGS / f"{uuid}.tar") as whole, tarfile.open(fileobj=kept, mode="w") as less:
        for info in whole:
            if not info.name.endswith("gen.go"):
                less.addfile(info, whole.extractfile(info))
    path = tmp_path / f"{uuid}.tar"
    path.write_bytes(kept.getvalue())
    report = validate(path, profile=load_profile("dpn"))
    assert report.tag_manifest_sha256 == FIXITIES[uuid]
    assert not report.valid
    assert report.first_error is not None
    assert report.first_error.code == "payload-file-missing"
