"""One set of rules for the paths of all lists: manifests, fetch.txt, checksums beside objects in S3."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dpn.bags.errors import SourceRefused
from dpn.bags.validation.validation import validate
from dpn.packaging.s3.listing import open_listing
from dpn.packaging.s3.manifests import open_manifests
from dpn.s3.pages import ListedObject
from tests.fixtures.made_bags import bag_files, checksums, tar_bag

NAMES = ("a.txt", "100%.txt", "caf\u00e9", "sub/x y")
CONTENT = b"1"
DIGEST = hashlib.sha256(CONTENT).hexdigest()

Lister = Callable[[Path, bytes], bool]
"""Whether each path of a list, one a line, means a file that is there, and every file is meant."""


def by_manifest(tmp_path: Path, paths: bytes) -> bool:
    payload = {f"data/{name}": CONTENT for name in NAMES}
    lines = b"".join(DIGEST.encode() + b"  " + path for path in paths.splitlines(keepends=True))
    report = validate(tar_bag(tmp_path, bag_files(payload, changes={"manifest-sha256.txt": lines})), profile=None)
    return report.valid


def by_fetch_txt(tmp_path: Path, paths: bytes) -> bool:
    payload = {f"data/{name}": CONTENT for name in NAMES}
    lines = b"".join(b"s3://x/y - " + path for path in paths.splitlines(keepends=True))
    report = validate(tar_bag(tmp_path, bag_files(payload, changes={"fetch.txt": lines})), profile=None)
    return "fetch-not-needed" in {finding.code for finding in report.findings}


def by_objects_beside(tmp_path: Path, paths: bytes) -> bool:
    lines = b"".join(
        DIGEST.encode() + b"  " + path.replace(b"data/", b"", 1) for path in paths.splitlines(keepends=True)
    )
    (tmp_path / "manifest-sha256.txt").write_bytes(lines)
    keys = {**dict.fromkeys(NAMES, DIGEST), "manifest-sha256.txt": hashlib.sha256(lines).hexdigest()}
    with open_listing(tmp_path / "listing.sqlite") as listing:
        listing.fill([ListedObject(key, 1, '"e"') for key in keys], "s3://bucket/prefix/")
        listing.note_checksums([(key.encode(), {"sha256": digest}) for key, digest in keys.items()])
        try:
            with open_manifests(listing, tmp_path, "s3://bucket/prefix/") as manifests:
                return all(manifests.claimed(name.encode()) == {"sha256": DIGEST} for name in NAMES)
        except SourceRefused:
            return False


LISTERS = pytest.mark.parametrize("lister", [by_manifest, by_fetch_txt, by_objects_beside])
PLAIN = "".join(f"data/{name}\n" for name in NAMES).encode()


@LISTERS
@pytest.mark.parametrize(
    "paths",
    [
        PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r"),
        PLAIN.rstrip(b"\n"),
        PLAIN.replace(b"100%", b"100%25"),
        PLAIN.replace(b"caf\xc3\xa9", b"cafe\xcc\x81"),
        PLAIN.replace(b"data/", b"data/./"),
        PLAIN.replace(b"data/", b"./data/"),
        PLAIN.replace(b"data/", b"./data/").replace(b"caf\xc3\xa9", b"cafe\xcc\x81"),
        PLAIN.replace(b"\n", b" \n"),
        PLAIN + PLAIN,
    ],
    ids=[
        "plain", "crlf", "cr", "no last line end", "encoded", "decomposed", "a dot within", "a dot before",
        "a dot, decomposed", "blanks", "repeated",
    ],
)  # fmt: skip
def test_however_a_path_is_written_every_list_means_the_same_file(
    tmp_path: Path, lister: Lister, paths: bytes
) -> None:
    assert lister(tmp_path, paths)


@LISTERS
@pytest.mark.parametrize("path", [b"data/gone", b"data/A.TXT", b"data/cafe", b"data/../a.txt", b"/data/a.txt"])
def test_a_path_of_what_is_not_there_means_nothing(tmp_path: Path, lister: Lister, path: bytes) -> None:
    assert not lister(tmp_path, PLAIN + path + b"\n")


@pytest.mark.parametrize("change", [b"\xef\xbb\xbf", b"# sha256sum *\n", b"\n\n"], ids=["bom", "comment", "blank"])
def test_what_else_stands_in_a_list_of_checksums_is_nothing_in_any(tmp_path: Path, change: bytes) -> None:
    lines = checksums({f"data/{name}": CONTENT for name in NAMES}, "sha256")
    payload = {f"data/{name}": CONTENT for name in NAMES}
    files = bag_files(payload, changes={"manifest-sha256.txt": change + lines})
    assert validate(tar_bag(tmp_path, files), profile=None).valid
    beside = change + lines.replace(b"data/", b"*")
    assert _claims_of(tmp_path, "manifest-sha256.txt", beside) == {name: {"sha256": DIGEST} for name in NAMES}


@pytest.mark.parametrize("name", ["manifest-SHA256.txt", "manifest-sha-256.txt", "manifest-sha256.TXT"])
def test_a_list_beside_objects_is_one_in_whatever_letters_it_is_called(tmp_path: Path, name: str) -> None:
    lines = checksums(dict.fromkeys(NAMES, CONTENT), "sha256")
    assert _claims_of(tmp_path, name, lines) == {name: {"sha256": DIGEST} for name in NAMES}
    with pytest.raises(SourceRefused, match="not listed"):
        _claims_of(tmp_path, name, lines.splitlines()[0])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (f"{'0' * 64}  a.txt\n", "two checksums"),
        (f"{DIGEST}  gone\n", "not there: 'gone'"),
        ("caf\u00e9\n", "line 5 .* is not 'checksum path'"),
        (f"{DIGEST[:40]}  a.txt\n", "line 5 .* is not 'checksum path'"),
        (f"{DIGEST}  {'n' * 70_000}\n", "line 5 .* is not 'checksum path'"),
    ],
)
def test_a_list_beside_objects_that_is_none_is_refused(tmp_path: Path, lines: str, complaint: str) -> None:
    good = checksums(dict.fromkeys(NAMES, CONTENT), "sha256")
    with pytest.raises(SourceRefused, match=complaint):
        _claims_of(tmp_path, "manifest-sha256.txt", good + lines.encode())
    with pytest.raises(SourceRefused, match="not utf-8"):
        _claims_of(tmp_path, "manifest-sha256.txt", good + b"\xff")


def _claims_of(folder: Path, name: str, lines: bytes) -> dict[str, dict[str, str]]:
    (folder / name).write_bytes(lines)
    keys = {**dict.fromkeys(NAMES, DIGEST), name: hashlib.sha256(lines).hexdigest()}
    (folder / "listing.sqlite").unlink(missing_ok=True)
    with open_listing(folder / "listing.sqlite") as listing:
        listing.fill([ListedObject(key, 1, '"e"') for key in keys], "s3://bucket/prefix/")
        listing.note_checksums([(key.encode(), {"sha256": digest}) for key, digest in keys.items()])
        with open_manifests(listing, folder, "s3://bucket/prefix/") as manifests:
            assert manifests.names == (name.encode(),)
            return {one: dict(manifests.claimed(one.encode())) for one in NAMES}
