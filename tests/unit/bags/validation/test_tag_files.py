"""bagit.txt, bag-info.txt and fetch.txt, good, sloppy and hostile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.bags.findings import Findings
from dpn.bags.validation.tags import Declaration, read_declaration, read_tags
from dpn.bags.validation.text import MAX_LINE_BYTES, Lines, NotDecodable, known_encoding
from dpn.bags.validation.validation import validate
from tests.fixtures.made_bags import bag_files, checksums, declaration, tar_bag


def judged(content: bytes) -> tuple[Declaration, list[tuple[str, str]]]:
    findings = Findings()
    found = read_declaration(content, findings)
    return found, [(str(finding.severity), finding.code) for finding in findings.kept()]


@pytest.mark.parametrize("version", ["0.93", "0.94", "0.95", "0.96", "0.97", "1.0"])
def test_every_version_of_the_standard_is_known(version: str) -> None:
    assert judged(declaration(version)) == (Declaration(version, "utf-8"), [])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "declaration-malformed"),
        (b"BagIt-Version: 0.97\n", "declaration-malformed"),
        (b"Tag-File-Character-Encoding: UTF-8\n", "declaration-malformed"),
        (declaration(".97"), "declaration-malformed"),
        (declaration("0.97.1"), "declaration-malformed"),
        (declaration("one"), "declaration-malformed"),
        (declaration("0.97") + b"BagIt-Version: 1.0\n", "declaration-malformed"),
        (declaration("2.0"), "version-unsupported"),
        (declaration("0.98"), "version-unsupported"),
        (declaration(encoding=""), "declaration-malformed"),
        (declaration(encoding="klingon"), "encoding-unsupported"),
        (declaration(encoding="zlib_codec"), "encoding-unsupported"),
        (declaration(encoding="unicode_escape"), "encoding-unsupported"),
        (declaration(encoding="../../etc/passwd"), "encoding-unsupported"),
        (b"\xef\xbb\xbf" + declaration(), "declaration-bom"),
        (b"\xff\xfe" + declaration(), "declaration-malformed"),
        (declaration() + b"no colon\n", "declaration-malformed"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_an_error(content: bytes, code: str) -> None:
    assert ("error", code) in judged(content)[1]


@pytest.mark.parametrize(
    "content",
    [
        declaration().replace(b": ", b":  "),
        declaration().replace(b": ", b" : "),
        declaration().replace(b"\n", b"\r\n").rstrip(),
    ],
)
def test_loose_spacing_before_bagit_1_is_nothing_to_speak_of(content: bytes) -> None:
    assert judged(content)[1] == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b": ", b":  "),
        lambda text: text + b"Extra: 1\n",
        lambda text: b"".join(reversed(text.splitlines(keepends=True))),
        lambda text: b"\n" + text,
    ],
)
def test_from_bagit_1_the_declaration_is_exactly_its_two_lines(spoil: object) -> None:
    assert callable(spoil)
    assert judged(spoil(declaration("1.0")))[1] == [("error", "declaration-form")]
    assert ("error", "declaration-form") not in judged(spoil(declaration("0.97")))[1]


def test_labels_values_and_continuations_are_trimmed_and_kept_in_order() -> None:
    findings = Findings()
    text = b"A: 1\nB:2\n\nA :  two\n  words\n\tmore\n\nEmpty:\nUrl: http://x/y:z\n"
    tags = read_tags([text], b"bag-info.txt", Declaration(), findings)
    assert tags.pairs == (("A", "1"), ("B", "2"), ("A", "two words more"), ("Empty", ""), ("Url", "http://x/y:z"))
    assert tags.values("A") == ["1", "two words more"]
    assert tags.values("a") == []
    assert findings.errors == 0


def test_only_what_is_asked_for_is_kept() -> None:
    text = b"A: 1\nContact-Name: Ann\nB: 2\ncontact-name: Bob\n"
    tags = read_tags([text], b"bag-info.txt", Declaration(), Findings(), ["CONTACT-name", "b"])
    assert tags.pairs == (("Contact-Name", "Ann"), ("B", "2"), ("contact-name", "Bob"))
    assert tags.values("Contact-name") == ["Ann", "Bob"]


def test_a_line_without_a_colon_is_an_error_with_its_number() -> None:
    findings = Findings()
    read_tags([b"A: 1\nwhat is this\n: no label\n"], b"bag-info.txt", Declaration(), findings)
    assert [finding.message for finding in findings.kept()] == [
        "Line 2 is not 'label: value'.",
        "Line 3 is not 'label: value'.",
    ]


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (b"Payload-Oxum: 1286.2\n", None),
        (b"payload-oxum: 1286.2\n", None),
        (b"Payload-Oxum: 1286.3\n", "payload-oxum-mismatch"),
        (b"payload-oxum: 1.2\n", "payload-oxum-mismatch"),
        (b"Payload-Oxum: many\n", "payload-oxum-malformed"),
        (b"Payload-Oxum: \xc2\xb2.2\n", "payload-oxum-malformed"),
        (b"Payload-Oxum: 1286.2\nPayload-Oxum: 1286.2\n", "payload-oxum-repeated"),
        (b"Bagging-Date: 2024-02-29\n", None),
        (b"Bagging-Date: 2024-02-29T10:00:00Z\n", None),
        (b"Bagging-Date: 0001-01-01T00:00:00Z\n", "bagging-date-implausible"),
        (b"Bagging-Date: 2023-02-29\n", "bagging-date-implausible"),
        (b"Bagging-Date: yesterday\n", "bagging-date-implausible"),
        (b"x" * (2 << 20), "tag-file-malformed"),
        (b"External-Description: " + b"x" * 66_000, None),
        (b"External-Description: " + b"x" * (3 << 20) + b"\nPayload-Oxum: 1.2\n", "payload-oxum-mismatch"),
        (b"External-Description: x\n" + b" more\n" * 300_000, None),
        (b"External-Identifier: 12345678\n" * 200_000, None),
        (b"Payload-Oxum: " + b"1" * (2 << 20), "tag-file-too-large"),
        (b"Bagging-Date: \n" + b" 2024\n" * 300_000, "tag-file-too-large"),
        (b"Bagging-Date: \n" * 100_000, "tag-file-too-large"),
        (b"Name: \xff\n", "tag-file-not-decodable"),
    ],
)
def test_what_bag_info_says_is_held_against_the_bag(tmp_path: Path, info: bytes, code: str | None) -> None:
    report = validate(tar_bag(tmp_path, bag_files(changes={"bag-info.txt": info})), profile=None)
    assert [finding.code for finding in report.findings] == ([code] if code else [])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"https://example.org/a - data/a.txt\n", "fetch-not-needed"),
        (b"http://example.org/a 6 data/a.txt\r\n", "fetch-not-needed"),
        (b"\n", "fetch-not-needed"),
        (b"https://example.org/" + b"x" * 100_000 + b" - data/a.txt\n", "fetch-not-needed"),
        (b"https://example.org/a - data/gone\n", "fetch-file-missing"),
        (b"https://example.org/a - ../../../x\n", "fetch-path-unsafe"),
        (b"https://example.org/a - /etc/passwd\n", "fetch-path-unsafe"),
        (b"https://example.org/a - bagit.txt\n", "fetch-path-unsafe"),
        (b"file:///etc/passwd - data/a.txt\n", "fetch-not-needed"),
        (b"s3://bucket/a 6 data/a.txt\n", "fetch-not-needed"),
        (b"relative/path - data/a.txt\n", "fetch-not-needed"),
        (b"http://[::1 - data/a.txt\n", "fetch-not-needed"),
        (b"x - data/a.txt\rx - data/gone\r", "fetch-file-missing"),
        (b"https://example.org/a many data/a.txt\n", "fetch-malformed"),
        (b"https://example.org/a\n", "fetch-malformed"),
        (b"x" * (MAX_LINE_BYTES + 1) + b"\n", "fetch-malformed"),
        (b"x" * (1 << 20) + b" - data/a.txt\n", "fetch-malformed"),
        (b"https://example.org/\xff - data/a.txt\n", "tag-file-not-decodable"),
    ],
)
def test_fetch_txt_is_judged_and_never_followed(tmp_path: Path, line: bytes, code: str | None) -> None:
    report = validate(tar_bag(tmp_path, bag_files(changes={"fetch.txt": line})), profile=None)
    assert [finding.code for finding in report.findings] == ([code] if code else [])


@given(
    st.lists(
        st.one_of(st.binary(max_size=20), st.text(max_size=20).map(str.encode)).filter(
            lambda line: not set(line) & {10, 13}
        ),
        max_size=8,
    ),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=8, max_size=8),
    st.integers(1, 7),
)
def test_lines_are_the_same_however_the_chunks_fall(lines: list[bytes], ends: list[bytes], step: int) -> None:
    text = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    chunks = [text[at : at + step] for at in range(0, len(text), step)]
    try:
        text.decode()
    except UnicodeDecodeError:
        with pytest.raises(NotDecodable):
            list(Lines(chunks, "utf-8"))
    else:
        assert list(Lines(chunks, "utf-8")) == text.removeprefix(b"\xef\xbb\xbf").splitlines()


def test_a_line_too_long_is_cut_and_the_next_is_read() -> None:
    long = b"x" * (MAX_LINE_BYTES * 3)
    for step in (1000, MAX_LINE_BYTES, 10**6):
        text = b"one\n" + long + b"\ntwo\r\n" + long
        chunks = [text[at : at + step] for at in range(0, len(text), step)]
        cut = long[:MAX_LINE_BYTES]
        assert list(Lines(chunks, "utf-8")) == [b"one", cut, b"two", cut]


@pytest.mark.parametrize(
    "name",
    [
        "UTF-8", "utf8", "UTF-16", "UTF-32BE", "ISO-8859-1", "latin1", "US-ASCII", "Shift_JIS", "GB18030",
        "ISO-2022-JP", "ISO-2022-JP-2", "ISO-2022-KR", "Big5-HKSCS", "HZ-GB-2312", "PTCP154", "JOHAB", "TIS-620",
        "EUC-JP", "KS_C_5601-1987", "ISO_8859-1:1987", "IBM037", "hp-roman8", "KOI8-U", "macintosh",
    ],
)  # fmt: skip
def test_character_encodings_are_known_by_their_names(name: str) -> None:
    assert known_encoding(name)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("ISO-2022-JP", "\u6771\u4eac"),
        ("ISO-2022-KR", "\uc11c\uc6b8"),
        ("TIS-620", "\u0e01\u0e23"),
        ("Big5-HKSCS", "\u9999\u6e2f"),
        ("HZ-GB-2312", "\u5317\u4eac"),
        ("UTF-16", "\u6771\U0001f4be"),
        ("IBM037", "caf\u00e9"),
    ],
)
def test_a_bag_whose_tag_files_are_in_any_registered_encoding_is_read(
    tmp_path: Path, encoding: str, text: str
) -> None:
    payload, description = {f"data/{text}": b"1"}, f"External-Description: {text}\nPayload-Oxum: 1.1\n"
    tags = {
        "bagit.txt": declaration("1.0", encoding),
        "bag-info.txt": description.encode(encoding),
        "manifest-sha256.txt": checksums(payload, "sha256").decode().encode(encoding),
    }
    report = validate(tar_bag(tmp_path, {**payload, **tags}), profile=None)
    assert report.findings == ()


@pytest.mark.parametrize(
    "name", ["bz2", "zip", "hex", "rot13", "idna", "punycode", "utf-7", "raw_unicode_escape", "a\0b"]
)
def test_codecs_that_are_no_character_encodings_are_not(name: str) -> None:
    assert known_encoding(name) is None
