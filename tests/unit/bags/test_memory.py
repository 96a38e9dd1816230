"""Memory never depends on what a bag claims, nor on its size: measured as the peak of a process of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.fixtures.made_bags import BLOCK, END, UUID, bag_files, header, member, members, pax

MEBIBYTE = 1 << 20
SMALL_MEBIBYTES = 80
"""Interpreter, modules and buffers, with room to spare: what any bag may cost."""
WORKER_MEBIBYTES = 150

JUDGE = """
import json, re, sys
from pathlib import Path
from dpn.bags.validation.validation import validate
report = validate(Path(sys.argv[1]), profile=None, whole_file_sha256=sys.argv[2] == "whole", threads=2)
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"mebibytes": peak, "valid": report.valid, "errors": report.errors,
                  "codes": sorted({finding.code for finding in report.findings})}))
"""


def judged(path: Path, way: str) -> dict[str, Any]:
    child = subprocess.run(
        [sys.executable, "-c", JUDGE, str(path), way], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def hole(file: BinaryIO, size: int) -> None:
    """Zeros that take no room on disk, padded to a block."""
    file.seek(size + (-size % BLOCK), 1)


def huge_manifest(file: BinaryIO) -> None:
    """One line of 1 GiB."""
    file.write(members(bag_files(changes={"manifest-md5.txt": None})))
    file.write(header(f"{UUID}/manifest-md5.txt".encode(), 1024 * MEBIBYTE))
    hole(file, 1024 * MEBIBYTE)


def manifest_of_nothing(file: BinaryIO) -> None:
    """400,000 lines that name what is not there."""
    lines = b"".join(b"%032x  data/not/here/%d\n" % (number, number) for number in range(400_000))
    file.write(members(bag_files()) + member(f"{UUID}/manifest-md5.txt", lines))


def long_names(file: BinaryIO) -> None:
    """20,000 files with names of 4,000 bytes each, all different."""
    for number in range(20_000):
        name = f"{UUID}/data/{number:06}/".encode() + b"/".join([b"n" * 200] * 19)
        file.write(pax({b"path": name}) + member("short", b"x"))


def huge_extended_header(file: BinaryIO) -> None:
    file.write(members(bag_files()) + header(b"PaxHeader", 1024 * MEBIBYTE, b"x"))
    hole(file, 1024 * MEBIBYTE)
    file.write(member(f"{UUID}/data/x", b"x"))


def many_extended_headers(file: BinaryIO) -> None:
    """Each just small enough to be read, full of records."""
    records = {b"k%d" % number: b"v" * 40 for number in range(15_000)}
    file.write(members(bag_files()))
    for number in range(40):
        path = f"{UUID}/data/x{number}".encode()
        file.write(pax({**records, b"path": path}) + member("short", b"x"))


def claims_beyond_the_file(file: BinaryIO) -> None:
    file.write(members(bag_files()) + header(f"{UUID}/data/x".encode(), 2**60))


def huge_tag(file: BinaryIO, label: bytes) -> None:
    file.write(members(bag_files(changes={"bag-info.txt": None})))
    file.write(header(f"{UUID}/bag-info.txt".encode(), 1024 * MEBIBYTE) + label)
    hole(file, 1024 * MEBIBYTE - len(label))


def huge_tag_that_is_asked_for(file: BinaryIO) -> None:
    huge_tag(file, b"Payload-Oxum: ")


@pytest.mark.parametrize("way", ["jump", "whole"])
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (huge_manifest, "manifest-line-too-long"),
        (manifest_of_nothing, "payload-file-missing"),
        (long_names, "payload-file-unlisted"),
        (huge_extended_header, "tar-pax-too-large"),
        (many_extended_headers, "payload-file-unlisted"),
        (claims_beyond_the_file, "tar-truncated"),
        (huge_tag_that_is_asked_for, "tag-file-too-large"),
    ],
)
def test_a_bag_made_to_fill_memory_does_not(
    tmp_path: Path, make: Callable[[BinaryIO], None], code: str, way: str
) -> None:
    path = tmp_path / f"{UUID}.tar"
    with path.open("wb") as file:
        if make is long_names:
            file.write(members(bag_files()))
        make(file)
        file.write(END)
    found = judged(path, way)
    assert not found["valid"]
    assert code in found["codes"]
    assert found["mebibytes"] < SMALL_MEBIBYTES


@pytest.mark.parametrize("way", ["jump", "whole"])
def test_a_tag_of_a_gigabyte_that_nobody_asks_for_is_a_tag_and_costs_no_memory(tmp_path: Path, way: str) -> None:
    path = tmp_path / f"{UUID}.tar"
    with path.open("wb") as file:
        huge_tag(file, b"External-Description: ")
        file.write(END)
    found = judged(path, way)
    assert (found["valid"], found["codes"]) == (True, ["tag-file-unlisted"])
    assert found["mebibytes"] < SMALL_MEBIBYTES


@pytest.mark.parametrize("way", ["jump", "whole"])
def test_a_large_bag_in_few_files_costs_no_more_than_a_small_one(tmp_path: Path, way: str) -> None:
    """1 GiB, in files that are holes, so that the disk does not notice."""
    size, count = 256 * MEBIBYTE, 4
    digest = hashlib.sha256(bytes(size)).hexdigest()
    manifest = "".join(f"{digest}  data/{number}\n" for number in range(count)).encode()
    files = bag_files({}, changes={"manifest-sha256.txt": manifest})
    path = tmp_path / f"{UUID}.tar"
    with path.open("wb") as file:
        for number in range(count):
            file.write(header(f"{UUID}/data/{number}".encode(), size))
            hole(file, size)
        file.write(members(files) + END)
    found = judged(path, way)
    assert found["valid"]
    assert found["mebibytes"] < SMALL_MEBIBYTES < WORKER_MEBIBYTES


def test_a_file_costs_some_hundred_bytes_so_that_a_million_stay_below_a_gigabyte(tmp_path: Path) -> None:
    """100,000 empty files; the benchmark has the million."""
    count = 100_000
    empty = hashlib.sha256(b"").hexdigest()
    names = [f"data/folder-{number % 300:03}/file-{number:08}.bin" for number in range(count)]
    manifest = "".join(f"{empty}  {name}\n" for name in names).encode()
    path = tmp_path / f"{UUID}.tar"
    with path.open("wb") as file:
        file.write(b"".join(header(f"{UUID}/{name}".encode()) for name in names))
        file.write(members(bag_files({}, changes={"manifest-sha256.txt": manifest})) + END)
    found = judged(path, "whole")
    assert found["valid"]
    assert (found["mebibytes"] - 25) * MEBIBYTE / count < 800
