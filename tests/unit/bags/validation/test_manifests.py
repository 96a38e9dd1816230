"""Manifests: what proves a file, what does not, and how they may be written (RFC 8493 §2.1.3, 2.2.1, 3)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dpn.bags.report import Report
from dpn.bags.validation.profiles import STRICT, load_profile
from dpn.bags.validation.validation import validate
from tests.fixtures.made_bags import PAYLOAD, bag_files, checksums, declaration, tar_bag

MANIFEST = "manifest-sha256.txt"
GOOD = checksums(PAYLOAD, "sha256")
FIRST, SECOND = GOOD.splitlines()


def with_manifest(tmp_path: Path, manifest: bytes, *, version: str = "0.97", **more: bytes | None) -> Report:
    changes = {MANIFEST: manifest, **{name.replace("__", "/"): content for name, content in more.items()}}
    return validate(tar_bag(tmp_path, bag_files(version=version, changes=changes)), profile=None)


def codes(report: Report, severity: str = "error") -> list[str]:
    return [finding.code for finding in report.findings if finding.severity == severity]


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        (FIRST, "payload-file-unlisted"),
        (GOOD + b"0" * 64 + b"  data/gone\n", "payload-file-missing"),
        (GOOD.replace(FIRST[:64], b"0" * 64), "payload-checksum-mismatch"),
        (GOOD + b"0" * 64 + b"  data/folder\n", "payload-file-missing"),
        (GOOD + b"0" * 64 + b"  ../outside\n", "manifest-path-unsafe"),
        (GOOD + b"0" * 64 + b"  data/../../outside\n", "manifest-path-unsafe"),
        (GOOD + b"0" * 64 + b"  /etc/passwd\n", "manifest-path-unsafe"),
        (GOOD + b"0" * 64 + b"  data/" + b"n" * 5000 + b"\n", "manifest-path-unsafe"),
        (GOOD + b"0" * 64 + b"  bagit.txt\n", "manifest-path-misplaced"),
        (GOOD + b"only-one-word\n", "manifest-line-malformed"),
        (GOOD + b"xyz  data/a.txt\n", "manifest-line-malformed"),
        (GOOD + b"0" * 63 + b"  data/a.txt\n", "manifest-line-malformed"),
        (GOOD + b"0" * 32 + b"  data/a.txt\n", "manifest-line-malformed"),
        (GOOD + b"\\" + FIRST + b"\n", "manifest-line-malformed"),
        (GOOD + b"0" * 64 + b"  data/a.txt\n", "manifest-entry-conflicting"),
        (b"0" * 64 + b"  data/a.txt\n" + GOOD, "manifest-entry-conflicting"),
        (GOOD + b"0" * 64 + b"  data/" + b"n" * 70_000 + b"\n", "manifest-line-too-long"),
        (GOOD + b"0" * 64 + b"  data/\xff\xfe\n", "tag-file-not-decodable"),
    ],
)
def test_a_manifest_that_does_not_fit_the_bag_is_an_error(tmp_path: Path, manifest: bytes, code: str) -> None:
    assert code in codes(with_manifest(tmp_path, manifest))


@pytest.mark.parametrize(
    "manifest",
    [
        GOOD,
        GOOD.rstrip(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        GOOD.replace(b"  ", b" "),
        GOOD.replace(b"  ", b"\t"),
        GOOD.replace(b"  ", b" \t  "),
        SECOND + b"\n" + FIRST,
        FIRST[:64].upper() + FIRST[64:] + b"\n" + SECOND,
    ],
)
def test_the_ways_in_which_a_line_may_be_written_are_all_good(tmp_path: Path, manifest: bytes) -> None:
    assert with_manifest(tmp_path, manifest).findings == ()


@pytest.mark.parametrize(
    "manifest",
    [
        GOOD.replace(b"  data", b" *data"),
        GOOD.replace(b"  data", b"  ./data"),
        GOOD.replace(b"data/folder", b"data//folder"),
        GOOD.replace(b"a.txt", b"a.txt  "),
        b"# comment\n" + GOOD,
        b"\n" + GOOD + b"\n\n",
    ],
)
def test_what_other_tools_write_is_one_warning_a_manifest(tmp_path: Path, manifest: bytes) -> None:
    report = with_manifest(tmp_path, manifest)
    assert report.valid
    assert codes(report, "warning") == ["manifest-form"]


def test_a_file_listed_twice_alike_is_a_warning_before_bagit_1_and_an_error_from_then_on(tmp_path: Path) -> None:
    assert codes(with_manifest(tmp_path, GOOD + FIRST), "warning") == ["manifest-entry-repeated"]
    assert codes(with_manifest(tmp_path, GOOD + FIRST, version="1.0")) == ["manifest-entry-repeated"]


def test_from_bagit_1_every_manifest_lists_every_file(tmp_path: Path) -> None:
    short = {"manifest-md5.txt": checksums({"data/a.txt": PAYLOAD["data/a.txt"]}, "md5")}
    older = tar_bag(tmp_path, bag_files(changes=short))
    assert validate(older, profile=None).valid
    newer = tar_bag(tmp_path, bag_files(version="1.0", changes=short))
    report = validate(newer, profile=None)
    assert [(f.code, f.path) for f in report.findings] == [("payload-file-unlisted", "data/folder/b.bin")]


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        *((name, name) for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s")),
        ("sha3224", "sha3_224"),
        ("sha3256", "sha3_256"),
        ("sha3384", "sha3_384"),
        ("sha3512", "sha3_512"),
        ("blake2b512", "blake2b"),
    ],
)
def test_every_algorithm_finds_a_changed_file(tmp_path: Path, algorithm: str, name: str) -> None:
    manifest = "".join(
        f"{hashlib.new(name, data).hexdigest()}  {path}\n" for path, data in PAYLOAD.items()
    ).encode()
    files = bag_files(changes={MANIFEST: None, f"manifest-{algorithm}.txt": manifest})
    assert validate(tar_bag(tmp_path, files), profile=None).valid
    files["data/a.txt"] = b"First\n"
    assert codes(validate(tar_bag(tmp_path, files), profile=None)) == ["payload-checksum-mismatch"]


def test_all_manifests_must_fit_not_only_one(tmp_path: Path) -> None:
    wrong = checksums(PAYLOAD, "md5").replace(b"data/a.txt", b"data/A.txt")
    report = validate(tar_bag(tmp_path, bag_files(changes={"manifest-md5.txt": wrong})), profile=None)
    assert codes(report) == ["payload-file-missing"]


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("manifest-SHA512.txt", "sha512"),
        ("manifest-sha-1.txt", "sha1"),
        ("manifest-sha3_256.txt", "sha3_256"),
        ("manifest-SHA512.TXT", "sha512"),
        ("Manifest-md5.txt", "md5"),
        ("manifest-BLAKE2b.txt", "blake2b"),
    ],
)
def test_a_manifest_by_another_name_is_told_and_checked(tmp_path: Path, name: str, algorithm: str) -> None:
    good = checksums(PAYLOAD, algorithm)
    bag = tar_bag(tmp_path, bag_files(changes={name: good}))
    report = validate(bag, profile=None)
    assert (report.valid, codes(report, "warning")) == (True, ["manifest-misnamed"])
    strict = codes(validate(bag, profile=load_profile(STRICT)))
    assert [code for code in strict if code != "profile-manifest"] == ["manifest-misnamed"]
    wrong = good.replace(good[:8], b"00000000", 1) + good[: good.index(b" ")] + b"  data/gone\n"
    report = validate(tar_bag(tmp_path, bag_files(changes={name: wrong})), profile=None)
    assert codes(report) == ["payload-checksum-mismatch", "payload-file-missing"]


def test_a_manifest_by_another_name_counts_as_none(tmp_path: Path) -> None:
    partial = FIRST.replace(FIRST[:64], hashlib.sha512(PAYLOAD["data/a.txt"]).hexdigest().encode()) + b"\n"
    beside = bag_files(version="1.0", changes={"manifest-SHA512.txt": partial})
    assert codes(validate(tar_bag(tmp_path, beside), profile=None)) == []
    alone = validate(
        tar_bag(tmp_path, bag_files(changes={MANIFEST: None, "manifest-SHA256.txt": GOOD})), profile=None
    )
    assert codes(alone) == ["manifest-missing"]
    assert alone.first_error is not None
    assert "manifest-SHA256.txt" in alone.first_error.message
    assert not alone.payload_proven
    unlisted = {name: content for name, content in beside.items() if name != "tagmanifest-sha256.txt"}
    unlisted["tagmanifest-sha256.txt"] = beside["tagmanifest-sha256.txt"].replace(b"SHA512", b"SHA384")
    found = validate(tar_bag(tmp_path, unlisted), profile=None)
    assert "tag-file-unlisted" in codes(found, "warning")


def test_what_manifests_by_other_names_cost_does_not_grow_with_them(tmp_path: Path) -> None:
    more = {f"manifest-sha{'-' * number}512.txt": checksums(PAYLOAD, "sha512") for number in range(1, 30)}
    more["manifest-sha-512.txt"] = b"wrong\n"
    report = validate(tar_bag(tmp_path, bag_files(changes=more)), profile=None)
    assert codes(report) == ["manifest-line-malformed"]
    told = [finding.message for finding in report.findings if finding.code == "manifest-misnamed"]
    assert sorted({message.partition(",")[0] for message in told}) == [
        "Its lines are checked",
        "Its lines are not checked",
    ]
    assert len(told) == 29


def test_an_unknown_algorithm_is_a_warning_but_proves_nothing(tmp_path: Path) -> None:
    known = bag_files(changes={"manifest-crc32.txt": b"1234 data/a.txt\n"})
    assert codes(validate(tar_bag(tmp_path, known), profile=None), "warning") == ["manifest-algorithm-unknown"]
    alone = bag_files(changes={MANIFEST: None, "manifest-crc32.txt": b"1234 data/a.txt\n"})
    assert "manifest-missing" in codes(validate(tar_bag(tmp_path, alone), profile=None))


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("data/100%.txt", b"data/100%.txt", []),
        ("data/%0A", b"data/%0A", ["name-misread"]),
        ("data/line\nfeed", b"data/line%0Afeed", ["name-control-character"]),
        ("data/line\rfeed", b"data/line%0dfeed", ["name-control-character"]),
        ("data/100%.txt", b"data/100%25.txt", []),
    ],
)
def test_percent_encoding_in_the_drafts_is_literal_first(
    tmp_path: Path, name: str, line: bytes, found: list[str]
) -> None:
    manifest = checksums({"data/x": b"1"}, "sha256").replace(b"data/x", line)
    report = validate(tar_bag(tmp_path, bag_files({name: b"1"}, changes={MANIFEST: manifest})), profile=None)
    assert report.valid
    assert codes(report, "warning") == found


def test_a_draft_that_has_both_names_means_the_one_written(tmp_path: Path) -> None:
    files = bag_files({"data/a%25b": b"1", "data/a%b": b"2"})
    assert validate(tar_bag(tmp_path, files), profile=None).findings == ()
    files["data/a%25b"] = b"3"
    report = validate(tar_bag(tmp_path, files), profile=None)
    assert [(finding.code, finding.path) for finding in report.findings] == [
        ("payload-checksum-mismatch", "data/a%25b")
    ]


def test_percent_encoding_from_bagit_1_is_decoded_first(tmp_path: Path) -> None:
    for payload in ({"data/a%25b": b"1", "data/a%b": b"2"}, {"data/a%25b": b"same", "data/a%b": b"same"}):
        manifest = checksums(payload, "sha256").replace(b"%", b"%25")
        files = bag_files(payload, version="1.0", changes={MANIFEST: manifest})
        assert validate(tar_bag(tmp_path, files), profile=None).findings == ()


def test_a_name_in_another_normalisation_is_found_with_a_warning(tmp_path: Path) -> None:
    """RFC 8493 §6.1.1.3: Macs decompose names, manifests often do not."""
    composed, decomposed = "data/caf\u00e9", "data/cafe\u0301"
    manifest = checksums({composed: b"1"}, "sha256")
    report = validate(tar_bag(tmp_path, bag_files({decomposed: b"1"}, changes={MANIFEST: manifest})), profile=None)
    assert report.valid
    assert codes(report, "warning") == ["manifest-form"]
    both = {decomposed: b"1", "data/cafe\u0301\u0323": b"2", "data/caf\u1eb9\u0301": b"3"}
    files = bag_files(both, changes={MANIFEST: checksums({"data/caf\u00e9\u0323": b"2", **both}, "sha256")})
    assert "payload-file-missing" in codes(validate(tar_bag(tmp_path, files), profile=None))


@pytest.mark.parametrize(
    ("line", "version", "severity", "code"),
    [
        (b"0" * 64 + b"  data/a.txt\n", "0.97", "error", "manifest-path-misplaced"),
        (b"0" * 64 + b"  gone.txt\n", "0.97", "error", "tag-file-missing"),
        (b"0" * 64 + b"  bag-info.txt\n", "0.97", "error", "tag-checksum-mismatch"),
        (b"0" * 64 + b"  ../../x\n", "0.97", "error", "manifest-path-unsafe"),
    ],
)
def test_a_tag_manifest_that_does_not_fit_is_an_error(
    tmp_path: Path, line: bytes, version: str, severity: str, code: str
) -> None:
    files = bag_files(version=version)
    files["tagmanifest-sha256.txt"] += line
    assert code in codes(validate(tar_bag(tmp_path, files), profile=None), severity)


@pytest.mark.parametrize(("version", "severity"), [("0.97", "warning"), ("1.0", "error")])
def test_a_tag_manifest_without_the_payload_manifest_does_not_protect_the_payload(
    tmp_path: Path, version: str, severity: str
) -> None:
    files = bag_files(version=version)
    lines = files["tagmanifest-sha256.txt"].splitlines(keepends=True)
    files["tagmanifest-sha256.txt"] = b"".join(line for line in lines if b"manifest-" not in line)
    report = validate(tar_bag(tmp_path, files), profile=None)
    assert codes(report, severity) == ["tag-manifest-incomplete"]
    assert report.valid is (severity == "warning")
    assert not report.payload_proven


@pytest.mark.parametrize(
    ("algorithms", "unlisted", "proven"),
    [
        (("sha256",), b"", True),
        (("sha256", "md5"), b"manifest-md5", True),
        (("sha256", "md5"), b"manifest-sha256", False),
        (("md5", "sha256"), b"manifest-", False),
    ],
)
def test_the_digest_proves_the_payload_where_a_strong_manifest_of_it_is_listed(
    tmp_path: Path, algorithms: tuple[str, ...], unlisted: bytes, proven: bool
) -> None:
    files = bag_files(algorithms=algorithms)
    if unlisted:
        lines = files["tagmanifest-sha256.txt"].splitlines(keepends=True)
        files["tagmanifest-sha256.txt"] = b"".join(line for line in lines if unlisted not in line)
    assert validate(tar_bag(tmp_path, files), profile=None).payload_proven is proven


@pytest.mark.parametrize(
    ("more", "proven"),
    [
        ({}, True),
        ({"dpn-tags/added.txt": b"said by nobody\n"}, False),
        ({"manifest-md5.txt": checksums(PAYLOAD, "md5")}, False),
        ({"tagmanifest-md5.txt": b""}, True),
    ],
)
def test_the_digest_proves_the_tags_where_each_is_listed(
    tmp_path: Path, more: dict[str, bytes], proven: bool
) -> None:
    assert validate(tar_bag(tmp_path, {**bag_files(), **more}), profile=None).tags_proven is proven


def test_a_payload_file_that_only_an_unlisted_manifest_names_is_not_proven(tmp_path: Path) -> None:
    files = bag_files(changes={"manifest-md5.txt": checksums(PAYLOAD, "md5")})
    assert validate(tar_bag(tmp_path, files), profile=None).payload_proven
    some = {"data/a.txt": PAYLOAD["data/a.txt"]}
    files = bag_files(changes={"manifest-sha256.txt": checksums(some, "sha256")})
    files["manifest-md5.txt"] = checksums(PAYLOAD, "md5")
    report = validate(tar_bag(tmp_path, files), profile=None)
    assert report.valid
    assert not report.payload_proven


def test_stray_tag_files_are_warnings(tmp_path: Path) -> None:
    files = {**bag_files(), "._tagmanifest-sha256.txt": b"x", "dpn-tags/dpn-info.txt~": b"y"}
    report = validate(tar_bag(tmp_path, files), profile=None)
    assert codes(report, "warning") == ["tag-file-unlisted"] * 2


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "UTF-32", "ISO-8859-1", "windows-1252", "utf-8"])
def test_manifests_in_any_declared_encoding_are_read(tmp_path: Path, encoding: str) -> None:
    payload = {"data/caf\u00e9": b"1"}
    recoded = {
        name: content.decode().encode(encoding)
        for name, content in bag_files(payload).items()
        if name in ("bag-info.txt", MANIFEST)
    }
    files = bag_files(payload, changes={"bagit.txt": declaration(encoding=encoding), **recoded})
    files["tagmanifest-sha256.txt"] = files["tagmanifest-sha256.txt"].decode().encode(encoding)
    assert validate(tar_bag(tmp_path, files), profile=None).findings == ()


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    assert codes(with_manifest(tmp_path, b"\xef\xbb\xbf" + GOOD), "warning") == ["tag-file-bom"]
    assert codes(with_manifest(tmp_path, b"\xef\xbb\xbf" + GOOD, version="1.0")) == ["tag-file-bom"]


def test_findings_are_capped_and_counts_are_not(tmp_path: Path) -> None:
    manifest = GOOD + b"".join(b"%064x  data/gone-%d\n" % (number, number) for number in range(3000))
    report = with_manifest(tmp_path, manifest)
    assert report.errors == 3000
    assert len(report.findings) == 500


def test_an_empty_payload_needs_its_folder(tmp_path: Path) -> None:
    from tests.fixtures.made_bags import END, UUID, member, members, write_tar

    files = bag_files({})
    assert codes(validate(tar_bag(tmp_path, files), profile=None)) == ["payload-directory-missing"]
    content = members(files) + member(f"{UUID}/data/", kind=b"5") + END
    assert validate(write_tar(tmp_path, content), profile=None).findings == ()


@pytest.mark.parametrize("name", ["data/x\u00a0", "data/x\u3000", "data/x ", "data/x\u2028y/z"], ids=ascii)
def test_a_name_that_others_misread_is_read_rightly_and_told(tmp_path: Path, name: str) -> None:
    bag = tar_bag(tmp_path, bag_files({name: b"1"}))
    report = validate(bag, profile=load_profile("dpn"))
    assert (report.valid, codes(report, "warning")) == (True, ["name-misread"])
    assert codes(validate(bag, profile=load_profile(STRICT))) == ["name-misread"]


def test_a_folder_whose_name_ends_in_a_blank_is_as_good_as_any(tmp_path: Path) -> None:
    bag = tar_bag(tmp_path, bag_files({"data/blank /a": b"1"}))
    assert validate(bag, profile=load_profile(STRICT), strict=True).findings == ()
