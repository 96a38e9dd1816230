"""Building from entries: names, claims, further tag files; nothing is left of a bag that cannot be."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from dpn.bags.building import entries as entries_module
from dpn.bags.building.build import BuiltBag, build_bag, build_from_entries
from dpn.bags.building.entries import Claims, Entry, FileContent, SliceContent
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.building.sinks import TarSink
from dpn.bags.building.sources import folder_entries, payload_entries
from dpn.bags.errors import BagChanged, BuiltBagInvalid, ClaimRefuted, SourceRefused
from dpn.bags.tar.size import TarSize
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted
from tests.fixtures.made_bags import UUID, write_folder

METADATA = DpnMetadata(local_id="x", ingest_node="north", bagging_date=date(2026, 1, 2))
LARGE = os.urandom((3 << 20) + 5)
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def entry(folder: Path, name: str, content: bytes, claims: Claims = Claims(), **more: object) -> Entry:  # noqa: B008
    path = folder / hashlib.sha256(name.encode()).hexdigest()
    path.write_bytes(content)
    return Entry(name.encode(), FileContent(os.fsencode(path)), claims, **more)  # type: ignore[arg-type]


def built(entries: list[Entry] | Iterator[Entry], out: Path) -> BuiltBag:
    return build_from_entries(entries, out, what="entries", metadata=METADATA, uuid=UUID)


def sums(content: bytes) -> dict[str, str]:
    return {algorithm: hashlib.new(algorithm, content).hexdigest() for algorithm in ALGORITHMS}


@pytest.mark.parametrize("content", [b"small", LARGE, b""], ids=["small", "large", "empty"])
def test_claims_that_are_true_are_verified_in_every_algorithm(tmp_path: Path, out: Path, content: bytes) -> None:
    claims = Claims(len(content), {name: digest.upper() for name, digest in sums(content).items()})
    bag = built([entry(tmp_path, "data/a", content, claims), entry(tmp_path, "data/b", b"b")], out)
    assert bag.report.valid


@pytest.mark.parametrize("content", [b"small", LARGE, b""], ids=["small", "large", "empty"])
@pytest.mark.parametrize("wrong", ["size", *ALGORITHMS])
def test_a_claim_that_is_not_true_makes_no_bag(tmp_path: Path, out: Path, content: bytes, wrong: str) -> None:
    size, digests = len(content), sums(content)
    claims = Claims(size + 1, digests) if wrong == "size" else Claims(size, {**digests, wrong: sums(b"?")[wrong]})
    with pytest.raises(ClaimRefuted, match=wrong) as refuted:
        built([entry(tmp_path, "data/z", b"fine"), entry(tmp_path, "data/a", content, claims)], out)
    assert refuted.value.claim == wrong
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_digests_are_delivered_before_the_next_entry_is_asked_for(
    tmp_path: Path, out: Path, content: bytes
) -> None:
    heard: list[dict[str, bytes]] = []

    def entries() -> Iterator[Entry]:
        yield entry(tmp_path, "data/a", content, algorithms=("md5", "sha512"), deliver=heard.append)
        assert heard == [{name: hashlib.new(name, content).digest() for name in ("md5", "sha512")}]

    built(entries(), out)
    assert heard


def test_further_tag_files_stand_in_the_tag_manifest_alone(tmp_path: Path, out: Path) -> None:
    bag = built([entry(tmp_path, "old-tags/deep/x.txt", b"x"), entry(tmp_path, "data/a", b"a")], out)
    with tarfile.open(bag.path) as tar:
        text = {
            name: (tar.extractfile(f"{UUID}/{name}-sha256.txt") or io.BytesIO()).read()
            for name in ("manifest", "tagmanifest")
        }
    assert b"old-tags/deep/x.txt" in text["tagmanifest"]
    assert b"old-tags" not in text["manifest"]
    assert bag.payload_bytes == 1


def test_part_of_a_file_is_read_where_it_lies(tmp_path: Path, out: Path) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(b"before" + LARGE + b"small" + b"after")
    with whole.open("rb") as file:
        parts = [
            Entry(b"data/large", SliceContent(file.fileno(), 6, len(LARGE), "large")),
            Entry(b"data/small", SliceContent(file.fileno(), 6 + len(LARGE), 5, "small")),
        ]
        bag = built(parts, out)
    with tarfile.open(bag.path) as tar:
        assert (tar.extractfile(f"{UUID}/data/large") or io.BytesIO()).read() == LARGE
        assert (tar.extractfile(f"{UUID}/data/small") or io.BytesIO()).read() == b"small"


UNFIT = [
    "data/../x", "/data/x", "data/bell\x07", "data//x", "data/x ", "data/%0Ax", "data/x\u00a0", "data/x\u3000",
    "data/x\u2028y", "data/x\u2029/y", "data/x\x85y", "old-tags/x\ufeff",
]  # fmt: skip


@pytest.mark.parametrize("name", UNFIT, ids=ascii)
def test_a_name_that_others_refuse_is_refused_whoever_gives_it(tmp_path: Path, out: Path, name: str) -> None:
    with pytest.raises(SourceRefused, match="cannot be bagged"):
        built([entry(tmp_path, name, b"x")], out)
    assert list(out.iterdir()) == []


def test_an_error_of_whoever_gives_the_entries_comes_out_and_nothing_is_left(tmp_path: Path, out: Path) -> None:
    def entries() -> Iterator[Entry]:
        yield entry(tmp_path, "data/a", LARGE)
        raise SourceRefused("no more")

    with pytest.raises(SourceRefused, match="no more"):
        built(entries(), out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 << 30, 5 << 40])
def test_others_read_the_size_of_a_huge_file(tmp_path: Path, size: int) -> None:
    name = "data/" + "\u00e9" * 80
    with TarSink(tmp_path / "huge.tar", UUID, 0) as sink:
        sink.begin_file(name.encode(), size)
        sink.close()
    with tarfile.open(tmp_path / "huge.tar") as tar:
        first = tar.next()
    assert first is not None
    assert (first.name, first.size) == (f"{UUID}/{name}", size)


def test_a_tars_size_is_known_beforehand_and_never_too_small(tmp_path: Path, out: Path) -> None:
    names = [
        "data/" + "n" * (3 * number + 1) + "/" + "\u00e9" * (number % 7) + str(number) for number in range(80)
    ]
    entries = [entry(tmp_path, name, bytes(number * 37)) for number, name in enumerate(names)]
    foreseen = TarSize()
    for number, name in enumerate(names):
        foreseen.add(name.encode(), number * 37)
    bag = built(entries, out)
    assert bag.size <= foreseen.bytes <= bag.size + (128 << 10)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Last written to long ago, so that a coarse clock shows every change."""
    folder = write_folder(
        tmp_path / "source", {"a.txt": b"old", "b/c.bin": LARGE, "b/d.txt": b"old", "e/f": b"old", "z.txt": b"old"}
    )
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    return folder


def when(name: bytes, happens: Callable[[], None], entries: Iterator[Entry]) -> Iterator[Entry]:
    """The same entries; before this one is read, all before it having been read, something happens."""
    for entry in entries:
        if entry.name == name:
            happens()
        yield entry


@pytest.mark.parametrize("name", ["a.txt", "b/c.bin", "b/d.txt", "e/f"])
@pytest.mark.parametrize("content", [b"NEW", b"", LARGE], ids=["as long", "shorter", "other"])
def test_a_file_written_to_in_place_after_it_was_read_makes_no_mixed_bag(
    source: Path, out: Path, name: str, content: bytes
) -> None:
    def both() -> None:
        (source / name).write_bytes(content)
        (source / "z.txt").write_bytes(content)

    with pytest.raises(BagChanged, match=name):
        built(when(b"data/z.txt", both, folder_entries(source)), out)
    assert list(out.iterdir()) == []
    assert built(folder_entries(source), out).report.valid


@pytest.mark.parametrize("name", ["a.txt", "b/c.bin"], ids=["small", "large"])
def test_a_file_written_to_in_place_in_the_moment_of_its_reading_makes_no_bag(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    inode, really_read, really_readv = (source / name).stat().st_ino, os.read, os.readv

    def overwritten(fd: int) -> None:
        if os.fstat(fd).st_ino == inode:
            with (source / name).open("r+b") as file:
                file.write(b"NEW")

    def read(fd: int, size: int) -> bytes:
        data = really_read(fd, size)
        overwritten(fd)
        return data

    def readv(fd: int, buffers: list[memoryview]) -> int:
        count = really_readv(fd, buffers)
        overwritten(fd)
        return count

    with monkeypatch.context() as patched:
        patched.setattr(entries_module.os, "read", read)
        patched.setattr(entries_module.os, "readv", readv)
        with pytest.raises(BagChanged, match=name):
            built(folder_entries(source), out)
    assert list(out.iterdir()) == []


def test_a_file_written_to_while_others_are_named_by_themselves_makes_no_mixed_bag(
    source: Path, out: Path
) -> None:
    for changed, last in (("a.txt", b"data/z.txt"), ("e/f", b"data/z.txt"), ("b/d.txt", b"data/e/f")):
        sources = [source / "a.txt", source / "b", source / "e", source / "z.txt"]
        meanwhile = when(last, lambda name=changed: (source / name).write_bytes(b"NEW"), payload_entries(sources))  # type: ignore[misc]
        with pytest.raises(BagChanged, match=changed):
            built(meanwhile, out)
        assert list(out.iterdir()) == []
        os.utime(source / changed, (1, 1))


def test_what_does_not_touch_the_content_is_no_change(source: Path, out: Path, tmp_path: Path) -> None:
    """Nor is what was written before it was read: then the whole is as it is in the end."""
    (source / "hard").hardlink_to(source / "a.txt")
    (source / "e/f").write_bytes(b"just now")

    def looked_at() -> None:
        os.utime(source / "a.txt", ns=(1, (source / "a.txt").stat().st_mtime_ns))
        (source / "b/d.txt").chmod(0o400)
        (tmp_path / "backup").hardlink_to(source / "b/c.bin")
        (source / "z.txt").write_bytes(b"before it was read")

    assert built(when(b"data/z.txt", looked_at, folder_entries(source)), out).report.valid


def test_looking_at_all_again_heeds_a_cancellation(source: Path) -> None:
    cancellation = Cancellation()
    entries = folder_entries(source, cancellation=cancellation)
    for entry in entries:
        if entry.name == b"data/z.txt":
            cancellation.cancel(Interrupted("stop"))
            break
    with pytest.raises(Interrupted):
        next(entries)


@pytest.mark.parametrize(
    ("names", "refused", "told"),
    [
        (("A", "a", "z"), "a", "'.*/A'"),
        (("\u00e9", "e\u0301", "z"), "\u00e9", r"'.*/e\\u0301'"),
        (("deep/er/A", "deep/er/a", "deep/z"), "deep/er/a", "'.*/deep/er/A'"),
        (("P/x", "a", "p/X", "z"), "p/X", "'.*/P/x'"),
        (("P/q/R/x", "P/q/y", "p/Q/r/y", "p/q/r/X", "z"), "p/q/r/X", "'.*/P/q/R/x'"),
    ],
)
def test_the_second_of_two_names_that_are_alike_is_refused_when_it_comes(
    tmp_path: Path, names: tuple[str, ...], refused: str, told: str
) -> None:
    source = write_folder(tmp_path / "alike", dict.fromkeys(names, b"x"))
    came: list[str] = []
    with pytest.raises(SourceRefused, match=f"differs from that of {told} only in case.*Rename") as error:
        came.extend(entry.name.decode().removeprefix("data/") for entry in folder_entries(source))
    assert str(error.value).startswith(ascii(f"{source}/{refused}"))
    assert came == sorted(names, key=str.encode)[: sorted(names, key=str.encode).index(refused)]


def test_folders_that_are_called_alike_and_what_the_profile_allows_are_bagged(tmp_path: Path, out: Path) -> None:
    source = write_folder(tmp_path / "fine", {"P/x": b"1", "p/y": b"2", "Q": b"3", "q/x": b"4"})
    assert built(folder_entries(source), out).report.valid
    alike = write_folder(tmp_path / "alike", {"A": b"1", "a": b"2"})
    assert build_bag(alike, out, metadata=METADATA, form="folder").report.valid
    with pytest.raises(SourceRefused, match="Rename"):
        build_bag(alike, out, metadata=METADATA)


def test_a_name_that_only_the_finished_bag_shows_to_be_alike_is_told(tmp_path: Path, out: Path) -> None:
    with pytest.raises(BuiltBagInvalid, match=r"data/twice: Differs from b'data/Twice'.* Rename one of them"):
        built([entry(tmp_path, "data/Twice", b"1"), entry(tmp_path, "data/twice", b"2")], out)
