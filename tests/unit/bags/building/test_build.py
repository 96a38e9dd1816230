"""Building: valid, deterministic, each byte of the source read once, nothing left behind by a failure."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import bagit
import pytest

from dpn.bags.building import entries as entries_module
from dpn.bags.building import sources as sources_module
from dpn.bags.building.build import build_bag, build_from_entries
from dpn.bags.building.builder import Form
from dpn.bags.building.entries import Entry
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.errors import BagChanged, BuiltBagInvalid, SourceRefused
from dpn.bags.identity import BagIdentity, read_identity, tag_manifest_sha256
from dpn.bags.validation.profiles import STRICT, load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted
from tests.fixtures.made_bags import UUID, write_folder

METADATA = DpnMetadata(local_id="inst.example/thing-1", ingest_node="north", bagging_date=date(2024, 1, 2))
FILES = {
    "a.txt": b"first\n",
    "big.bin": bytes(range(256)) * 20_000,
    "empty": b"",
    "folder/deep/er/x": b"1",
    "caf\u00e9/\u65e5\u672c.txt": b"2",
    "p" * 90 + "/" + "n" * 200: b"3",
    "100%25.txt": b"4",
    " two  spaces": b"5",
    ".hidden": b"6",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source", FILES)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_built_bag_is_valid_by_the_strict_profile_and_says_so(source: Path, out: Path) -> None:
    bag = build_bag(source, out, metadata=METADATA, uuid=UUID)
    assert bag.path == out / f"{UUID}.tar"
    assert bag.report.valid
    assert bag.report.findings == ()
    assert bag.report.path == bag.path
    content = bag.path.read_bytes()
    assert (bag.size, bag.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert bag.tag_manifest_sha256 == tag_manifest_sha256(bag.path, UUID)
    assert bag.payload_bytes == sum(map(len, FILES.values()))
    assert validate(bag.path, profile=load_profile("dpn-strict")).valid
    assert [path.name for path in out.iterdir()] == [bag.path.name]


def test_others_read_the_tar_and_find_every_file_as_it_was(source: Path, out: Path, tmp_path: Path) -> None:
    bag = build_bag(source, out, metadata=METADATA)
    with tarfile.open(bag.path) as tar:
        assert len(tar.getnames()) == len(FILES) + 5
        tar.extractall(tmp_path)  # noqa: S202  (a tar of our own; Python 3.11.2 knows no filter)
    found = {name: (tmp_path / bag.uuid / "data" / name).read_bytes() for name in FILES}
    assert found == FILES
    assert bagit.Bag(str(tmp_path / bag.uuid)).is_valid()


def test_the_same_input_makes_the_same_bytes(source: Path, out: Path, tmp_path: Path) -> None:
    one = build_bag(source, out, metadata=METADATA, uuid=UUID).path.read_bytes()
    copy = write_folder(tmp_path / "copy", dict(reversed(FILES.items())))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    (tmp_path / "elsewhere").mkdir()
    other = build_bag(copy, tmp_path / "elsewhere", metadata=METADATA, uuid=UUID).path.read_bytes()
    assert one == other


def test_the_order_in_which_the_disk_lists_files_does_not_matter(
    source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = build_bag(source, out, metadata=METADATA, uuid=UUID).path.read_bytes()
    really = os.scandir

    @contextmanager
    def backwards(path: bytes) -> Iterator[list[os.DirEntry[bytes]]]:
        with really(path) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(sources_module.os, "scandir", backwards)
    (tmp_path / "elsewhere").mkdir()
    assert build_bag(source, tmp_path / "elsewhere", metadata=METADATA, uuid=UUID).path.read_bytes() == one


def test_names_beyond_ascii_stand_in_extended_headers_as_the_format_wants(source: Path, out: Path) -> None:
    with tarfile.open(build_bag(source, out, metadata=METADATA, uuid=UUID).path) as tar:
        extended = {info.name for info in tar if "path" in info.pax_headers}
    assert extended == {f"{UUID}/data/caf\u00e9/\u65e5\u672c.txt", f"{UUID}/data/{'p' * 90}/{'n' * 200}"}


def test_a_folder_can_be_built_with_the_same_tag_manifest(source: Path, out: Path) -> None:
    folder = build_bag(source, out, metadata=METADATA, uuid=UUID, form="folder")
    tar = build_bag(source, out, metadata=METADATA, uuid=UUID)
    assert folder.path == out / UUID
    assert folder.tag_manifest_sha256 == tar.tag_manifest_sha256
    assert folder.sha256 is None
    assert bagit.Bag(str(folder.path)).is_valid()


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_nothing_is_ever_overwritten(source: Path, out: Path, form: str) -> None:
    bag = build_bag(source, out, metadata=METADATA, uuid=UUID, form=form)  # type: ignore[arg-type]
    with pytest.raises(FileExistsError):
        build_bag(source, out, metadata=METADATA, uuid=UUID, form=form)  # type: ignore[arg-type]
    assert validate(bag.path, profile=None).valid


def test_several_sources_stand_under_their_own_names(source: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "single.txt").write_bytes(b"alone")
    bag = build_bag([tmp_path / "single.txt", source], out, metadata=METADATA)
    with tarfile.open(bag.path) as tar:
        names = tar.getnames()
    assert f"{bag.uuid}/data/single.txt" in names
    assert f"{bag.uuid}/data/source/a.txt" in names
    (tmp_path / "other/source").mkdir(parents=True)
    with pytest.raises(SourceRefused, match="two sources"):
        build_bag([source, tmp_path / "other/source"], out, metadata=METADATA)


def test_empty_folders_are_kept_as_tars_can(source: Path, out: Path) -> None:
    (source / "nothing/here").mkdir(parents=True)
    with tarfile.open(build_bag(source, out, metadata=METADATA, uuid=UUID).path) as tar:
        assert tar.getmember(f"{UUID}/data/nothing/here").isdir()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (b"bell\x07", "control"),
        (b"line\nfeed", "control"),
        (b"not-\xff-utf8", "UTF-8"),
        (b"end ", "white"),
        (b"%0A", "encoded"),
    ],
)
def test_names_that_other_nodes_refuse_are_refused_at_once(
    source: Path, out: Path, name: bytes, complaint: str
) -> None:
    with open(os.fsencode(source) + b"/" + name, "wb"):  # noqa: PTH123 - bytes
        pass
    with pytest.raises(SourceRefused, match=complaint):
        build_bag(source, out, metadata=METADATA)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("form", ["tar", "folder"])
@pytest.mark.parametrize("where", ["", "folder/deep", "../a link", "not/there/yet", "folder/../folder"])
@pytest.mark.parametrize("several", [False, True])
def test_a_bag_is_never_built_in_its_own_source(
    source: Path, tmp_path: Path, form: Form, where: str, several: bool
) -> None:
    (tmp_path / "a link").symlink_to(source / "folder")
    (tmp_path / "source itself").symlink_to(source)
    sources = [tmp_path / "source itself", source / "a.txt"] if several else [source]
    before = sorted(source.rglob("*"))
    with pytest.raises(SourceRefused, match="which is to be bagged"):
        build_bag(sources, source / where, metadata=METADATA, form=form)
    assert sorted(source.rglob("*")) == before


def test_a_source_may_lie_where_its_bag_appears(source: Path) -> None:
    assert build_bag(source, source.parent, metadata=METADATA).report.valid
    assert build_bag([source / "a.txt", source / "empty"], source, metadata=METADATA).files == 7


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "broken link", "pipe"])
def test_what_is_neither_file_nor_folder_is_refused(source: Path, out: Path, kind: str) -> None:
    odd = source / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to({"link to a file": "a.txt", "link to a folder": "folder", "broken link": "gone"}[kind])
    with pytest.raises(SourceRefused, match="odd"):
        build_bag(source, out, metadata=METADATA)
    assert list(out.iterdir()) == []


def test_an_empty_source_makes_no_bag(out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/folder").mkdir(parents=True)
    with pytest.raises(SourceRefused, match="no file"):
        build_bag(tmp_path / "empty", out, metadata=METADATA)


@pytest.mark.parametrize(
    "metadata",
    [
        replace(METADATA, bag_type="cake"),
        replace(METADATA, local_id="two\nlines"),
        replace(METADATA, version=0),
        replace(METADATA, version=2),
        replace(METADATA, version=1, first_version_uuid="00000000-0000-4000-a000-000000000001"),
        replace(METADATA, more_bag_info=(("Bad:Label", "x"),)),
        replace(METADATA, contact_name=" padded "),
        replace(METADATA, contact_name="padded\u3000"),
        replace(METADATA, organization_address="one\x85two"),
        replace(METADATA, contact_email="\u202egro.elpmaxe@a"),
        replace(METADATA, local_id="nil"),
        replace(METADATA, rights=("no uuid",)),
        replace(METADATA, more_bag_info=(("Bag-Count", "2"),)),
    ],
)
def test_metadata_that_no_bag_can_carry_is_refused_before_anything_is_read(
    source: Path, out: Path, metadata: DpnMetadata
) -> None:
    def entries() -> Iterator[Entry]:
        raise AssertionError("the source was asked for")
        yield

    with pytest.raises(SourceRefused):
        build_from_entries(entries(), out, what="nothing", metadata=metadata)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("size", [65_535, 66_000, 3 << 20])
def test_a_tag_may_be_of_any_length(source: Path, out: Path, size: int) -> None:
    metadata = replace(METADATA, more_bag_info=(("External-Description", "x" * size),))
    assert build_bag(source, out, metadata=metadata).report.warnings == 0


def test_tags_hold_text_of_any_language(source: Path, out: Path) -> None:
    said = (
        "no\u00a0break \u6771\u4eac\u3000\u5927 \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f469 co\u00adop "
        "\u05d0\u200f \U0001fae8"
    )
    metadata = replace(METADATA, local_id=said, more_bag_info=(("External-Description", said),))
    bag = build_bag(source, out, metadata=metadata)
    assert bag.report.valid
    assert read_identity(bag.path).local_id == said


def test_a_bag_that_does_not_validate_is_removed(source: Path, out: Path) -> None:
    strict = load_profile(STRICT)
    assert strict is not None
    with pytest.raises(BuiltBagInvalid, match="data/gone: Required and missing"):
        build_bag(source, out, metadata=METADATA, profile=replace(strict, payload_files_required=("data/gone",)))
    assert list(out.iterdir()) == []


def test_a_source_that_changes_while_it_is_read_makes_no_bag(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.readv

    def growing(fd: int, buffers: list[memoryview]) -> int:
        count = really(fd, buffers)
        with (source / "big.bin").open("ab") as file:
            file.write(b"more")
        return count

    monkeypatch.setattr(entries_module.os, "readv", growing)
    with pytest.raises(BagChanged, match=r"big\.bin"):
        build_bag(source, out, metadata=METADATA)
    assert list(out.iterdir()) == []


def test_building_can_be_cancelled_and_leaves_nothing(source: Path, out: Path) -> None:
    (source / "huge").write_bytes(bytes(40 << 20))
    cancellation = Cancellation()
    with pytest.raises(Interrupted):
        build_bag(
            source,
            out,
            metadata=METADATA,
            progress=lambda *_: cancellation.cancel(Interrupted("stop")),
            cancellation=cancellation,
        )
    assert list(out.iterdir()) == []


def test_each_file_of_the_source_is_opened_once(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []
    really = os.open

    def counting(path: object, *args: object, **kwargs: object) -> int:
        if isinstance(path, bytes) and path.startswith(os.fsencode(source)):
            opened.append(path)
        return really(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(entries_module.os, "open", counting)
    build_bag(source, out, metadata=METADATA)
    assert len(opened) == len(set(opened)) == len(FILES)


def test_all_algorithms_asked_for_get_manifests(source: Path, out: Path) -> None:
    bag = build_bag(source, out, metadata=METADATA, algorithms=("md5", "sha512", "sha256"))
    with tarfile.open(bag.path) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert names >= {f"{kind}manifest-{name}.txt" for kind in ("", "tag") for name in ("md5", "sha256", "sha512")}
    with pytest.raises(SourceRefused):
        build_bag(source, out, metadata=METADATA, algorithms=("md5",))


def test_identity_is_what_the_metadata_said(source: Path, out: Path) -> None:
    first = "00000000-0000-4000-a000-000000000001"
    metadata = replace(
        METADATA, version=2, first_version_uuid=first, bag_type="rights", rights=(first, UUID), member="m-1"
    )
    for form in ("tar", "folder"):
        bag = build_bag(source, out, metadata=metadata, uuid=UUID, form=form)  # type: ignore[arg-type]
        assert read_identity(bag.path) == BagIdentity(
            uuid=UUID,
            local_id="inst.example/thing-1",
            version=2,
            first_version_uuid=first,
            bag_type="rights",
            ingest_node="north",
            rights=(first, UUID),
            member="m-1",
        )


def test_tags_by_their_names_find_their_places() -> None:
    metadata = DpnMetadata.from_tags(
        [("contact-name", "Ann"), ("Version-Number", "3"), ("Rights-Object-ID", "r1"), ("Mood", "calm")],
        local_id="x",
        ingest_node="north",
        bagging_date=date(2024, 1, 2),
    )
    assert (metadata.contact_name, metadata.version, metadata.rights) == ("Ann", 3, ("r1",))
    assert metadata.more_bag_info == (("Mood", "calm"),)
    no_values = (
        ("Version-Number", "three"), ("Bagging-Date", "soon"), ("Payload-Oxum", "1.1"), ("payload-oxum", "1.1"),
    )  # fmt: skip
    for label, value in no_values:
        with pytest.raises(SourceRefused):
            DpnMetadata.from_tags([(label, value)], local_id="x", ingest_node="n", bagging_date=date(2024, 1, 2))
