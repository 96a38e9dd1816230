"""Every way a tar can lie is a coded finding, the same whether it is read by jumping or as a stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn.bags.report import Report
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.errors import NotABag
from tests.fixtures.made_bags import (
    BLOCK,
    END,
    PAYLOAD,
    UUID,
    bag_files,
    checksums,
    header,
    member,
    members,
    pax,
    pax_record,
    tar_bag,
    with_checksum,
    write_tar,
)

DPN = load_profile("dpn")
MEBIBYTE = 1 << 20


def judged(path: Path) -> Report:
    """By both readers, which must agree."""
    jumping = validate(path, profile=DPN)
    streamed = validate(path, profile=DPN, whole_file_sha256=True, threads=1)
    assert jumping.findings == streamed.findings
    assert (jumping.valid, jumping.files, jumping.bytes) == (streamed.valid, streamed.files, streamed.bytes)
    return jumping


def error_codes(path: Path) -> set[str]:
    report = judged(path)
    codes = {finding.code for finding in report.findings if finding.severity == "error"}
    assert report.valid is not bool(codes)
    return codes


def test_the_tar_that_all_others_are_made_from_is_valid(tmp_path: Path) -> None:
    report = judged(tar_bag(tmp_path))
    assert report.valid
    assert report.findings == ()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (member(b"/etc/passwd", b"x"), "name-absolute"),
        (member(f"{UUID}/../../etc/passwd", b"x"), "name-traversal"),
        (member(f"{UUID}/data/../../../x", b"x"), "name-traversal"),
        (member(f"../{UUID}/x", b"x"), "name-traversal"),
        (member(f"{UUID}/data//x", b"x"), "name-not-normal"),
        (member(f"{UUID}/data/./x", b"x"), "name-not-normal"),
        (member(f"{UUID}/data/link", kind=b"2"), "tar-link"),
        (member(f"{UUID}/data/link", kind=b"1"), "tar-link"),
        (header(f"{UUID}/data/link".encode(), 10, b"1") + bytes(BLOCK), "tar-link"),
        (member(f"{UUID}/data/disk", kind=b"4"), "tar-device"),
        (member(f"{UUID}/data/tty", kind=b"3"), "tar-device"),
        (member(f"{UUID}/data/pipe", kind=b"6"), "tar-device"),
        (member(f"{UUID}/data/holes", b"x", kind=b"S"), "tar-sparse"),
        (pax({b"GNU.sparse.major": b"1", b"GNU.sparse.name": b"y"}) + member(f"{UUID}/x", b"x"), "tar-sparse"),
        (member(f"{UUID}/volume", kind=b"V"), "tar-special"),
        (member(f"{UUID}/data/", b"Ya.txt\0\0", kind=b"D"), "tar-special"),
        (member(f"{UUID}/data/x", b"rest", kind=b"M"), "tar-special"),
        (member(f"{UUID}/data/a.txt", b"first\n"), "tar-duplicate"),
        (member(f"{UUID}/data/folder", b""), "name-conflict"),
        (member(f"{UUID}/data/a.txt/under", b""), "name-conflict"),
        (member("another/x", b"x"), "tar-several-roots"),
        (member("stray.txt", b"x"), "tar-several-roots"),
        (member(f"._{UUID}", b"x"), "tar-several-roots"),
        (member(f"{UUID}x/data/a.txt", b"x"), "tar-several-roots"),
        (member(f"{UUID}/data/".encode() + b"\xff\xfe", b"x"), "name-not-utf8"),
        (member(f"{UUID}/data/bell\x07", b"x"), "name-control-character"),
        (member(f"{UUID}/data/literal\\u0007", b"x"), "name-control-character"),
        (pax({b"path": f"{UUID}/data/nul\0byte".encode()}) + member("x", b"x"), "name-not-normal"),
        (pax({b"path": f"{UUID}/".encode() + b"n" * 4200}) + member("x", b"x"), "name-too-long"),
        (pax({b"path": f"{UUID}/".encode() + b"d/" * 300 + b"f"}) + member("x", b"x"), "name-too-long"),
        (pax({b"path": b""}) + member(f"{UUID}/x", b"x"), "tar-ambiguous"),
        (pax({b"size": b"7"}) + member(f"{UUID}/data/x", b"x"), "tar-ambiguous"),
        (pax({b"path": b"other/x"}, b"g") + member(f"{UUID}/data/x", b"x"), "tar-ambiguous"),
        (header(f"{UUID}/data/".encode(), 512, b"5") + bytes(BLOCK), "tar-ambiguous"),
        (header(f"{UUID}/data/x/".encode(), 512, b"\0") + bytes(BLOCK), "tar-ambiguous"),
        (header(f"{UUID}/data/x/".encode(), 0, b"0"), "tar-ambiguous"),
        (pax({b"path": b"a/b"}) + pax({b"path": b"a/c"}) + member("x", b"x"), "tar-ambiguous"),
        (member("LongLink", b"a/b\0", b"L") + pax({b"path": b"a/c"}) + member("x", b"x"), "tar-ambiguous"),
        (pax(pax_record(b"path", b"a") + pax_record(b"path", b"b")) + member("x", b"x"), "tar-pax-damaged"),
        (pax(b"999 path=a\n") + member("x", b"x"), "tar-pax-damaged"),
        (pax(b"0 path=a\n") + member("x", b"x"), "tar-pax-damaged"),
        (pax(b"path=a\n") + member("x", b"x"), "tar-pax-damaged"),
        (pax(b"-5 path=a\n") + member("x", b"x"), "tar-pax-damaged"),
        (pax({b"size": b"-1"}) + member("x", b"x"), "tar-pax-damaged"),
        (pax({b"size": b"9" * 400}) + member("x", b"x"), "tar-pax-damaged"),
        (pax(b"x" * (MEBIBYTE + 1)) + member(f"{UUID}/data/x", b"x"), "tar-pax-too-large"),
        (pax({b"comment": b"x"}), "tar-truncated"),
        (header(f"{UUID}/data/x".encode(), 10**9), "tar-truncated"),
        (header(f"{UUID}/data/x".encode(), 10**25), "tar-header-damaged"),
        (header(f"{UUID}/data/x".encode(), 10**18), "tar-truncated"),
        (header(b"PaxHeader", 10**18, b"x"), "tar-truncated"),
        (header(b"name", prefix=b"prefix", magic=b"ustar  \0"), "tar-header-damaged"),
        (header(b"name", prefix=b"14722345670\0" * 2, magic=b"ustar  \0"), "tar-ambiguous"),
        (header(b"name", prefix=b"prefix", magic=bytes(8)), "tar-header-damaged"),
        (with_checksum(header(b"x")[:100] + b"mode!!!\0" + header(b"x")[108:]), "tar-header-damaged"),
        (with_checksum(header(b"x")[:136] + b"0000 000 00\0" + header(b"x")[148:]), "tar-header-damaged"),
        (with_checksum(header(b"x")[:329] + b"device!!" + header(b"x")[337:]), "tar-header-damaged"),
        (with_checksum(header(b"x")[:136] + b"\x80" + b"\xff" * 11 + header(b"x")[148:]), "tar-header-damaged"),
        (b"not a header".ljust(BLOCK, b"!"), "tar-header-damaged"),
        (with_checksum(header(b"x", 1)[:124] + b"0000000009z\0" + header(b"x", 1)[136:]), "tar-header-damaged"),
        (with_checksum(header(b"x", 1)[:124] + b"\xff" * 12 + header(b"x", 1)[136:]), "tar-header-damaged"),
        (END + b"GARBAGE", "tar-trailing-data"),
        (END + bytes(3 * MEBIBYTE) + b"\1", "tar-trailing-data"),
        (END + member(f"{UUID}/data/hidden", b"x"), "tar-trailing-data"),
    ],
)
def test_what_no_bag_may_hold_is_a_finding(tmp_path: Path, more: bytes, code: str) -> None:
    assert code in error_codes(tar_bag(tmp_path, more=more))


def test_a_wrong_checksum_in_a_header_is_a_finding(tmp_path: Path) -> None:
    good = member(f"{UUID}/data/x", b"x")
    for position in (0, 100, 130, 148, 157, 300, 511):
        bad = bytearray(good)
        bad[position] ^= 0x01
        assert error_codes(tar_bag(tmp_path, more=bytes(bad))) & {"tar-header-damaged"}, position


@pytest.mark.parametrize("cut", [1, 100, 511, 512, 513, 1023])
def test_a_tar_cut_inside_a_member_is_a_finding(tmp_path: Path, cut: int) -> None:
    whole = members(bag_files())
    tail = whole + member(f"{UUID}/data/last", b"x" * 600)
    assert "tar-truncated" in error_codes(write_tar(tmp_path, tail[:-cut] if cut != 1023 else whole + tail[:100]))


def test_a_tar_cut_between_members_lacks_files(tmp_path: Path) -> None:
    files = bag_files()
    last = files.pop("data/folder/b.bin")
    assert last
    assert error_codes(tar_bag(tmp_path, files, end=b"")) == {"payload-file-missing"}


@pytest.mark.parametrize("end", [b"", bytes(BLOCK)])
def test_a_missing_end_alone_is_a_warning_because_real_nodes_wrote_such(tmp_path: Path, end: bytes) -> None:
    report = judged(tar_bag(tmp_path, end=end))
    assert report.valid
    assert [finding.code for finding in report.findings] == ["tar-end-missing"]


def test_an_end_cut_inside_its_second_block_is_a_finding(tmp_path: Path) -> None:
    assert error_codes(tar_bag(tmp_path, end=bytes(BLOCK + 100))) == {"tar-truncated"}


@pytest.mark.parametrize("padding", [BLOCK, 10240, 5 * MEBIBYTE])
def test_zeros_after_the_end_are_nothing_to_speak_of(tmp_path: Path, padding: int) -> None:
    assert judged(tar_bag(tmp_path, end=END + bytes(padding))).findings == ()


@pytest.mark.parametrize(
    "content",
    [b"", b"x", bytes(BLOCK), bytes(20 * BLOCK), b"\x1f\x8b" + b"x" * 2000, b"PK\3\4" + b"x" * 2000, b"x" * BLOCK],
)
def test_what_is_no_tar_at_all_is_not_a_bag(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotABag):
        validate(write_tar(tmp_path, content), profile=None)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(NotABag):
        validate(tmp_path / "pipe.tar", profile=None)


def test_names_by_every_means_that_tars_have_are_the_same_names(tmp_path: Path) -> None:
    """ustar prefix, PAX path and GNU long name; with folders' own entries or without."""
    long = "data/" + "p" * 80 + "/" + "n" * 90
    files = bag_files({"data/a": b"1", long: b"2"})
    del files[long]
    name = f"{UUID}/{long}".encode()
    at = name.rindex(b"/")
    ways = {
        "prefix": header(name[at + 1 :], 1, prefix=name[:at]) + b"2".ljust(BLOCK, b"\0"),
        "pax": pax({b"path": name, b"mtime": b"1.5"}) + member(b"short", b"2"),
        "gnu": member("././@LongLink", name + b"\0", b"L") + member(name[:100], b"2"),
        "folders": member(f"{UUID}/data/", kind=b"5") + pax({b"path": name}) + member(b"short", b"2"),
        "old folders": member(f"{UUID}/empty/", kind=b"\0") + pax({b"path": name}) + member(b"short", b"2"),
        "global comment": pax({b"comment": b"x"}, b"g") + pax({b"path": name}) + member(b"short", b"2"),
    }
    for way, more in ways.items():
        assert judged(tar_bag(tmp_path, files, more=more)).findings == (), way


def test_old_and_gnu_headers_are_read(tmp_path: Path) -> None:
    files = bag_files()
    content = files.pop("data/a.txt")
    for magic in (bytes(8), b"ustar  \0"):
        more = header(f"{UUID}/data/a.txt".encode(), len(content), magic=magic) + content.ljust(BLOCK, b"\0")
        assert judged(tar_bag(tmp_path, files, more=more)).findings == ()


def test_a_leading_dot_is_a_warning_that_dpn_makes_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path, members(bag_files(), root=f"./{UUID}") + END)
    assert error_codes(path) == {"name-dot-prefix"}
    report = validate(path, profile=None)
    assert report.valid
    assert [finding.code for finding in report.findings] == ["name-dot-prefix"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("data/Photo.JPG", "data/photo.jpg"),
        ("data/caf\u00e9", "data/cafe\u0301"),
        ("data/stra\u00dfe", "data/STRASSE"),
    ],
)
def test_names_that_a_file_system_may_hold_equal_are_a_warning(tmp_path: Path, one: str, other: str) -> None:
    report = judged(tar_bag(tmp_path, bag_files({one: b"1", other: b"2"})))
    assert report.valid
    assert [finding.code for finding in report.findings] == ["name-clash"]


def test_a_bag_not_called_like_its_file_is_refused_by_dpn(tmp_path: Path) -> None:
    path = write_tar(tmp_path, members(bag_files()) + END, name="00000000-0000-4000-a000-000000000001.tar")
    codes = error_codes(path)
    assert codes == {"bag-name-mismatch", "profile-tag-value"}


def test_more_entries_than_the_limit_end_the_reading(tmp_path: Path) -> None:
    payload = {f"data/{number}": b"" for number in range(50)}
    for whole in (False, True):
        path = tar_bag(tmp_path, bag_files(payload))
        report = validate(path, profile=None, max_entries=40, whole_file_sha256=whole)
        assert not report.valid
        assert [finding.code for finding in report.findings] == ["too-many-entries"]
        assert validate(path, profile=None, max_entries=60).valid


def test_the_folder_of_a_million_folders_counts_too(tmp_path: Path) -> None:
    path = tar_bag(tmp_path, more=b"".join(member(f"{UUID}/d{number}/", kind=b"5") for number in range(50)))
    assert "too-many-entries" in {f.code for f in validate(path, profile=None, max_entries=40).findings}


def test_large_and_small_files_mixed_are_hashed_right_wherever_they_lie(tmp_path: Path) -> None:
    """Files around the sizes at which the readers change their ways, and across the edges of their windows."""
    sizes = [
        0,
        1,
        511,
        512,
        513,
        65536,
        262143,
        262144,
        262145,
        MEBIBYTE - 1,
        MEBIBYTE,
        MEBIBYTE + 1,
        3 * MEBIBYTE + 7,
    ]
    for shift in (0, 3, 700):
        payload = {
            f"data/{number:02}-{size}": bytes([number]) * (size + shift) for number, size in enumerate(sizes)
        }
        payload |= {f"data/x{number}": bytes([number % 251]) * 3000 for number in range(600)}
        report = judged(tar_bag(tmp_path, bag_files(payload, algorithms=("md5", "sha256", "sha512"))))
        assert report.findings == ()


def test_one_flipped_bit_anywhere_in_a_member_is_found(tmp_path: Path) -> None:
    content = b"\x55" * (4 * MEBIBYTE)
    path = tar_bag(tmp_path, bag_files({"data/big": content, **PAYLOAD}))
    whole = bytearray(path.read_bytes())
    start = whole.index(content)
    for position in (0, MEBIBYTE - 1, MEBIBYTE, 2 * MEBIBYTE + 5, 4 * MEBIBYTE - 1):
        whole[start + position] ^= 0x10
        path.write_bytes(whole)
        assert error_codes(path) == {"payload-checksum-mismatch"}
        whole[start + position] ^= 0x10


def test_algorithms_that_are_seen_too_late_are_computed_in_a_second_reading(tmp_path: Path) -> None:
    """Manifests in the middle of a large tar, far from both ends, with an algorithm that nobody could guess."""
    payload = {f"data/{number}": bytes([number]) * MEBIBYTE for number in range(5)}
    files = bag_files(payload, algorithms=("sha512",))
    first = dict(list(files.items())[:3])
    manifests = {name: content for name, content in files.items() if "manifest" in name}
    rest = {name: content for name, content in files.items() if name not in first and name not in manifests}
    content = members(first) + members(manifests) + members(rest)
    path = write_tar(tmp_path, content + member(f"{UUID}/data/5", bytes(MEBIBYTE)) + END)
    assert {f.code for f in validate(path, profile=None).findings} == {"payload-file-unlisted"}
    files["data/4"] = b"y" + payload["data/4"][1:]
    path = write_tar(
        tmp_path, members(first) + members(manifests) + members({**rest, "data/4": files["data/4"]}) + END
    )
    assert {f.code for f in validate(path, profile=None).findings} == {"payload-checksum-mismatch"}


def test_a_manifest_of_a_wrong_kind_of_file_proves_nothing(tmp_path: Path) -> None:
    files = bag_files(changes={"manifest-sha256.txt": None, "manifest-md5.txt": checksums(PAYLOAD, "md5")})
    assert error_codes(tar_bag(tmp_path, files)) == {"profile-manifest"}
