"""2,000 generated bags and mutations, judged by us and by bagit-python: where the two disagree, the RFC says why.

We judge every bag three times (folder, tar by jumping, tar as a stream), with one result; they judge the folder.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import bagit
import pytest

from dpn.bags.report import Report
from dpn.bags.validation.validation import validate
from tests.fixtures.in_full import some_of
from tests.fixtures.made_bags import END, checksums, declaration, member, members

BAGS = 2000
BAGS_PER_TEST = 250
NAME = "bag"
Files = dict[str, bytes]

When = Callable[[Files], bool]


def version_of(files: Files) -> str:
    found = re.search(rb"BagIt-Version *: *([0-9.]+)", files.get("bagit.txt", b""), re.IGNORECASE)
    return found[1].decode() if found else ""


def always(_: Files) -> bool:
    return True


def final(files: Files) -> bool:
    return version_of(files) == "1.0"


def before_097(files: Files) -> bool:
    return version_of(files) < "0.97"


def oxum_label_differs(files: Files) -> bool:
    return not re.search(rb"^Payload-Oxum *:", files.get("bag-info.txt", b""), re.MULTILINE)


STRICTER: dict[str, tuple[str, When]] = {
    "manifest-line-malformed": (
        "RFC 8493 §2.1.3: each line MUST be 'checksum filepath'; they skip others",
        always,
    ),
    "manifest-path-misplaced": (
        "RFC 8493 §2.1.3, 2.2.1: payload manifests list payload, tag manifests none",
        always,
    ),
    "declaration-malformed": ("RFC 8493 §2.1.1: version and encoding once, MAJOR.MINOR", always),
    "version-unsupported": ("no such version was ever published", always),
    "payload-file-unlisted": ("RFC 8493 §3: from 1.0 every payload file stands in every manifest", final),
    "declaration-form": ("RFC 8493 §2.1.1: from 1.0 exactly two lines in this order", final),
    "tag-manifest-incomplete": ("RFC 8493 §2.2.1: from 1.0 a tag manifest lists every payload manifest", final),
    "payload-oxum-repeated": ("RFC 8493 §2.2.2: from 1.0 Payload-Oxum MUST NOT be repeated", final),
    "tag-file-bom": ("RFC 8493 §2.3: from 1.0 no byte-order mark in UTF-8", final),
    "payload-oxum-mismatch": ("RFC 8493 §2.2.2: reserved labels are the same in any case", oxum_label_differs),
    "payload-oxum-malformed": ("RFC 8493 §2.2.2: reserved labels are the same in any case", oxum_label_differs),
    "tag-file-malformed": ("RFC 8493 §2.2.2: a label is not empty; a continuation continues something", always),
    "tag-checksum-mismatch": ("the drafts want tag manifests verified; they ignore them below 0.97", before_097),
    "manifest-path-unsafe": ("the drafts want tag manifests verified; they ignore them below 0.97", before_097),
    "tag-file-missing": ("the drafts want tag manifests verified; they ignore them below 0.97", before_097),
    "tag-file-not-decodable": (
        "RFC 8493 §2.3: text in the declared encoding; they ignore tag manifests below 0.97",
        before_097,
    ),
    "encoding-unsupported": (
        "RFC 8493 §2.1.1: a character encoding; Python's codecs include other things",
        always,
    ),
}
"""Errors of ours that make a bag invalid which bagit-python calls valid: why, and when that is an excuse."""

LOOSER: dict[str, When] = {
    "only LF, CR and CRLF end a line (RFC 8493 §2.3); Python's splitlines knows more": lambda files: any(
        set(content.decode("utf-8", "replace")) & set("\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        for name, content in files.items()
        if not name.startswith("data/")
    ),
    "white space around a name belongs to it (RFC 8493 §2.1.3)": lambda files: any(
        name != name.strip() for name in files
    ),
    "in the drafts a '%' may be just that": lambda files: any("%0" in name for name in files),
}
"""Why we may call a bag valid that bagit-python does not."""


def a_bag(chance: random.Random) -> Files:
    """A valid bag of any version, size, names and algorithms."""
    version = chance.choice(["0.97"] * 6 + ["1.0"] * 4 + ["0.96", "0.93"])
    names = [
        "data/a.txt",
        "data/b/c.txt",
        "data/d e.txt",
        "data/\u00fc/x",
        "data/.hidden",
        "data/b/100%.bin",
        "data/z",
    ]
    payload = {name: chance.randbytes(chance.choice([0, 1, 50, 3000])) for name in names[: chance.randint(1, 7)]}
    algorithms = chance.sample(["md5", "sha1", "sha256", "sha512"], chance.randint(1, 3))
    oxum = f"{sum(map(len, payload.values()))}.{len(payload)}"
    info = "package-info.txt" if version < "0.96" else "bag-info.txt"
    tags = {
        "bagit.txt": declaration(version),
        info: f"Source-Organization: somebody\nPayload-Oxum: {oxum}\nNote: a\n  b\nNote: c\n".encode(),
        **{f"manifest-{algorithm}.txt": checksums(payload, algorithm) for algorithm in algorithms},
    }
    if chance.random() < 0.3:
        tags["more-tags/info.txt"] = b"Any: thing\n"
    tag_manifests = {}
    if chance.random() < 0.8:
        tag_manifests = {f"tagmanifest-{algorithm}.txt": checksums(tags, algorithm) for algorithm in algorithms}
    return {**payload, **tags, **tag_manifests}


def flip_a_bit(files: Files, chance: random.Random) -> None:
    name = chance.choice([name for name, content in files.items() if content] or ["bagit.txt"])
    content = bytearray(files[name])
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    files[name] = bytes(content)


def drop_a_file(files: Files, chance: random.Random) -> None:
    del files[chance.choice(list(files))]


def add_a_file(files: Files, chance: random.Random) -> None:
    name = chance.choice(
        ["data/new", "data/b/new", "new.txt", "tags/new", "manifest-sha224.txt", "manifest-x.txt"]
    )
    files.setdefault(name, chance.choice([b"", b"new\n"]))


def rename_a_file(files: Files, chance: random.Random) -> None:
    old = chance.choice(list(files))
    files[old + chance.choice(["x", "~", ".bak"])] = files.pop(old)


def change_the_lines(
    change: Callable[[list[bytes], random.Random], None],
) -> Callable[[Files, random.Random], None]:
    def mutate(files: Files, chance: random.Random) -> None:
        name = chance.choice([name for name in files if name.endswith(".txt") and not name.startswith("data/")])
        lines = files[name].splitlines(keepends=True)
        change(lines, chance)
        files[name] = b"".join(lines)

    mutate.__name__ = change.__name__
    return mutate


def drop_a_line(lines: list[bytes], chance: random.Random) -> None:
    if lines:
        del lines[chance.randrange(len(lines))]


def repeat_a_line(lines: list[bytes], chance: random.Random) -> None:
    if lines:
        lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def reorder_the_lines(lines: list[bytes], chance: random.Random) -> None:
    chance.shuffle(lines)


def end_the_lines_otherwise(lines: list[bytes], chance: random.Random) -> None:
    end = chance.choice([b"\r\n", b"\r"])
    lines[:] = [line.rstrip(b"\n") + end for line in lines]


def write_in_capitals(lines: list[bytes], chance: random.Random) -> None:
    if lines:
        at = chance.randrange(len(lines))
        word, space, rest = lines[at].partition(b" ")
        lines[at] = word.upper() + space + rest


def add_a_line(lines: list[bytes], chance: random.Random) -> None:
    lines.append(
        chance.choice(
            [
                b"\n",
                b"# comment\n",
                b"word\n",
                b"0123  data/gone\n",
                b"0" * 64 + b"  data/a.txt\n",
                b"A: b\n",
                b"0" * 32 + b"  ../../outside\n",
                b"d41d8cd98f00b204e9800998ecf8427e  ./data/a.txt\n",
                b"   \n",
            ]
        )
    )


def cut_the_end(lines: list[bytes], chance: random.Random) -> None:
    if lines:
        lines[-1] = lines[-1][: chance.randrange(len(lines[-1]) + 1)]


def as_md5sum_writes(lines: list[bytes], chance: random.Random) -> None:
    if chance.random() < 0.5:
        lines[:] = [line.replace(b"  ", b" *", 1) for line in lines]
    else:
        lines[:] = [line.replace(b"  ", b"  ./", 1) for line in lines]


def begin_with_a_bom(lines: list[bytes], _: random.Random) -> None:
    if lines:
        lines[0] = b"\xef\xbb\xbf" + lines[0]


MUTATIONS = [
    flip_a_bit,
    drop_a_file,
    add_a_file,
    rename_a_file,
    *map(
        change_the_lines,
        [
            drop_a_line, repeat_a_line, reorder_the_lines, end_the_lines_otherwise, write_in_capitals, add_a_line,
            cut_the_end, as_md5sum_writes, begin_with_a_bom,
        ],
    ),
]  # fmt: skip


def case(number: int) -> tuple[Files, list[str]]:
    """One bag in eight untouched, the others with one or two mutations."""
    chance = random.Random(number)
    files = a_bag(chance)
    done = []
    for _ in range(chance.choice([0, 1, 1, 1, 1, 1, 2, 2])):
        mutation = chance.choice(MUTATIONS)
        mutation(files, chance)
        done.append(mutation.__name__)
    return files, done


def theirs(folder: Path) -> str | None:
    """What bagit-python complains of; None if it calls the bag valid. It may fail in any way on a broken one."""
    try:
        bagit.Bag(str(folder)).validate()
    except Exception as complaint:  # noqa: BLE001 - UnicodeDecodeError, ValueError, … are verdicts too
        return f"{type(complaint).__name__}: {complaint}"
    return None


def ours(folder: Path, files: Files) -> Report:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "data").mkdir(exist_ok=True)
    tar = folder.with_suffix(".tar")
    tar.write_bytes(member(f"{NAME}/data/", kind=b"5") + members(files, NAME) + END)
    judged = [
        validate(folder, profile=None, threads=1),
        validate(tar, profile=None, threads=1),
        validate(tar, profile=None, threads=1, whole_file_sha256=True),
    ]
    assert judged[1].sha256 is None
    assert judged[2].sha256 == hashlib.sha256(tar.read_bytes()).hexdigest()
    assert len({(tuple(sorted(map(str, report.findings))), report.tag_manifest_sha256) for report in judged}) == 1
    return judged[0]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("bagit").setLevel(logging.CRITICAL)


@pytest.mark.parametrize("first", some_of(range(0, BAGS, BAGS_PER_TEST), often=4))
def test_we_agree_with_bagit_python_or_the_rfc_says_why_not(first: int, tmp_path: Path) -> None:
    disagreements, valid = [], 0
    for number in range(first, first + BAGS_PER_TEST):
        files, mutations = case(number)
        folder = tmp_path / str(number) / NAME
        folder.mkdir(parents=True)
        report, complaint = ours(folder, files), theirs(folder)
        valid += report.valid
        if report.valid is not (complaint is None) and not explained(report, files):
            disagreements.append((number, mutations, complaint, [str(f) for f in report.findings]))
        shutil.rmtree(folder.parent)
    assert disagreements == []
    assert BAGS_PER_TEST * 0.2 < valid < BAGS_PER_TEST * 0.8, (
        "the generator makes only good bags, or only bad ones"
    )


def explained(report: Report, files: Files) -> bool:
    if report.valid:
        return any(applies(files) for applies in LOOSER.values())
    errors = {finding.code for finding in report.findings if finding.severity == "error"}
    return all(code in STRICTER and STRICTER[code][1](files) for code in errors)
