"""Packaging what lies on disk: the bag holds the source byte for byte, or nothing is left and it says why."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpn.bags.building import entries, sinks
from dpn.bags.errors import BagChanged, SourceRefused
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, NoSpace, ServiceUnavailable
from dpn.packaging.description import Description, Packaged
from dpn.packaging.errors import NotTheBag, SourceBagInvalid, SourceUnavailable
from dpn.packaging.estimate import estimate
from dpn.packaging.package import package
from dpn.packaging.settings import DepositS3Settings
from tests.fixtures import made_bags
from tests.fixtures.deposits import BAG, MEMBER, described, members, mixed_files, payload
from tests.fixtures.made_bags import bag_files, tar_bag, write_folder

S3 = DepositS3Settings()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source", mixed_files(60))


def made(description: Description, work: Path) -> Packaged:
    return package(description, work, s3=S3)


def test_a_thousand_mixed_files_come_back_byte_for_byte(tmp_path: Path, work: Path) -> None:
    files = mixed_files(1000)
    packaged = made(described(write_folder(tmp_path / "source", files)), work)
    assert payload(packaged.path) == files
    assert packaged.payload_bytes == sum(map(len, files.values()))
    content = packaged.path.read_bytes()
    assert (packaged.size, packaged.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert packaged.path == work / f"{BAG}.tar"
    again = validate(packaged.path, profile=load_profile("dpn-strict"))
    assert again.valid
    assert again.tag_manifest_sha256 == packaged.tag_manifest_sha256


@pytest.mark.parametrize("kind", ["a folder", "a bag"])
@pytest.mark.parametrize("where", ["", "data/work"])
def test_nothing_is_packaged_in_its_own_source(tmp_path: Path, kind: str, where: str) -> None:
    files = bag_files() if kind == "a bag" else {"data/x": b"x", ".building-site/plan": b"of the depositor"}
    source = write_folder(tmp_path / "source", files)
    (source / where).mkdir(exist_ok=True)
    before = sorted(source.rglob("*"))
    with pytest.raises(SourceRefused, match="which is to be bagged"):
        made(described(source), source / where)
    assert sorted(source.rglob("*")) == before


def test_the_bag_says_what_the_deposit_said(source: Path, work: Path) -> None:
    first = "00000000-0000-4000-a000-000000000001"
    description = described(
        source, title="Letters, 1890", bag_type="interpretive", version=3, first_version_uuid=first,
        rights=(first,), node_address="1 Main St", contact_name="Ann", contact_email="ann@north.example",
    )  # fmt: skip
    found = members(made(description, work).path)
    info = found["dpn-tags/dpn-info.txt"].decode().splitlines()
    assert {
        "Ingest-Node-Address: 1 Main St", "Ingest-Node-Contact-Name: Ann", "Bag-Type: interpretive",
        "Ingest-Node-Contact-Email: ann@north.example", "Version-Number: 3", f"First-Version-Object-ID: {first}",
        f"Rights-Object-ID: {first}", f"Member-ID: {MEMBER}", "Local-ID: inst.example/thing-1",
    } <= set(info)  # fmt: skip
    assert b"External-Description: Letters, 1890\n" in found["bag-info.txt"]


def test_the_same_deposit_makes_the_same_bytes_wherever_it_is_packaged(source: Path, tmp_path: Path) -> None:
    sums = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sums.add(made(described(source), tmp_path / name).sha256)
        for path in source.rglob("*"):
            os.utime(path, (1, 1))
    assert len(sums) == 1


def test_what_is_packaged_is_proven_again_not_packaged_again(source: Path, work: Path) -> None:
    one = made(described(source), work)
    inode = one.path.stat().st_ino
    (source / "empty").unlink()
    assert made(described(source), work) == one
    assert one.path.stat().st_ino == inode


@pytest.mark.parametrize("spoil", ["cut", "rotten", "another bag", "no tar"])
def test_what_lies_under_the_name_and_is_not_the_bag_is_replaced(source: Path, work: Path, spoil: str) -> None:
    right = made(described(source), work)
    content = bytearray(right.path.read_bytes())
    if spoil == "cut":
        right.path.write_bytes(content[:-20_000])
    elif spoil == "rotten":
        content[len(content) // 2] ^= 1
        right.path.write_bytes(content)
    elif spoil == "no tar":
        right.path.write_bytes(b"?")
    else:
        right.path.unlink()
        made(described(source, local_id="something/else"), work)
    assert made(described(source), work).sha256 == right.sha256


@pytest.mark.parametrize("bag", ["../precious", "precious", "", BAG.upper(), f"{BAG}/../precious", f"{BAG}\n"])
def test_only_what_has_a_bags_name_is_ever_removed(source: Path, work: Path, bag: str) -> None:
    precious = [work.parent / "precious.tar", work / "precious.tar", work / ".tar"]
    for path in precious:
        path.write_bytes(b"of somebody else")
    for as_is in (False, True):
        with pytest.raises(SourceRefused, match="uuid"):
            made(described(source, bag=bag, as_is=as_is), work)
    assert all(path.read_bytes() == b"of somebody else" for path in precious)


KILLED_AT = """
import os, signal, sys
from pathlib import Path
import dpn.bags.building.build, dpn.bags.hash_threads
from dpn.packaging.package import package
from dpn.packaging.settings import DepositS3Settings
from tests.fixtures.deposits import described
source, work, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
dpn.bags.hash_threads._TELL_EVERY_FILES = 10
if step == "placed":
    really = dpn.bags.building.build._place
    dpn.bags.building.build._place = lambda *a: (really(*a), die())
elif step == "placing":
    dpn.bags.building.build._place = die
elif step == "linked":
    import dpn.files
    dpn.files.sync_folder = die
elif step == "validating":
    dpn.bags.building.build.validate = die
package(described(source), work, s3=DepositS3Settings(), progress=die if step == "writing" else None)
"""


@pytest.mark.parametrize("step", ["writing", "validating", "placing", "linked", "placed"])
def test_killed_at_any_step_it_ends_with_the_same_one_bag(
    source: Path, work: Path, tmp_path: Path, step: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    right = made(described(source), tmp_path / "elsewhere").sha256
    died = subprocess.run([sys.executable, "-c", KILLED_AT, source, work, step], check=False, cwd=_root())
    assert died.returncode == -signal.SIGKILL
    assert made(described(source), work).sha256 == right
    assert [path.name for path in work.iterdir()] == [f"{BAG}.tar"]


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize("algorithms", [("md5",), ("sha1", "sha512"), ("sha256", "md5")])
def test_a_bags_payload_and_its_own_tag_files_are_kept(
    tmp_path: Path, work: Path, form: str, algorithms: tuple[str, ...]
) -> None:
    files = bag_files(
        {"data/\u00e9 a.txt": b"first\n", "data/big.bin": os.urandom(3 << 20), "data/empty": b""},
        algorithms=algorithms,
        changes={"aptrust-info.txt": b"Title: A\n", "other-tags/x.txt": b"x"},
    )
    packaged = made(described(_bag(tmp_path, form, files)), work)
    found = members(packaged.path)
    ours = {"bagit.txt", "bag-info.txt", "dpn-tags/dpn-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"}
    kept = {name: content for name, content in found.items() if name not in ours}
    assert kept == {
        name if name.startswith("data/") else f"aptrust-tags/{name}": content for name, content in files.items()
    }
    for name in kept:
        where = "manifest-sha256.txt" if name.startswith("data/") else "tagmanifest-sha256.txt"
        assert f"{hashlib.sha256(kept[name]).hexdigest()}  {name}\n".encode() in found[where]


@pytest.mark.parametrize("form", ["folder", "tar", "tar, folders last"])
def test_a_bags_empty_folders_are_kept_and_no_others_are_made(tmp_path: Path, work: Path, form: str) -> None:
    deep = "data/" + "/".join(["n" * 60] * 3)
    folders = ("data", "data/folder", "data/empty", "data/one", "data/one/two", deep, "no-payload", "data/full")
    files = bag_files({"data/a.txt": b"1", "data/folder/b": b"2", "data/full/er/c": b"3"})
    if form == "folder":
        bag = write_folder(tmp_path / "bag", files)
        for folder in folders:
            (bag / folder).mkdir(parents=True, exist_ok=True)
    else:
        root = made_bags.UUID
        long = made_bags.pax({b"path": f"{root}/{deep}".encode()}) + made_bags.member("short", kind=b"5")
        told = {name: made_bags.member(f"{root}/{name}/", kind=b"5") for name in folders} | {deep: long}
        both = [b"".join(told.values()), made_bags.members(files)]
        content = b"".join(reversed(both) if "last" in form else both)
        bag = made_bags.write_tar(tmp_path, content + made_bags.END)
    needed = estimate(described(bag), s3=S3)
    packaged = made(described(bag), work)
    with tarfile.open(packaged.path) as tar:
        kept = {member.name.partition("/")[2] for member in tar if member.isdir()}
    assert kept == {"data/empty", "data/one/two", deep}
    assert packaged.size <= needed.staging_bytes


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_bag_in_which_two_names_are_alike_is_refused_before_anything_is_read(tmp_path: Path, form: str) -> None:
    bag = _bag(tmp_path, form, bag_files({"data/b/Caf\u00e9": b"1", "data/b/caf\u00e9": b"2"}))
    with pytest.raises(SourceRefused, match=r"data/b/(Caf\u00e9|caf\u00e9): Differs from .* Rename one of them"):
        estimate(described(bag), s3=S3)


@pytest.mark.parametrize("kind", ["files", "folder", "tar"])
@pytest.mark.parametrize("name", ["x\u00a0", "x\u3000", "one\u2028two", "one\u2029two/x", "x%0a"], ids=ascii)
def test_a_name_that_others_misread_is_refused_from_every_kind_of_source(
    tmp_path: Path, work: Path, kind: str, name: str
) -> None:
    files = {f"data/{name}": b"1"}
    source = write_folder(tmp_path / "s", files) if kind == "files" else _bag(tmp_path, kind, bag_files(files))
    with pytest.raises(SourceRefused, match="cannot be bagged: The name"):
        made(described(source), work)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("kind", ["files", "folder", "tar"])
def test_a_folder_whose_name_ends_in_a_blank_is_bagged_with_what_is_in_it(
    tmp_path: Path, work: Path, kind: str
) -> None:
    files = {"data/blank /a": b"1", "data/wide\u3000/a": b"2"}
    source = write_folder(tmp_path / "s", files) if kind == "files" else _bag(tmp_path, kind, bag_files(files))
    (source if kind == "files" else tmp_path).joinpath("empty ").mkdir()
    report = made(described(source), work).report
    assert (report.valid, report.warnings) == (True, 0)


def test_originals_are_called_as_the_depositor_says(tmp_path: Path, work: Path) -> None:
    packaged = made(described(_bag(tmp_path, "tar", bag_files()), source_name="museum"), work)
    assert "museum-tags/bagit.txt" in members(packaged.path)


@pytest.mark.parametrize("name", ["", "dpn", "../up", "Upper", "a/b", "x" * 33, "caf\u00e9"])
def test_a_source_name_that_names_no_folder_is_refused(tmp_path: Path, work: Path, name: str) -> None:
    with pytest.raises(SourceRefused, match="source name"):
        made(described(_bag(tmp_path, "tar", bag_files()), source_name=name), work)


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data/a.txt": b"other\n"}, "payload-checksum-mismatch"),
        ({"data/more.txt": b"?"}, "payload-file-unlisted"),
        ({"data/a.txt": None}, "payload-file-missing"),
        ({"bag-info.txt": b"Changed: yes\n"}, "tag-checksum-mismatch"),
        ({"fetch.txt": b"https://x.example/f 1 data/f\n"}, "fetch-file-missing"),
        ({"manifest-sha256.txt": None}, "manifest-missing"),
        ({"manifest-sha256.txt": b"rubbish\n"}, "manifest-line-malformed"),
    ],
)
def test_an_invalid_or_incomplete_bag_is_refused_with_its_findings(
    tmp_path: Path, work: Path, form: str, changes: dict[str, bytes | None], code: str
) -> None:
    files: dict[str, bytes | None] = {**bag_files(), **changes}
    bag = _bag(tmp_path, form, {name: content for name, content in files.items() if content is not None})
    with pytest.raises(SourceBagInvalid, match=code) as refused:
        made(described(bag), work)
    assert code in {finding.code for finding in refused.value.report.findings}
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [
        made_bags.member(f"{made_bags.UUID}/../../etc/passwd", b"x"),
        made_bags.member("/etc/passwd", b"x"),
        made_bags.member(f"{made_bags.UUID}/data/link", kind=b"2"),
        made_bags.member(f"{made_bags.UUID}/data/hard", kind=b"1"),
        made_bags.member(f"{made_bags.UUID}/data/device", kind=b"3"),
        made_bags.member(f"{made_bags.UUID}/data/a.txt", b"twice"),
        made_bags.member("elsewhere/data/x", b"x"),
        made_bags.member(f"{made_bags.UUID}/data/bell\x07", b"x"),
    ],
)
def test_a_hostile_tar_is_refused(tmp_path: Path, work: Path, more: bytes) -> None:
    with pytest.raises(SourceRefused):
        made(described(tar_bag(tmp_path, more=more)), work)
    assert list(work.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{made_bags.UUID}.tar", "work"]


def test_a_dpn_bag_is_taken_as_it_is_byte_for_byte(tmp_path: Path, work: Path) -> None:
    bag = tar_bag(tmp_path)
    packaged = made(described(bag, as_is=True), work)
    assert packaged.path.read_bytes() == bag.read_bytes()
    assert packaged.sha256 == hashlib.sha256(bag.read_bytes()).hexdigest()
    assert made(described(bag, as_is=True), work) == packaged


def test_a_bag_that_others_made_is_taken_as_it_is(shared_data: Path, work: Path) -> None:
    bag = shared_data / "dpn-bags" / "a9f7cbab-b531-4eb7-b532-770f592629ba.tar"
    if not bag.exists():
        pytest.skip(f"no {bag}")
    description = described(
        bag, bag="a9f7cbab-b531-4eb7-b532-770f592629ba", as_is=True, local_id=_local_id(members(bag))
    )
    assert made(description, work).path.read_bytes() == bag.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"bag": "00000000-0000-4000-a000-000000000001"},
        {"local_id": "other"},
        {"version": 2},
        {"bag_type": "rights"},
    ],
)
def test_another_bag_than_was_deposited_is_not_taken_as_it_is(
    tmp_path: Path, work: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(NotTheBag, match="is another bag"):
        made(described(tar_bag(tmp_path), as_is=True, **changes), work)


def test_what_is_invalid_is_not_taken_as_it_is(tmp_path: Path, work: Path) -> None:
    bag = tar_bag(tmp_path, {**bag_files(), "data/a.txt": b"changed"})
    with pytest.raises(SourceBagInvalid, match="payload-checksum-mismatch"):
        made(described(bag, as_is=True), work)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "broken link", "pipe", "bad name"])
def test_what_no_bag_can_hold_is_refused_and_nothing_is_left(source: Path, work: Path, kind: str) -> None:
    odd = source / "zz odd"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "bad name":
        odd.with_name("line\nfeed").write_bytes(b"")
    else:
        odd.symlink_to("empty" if kind == "link" else "nowhere")
    with pytest.raises(SourceRefused, match="cannot be bagged"):
        made(described(source), work)
    assert list(work.iterdir()) == []


def _grow(source: Path) -> None:
    with (source / "emoji \U0001f4be.bin").open("ab") as file:
        file.write(b"more")


def _add(source: Path) -> None:
    (source / "a late one").write_bytes(b"late")


def _remove(source: Path) -> None:
    (source / "quote\"'`.txt").unlink(missing_ok=True)


@pytest.mark.parametrize("change", [_grow, _add, _remove])
def test_a_source_that_changes_while_it_is_read_is_begun_again(
    source: Path, work: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    really = os.readv
    todo = [change]

    def once(fd: int, buffers: list[memoryview]) -> int:
        count = really(fd, buffers)
        if todo:
            todo.pop()(source)
        return count

    monkeypatch.setattr(entries.os, "readv", once)
    with pytest.raises(BagChanged):
        made(described(source), work)
    assert list(work.iterdir()) == []
    assert payload(made(described(source), work).path) == _content(source)


def test_a_tar_that_changes_while_it_is_read_is_begun_again(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bag_files({"data/big.bin": bytes(3 << 20)})
    bag = tar_bag(tmp_path, files)
    really = os.preadv

    def growing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.fstat(fd).st_ino == bag.stat().st_ino:
            os.utime(bag, (1, 1))
        return really(fd, buffers, offset)

    monkeypatch.setattr(entries.os, "preadv", growing)
    with pytest.raises(BagChanged):
        made(described(bag), work)
    assert list(work.iterdir()) == []


def test_each_byte_of_a_folder_is_read_once(source: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[int, int] = {}
    really_read, really_readv = os.read, os.readv

    def reading(fd: int, size: int) -> bytes:
        data = really_read(fd, size)
        read[os.fstat(fd).st_ino] = read.get(os.fstat(fd).st_ino, 0) + len(data)
        return data

    def reading_into(fd: int, buffers: list[memoryview]) -> int:
        count = really_readv(fd, buffers)
        read[os.fstat(fd).st_ino] = read.get(os.fstat(fd).st_ino, 0) + count
        return count

    monkeypatch.setattr(entries.os, "read", reading)
    monkeypatch.setattr(entries.os, "readv", reading_into)
    made(described(source), work)
    for path in source.rglob("*"):
        if path.is_file() and path.stat().st_size:
            assert read[path.stat().st_ino] == path.stat().st_size


@pytest.mark.parametrize("form", ["a folder", "folder", "tar"])
def test_an_estimate_is_never_too_small_and_reads_no_content(
    tmp_path: Path, source: Path, work: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    bag = source if form == "a folder" else _bag(tmp_path, form, bag_files({"data/big": os.urandom(2 << 20)}))
    with monkeypatch.context() as patched:
        patched.setattr(entries.FileContent, "open", _never)
        patched.setattr(entries.SliceContent, "open", _never)
        needed = estimate(described(bag), s3=S3)
    packaged = made(described(bag), work)
    assert packaged.size <= needed.staging_bytes <= packaged.size + (256 << 10)
    assert needed.source_bytes >= packaged.payload_bytes


def test_a_cancellation_is_heeded_within_a_second(tmp_path: Path, work: Path) -> None:
    (tmp_path / "source").mkdir()
    with (tmp_path / "source/huge").open("wb") as file:
        file.truncate(8 << 30)
    cancellation, cancelled_at = Cancellation(), [0.0]

    def cancel() -> None:
        cancelled_at[0] = time.monotonic()
        cancellation.cancel(Interrupted("stop"))

    timer = threading.Timer(0.5, cancel)
    timer.start()
    with pytest.raises(Interrupted):
        package(described(tmp_path / "source"), work, s3=S3, cancellation=cancellation)
    assert time.monotonic() - cancelled_at[0] < 1.0
    assert list(work.iterdir()) == []


def test_a_full_volume_is_waited_for(source: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sinks.TarSink, "write", full)
        with pytest.raises(NoSpace, match="free space"):
            made(described(source), work)
    assert list(work.iterdir()) == []
    assert made(described(source), work).report.valid


def test_a_source_that_is_not_there_is_waited_for_and_named(tmp_path: Path, work: Path) -> None:
    with pytest.raises(SourceUnavailable, match="mount its disk") as away:
        made(described(tmp_path / "nowhere"), work)
    assert isinstance(away.value, ServiceUnavailable)
    assert away.value.service == f"source:{tmp_path / 'nowhere'}"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("relative/path", "absolute"),
        ("s3://bucket", "empty prefix"),
        ("s3://bucket/", "empty prefix"),
        ("s3:///prefix/", "no bucket"),
        ("s3://key:secret@bucket/prefix/", "no bucket"),
        ("https://example.org/x/", r"s3://bucket/prefix/"),
        ("/dev/null", "neither"),
        (__file__, "no bag"),
    ],
)
def test_what_is_no_source_is_refused_with_what_to_do(work: Path, source: str, complaint: str) -> None:
    with pytest.raises(SourceRefused, match=complaint):
        made(described(source), work)


def test_an_empty_folder_is_refused(tmp_path: Path, work: Path) -> None:
    (tmp_path / "nothing/in/here").mkdir(parents=True)
    with pytest.raises(SourceRefused, match="no file"):
        made(described(tmp_path / "nothing"), work)


def test_a_folder_deeper_than_any_bag_is_refused(tmp_path: Path, work: Path) -> None:
    (tmp_path / "deep").mkdir()
    here = os.open(tmp_path / "deep", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(SourceRefused, match="parts"):
        made(described(tmp_path / "deep"), work)
    subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)


def _never(*_: object) -> None:
    raise AssertionError("content was opened")


def _bag(folder: Path, form: str, files: dict[str, bytes]) -> Path:
    if form == "tar":
        return tar_bag(folder, files)
    return write_folder(folder / "bag", files)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _local_id(files: dict[str, bytes]) -> str:
    lines = files["dpn-tags/dpn-info.txt"].decode().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("Local-ID"))


def _root() -> Path:
    return Path(__file__).resolve().parents[3]
