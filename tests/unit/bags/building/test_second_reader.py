"""A large tar is validated while it is built: with the same verdict, and by ourselves where that fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import chain
from pathlib import Path

import pytest

from dpn.bags import hash_threads as workers
from dpn.bags.building import build as build_module
from dpn.bags.building import second_reader as following_module
from dpn.bags.building.build import BuiltBag, build_from_entries
from dpn.bags.building.entries import Entry, FileContent
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.building.second_reader_process import _GrowingTar
from dpn.bags.building.sinks import TarSink
from dpn.bags.errors import BagChanged, BuiltBagInvalid
from dpn.bags.report import Report
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted
from tests.fixtures.made_bags import UUID

METADATA = DpnMetadata(local_id="x", ingest_node="north", bagging_date=date(2026, 1, 2))
FILES = 60
Processes = list[subprocess.Popen[bytes]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def followers(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """The processes that were started; one is from twenty files on."""
    started: Processes = []
    really = following_module._started

    def starting(path: Path, profile_name: str, threads: int) -> subprocess.Popen[bytes] | None:
        process = really(path, profile_name, threads)
        assert process is not None
        started.append(process)
        return process

    monkeypatch.setattr(following_module, "_started", starting)
    monkeypatch.setattr(following_module, "FOLLOWED_FROM_FILES", 20)
    monkeypatch.setattr(workers, "_TELL_EVERY_FILES", 1)
    monkeypatch.setattr(following_module, "default_threads", lambda: 2)
    return started


def entries(folder: Path, at_the_last: Callable[[], object] = lambda: None) -> Iterator[Entry]:
    for number in range(FILES):
        path = folder / f"{number}"
        path.write_bytes(os.urandom(number * 997))
        if number == FILES - 1:
            at_the_last()
        yield Entry(b"data/%d/%d" % (number % 7, number), FileContent(os.fsencode(path)))


def built(entries: Iterator[Entry], out: Path, **more: object) -> BuiltBag:
    options = {"what": "entries", "metadata": METADATA, "uuid": UUID, **more}
    return build_from_entries(entries, out, **options)  # type: ignore[arg-type]


def not_by_ourselves(*_: object, **__: object) -> None:
    raise AssertionError("the other process did not answer")


def test_the_verdict_is_the_same_as_of_a_bag_that_lies_there(
    tmp_path: Path, out: Path, followers: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(build_module, "validate", not_by_ourselves)
    bag = built(entries(tmp_path), out, validating=lambda *so_far: told.append(so_far))
    assert bag.report == validate(bag.path, profile=load_profile("dpn-strict"), whole_file_sha256=True)
    assert told[-1] == (bag.size, bag.files)
    assert [process.poll() is not None for process in followers] == [True]


@pytest.mark.parametrize("reason", ["few files", "one core", "no process"])
def test_without_another_process_it_is_validated_by_ourselves(
    tmp_path: Path, out: Path, followers: Processes, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "few files":
        monkeypatch.setattr(following_module, "FOLLOWED_FROM_FILES", FILES + 1)
    elif reason == "one core":
        monkeypatch.setattr(following_module, "default_threads", lambda: 1)
    else:
        monkeypatch.setattr(following_module, "_started", lambda *_: None)
    assert built(entries(tmp_path), out).report.valid
    assert followers == []


@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("algorithms", [(), ("md5", "sha512")])
def test_one_large_file_is_followed_too_and_hashed_in_place_where_cores_are_few(
    tmp_path: Path,
    out: Path,
    followers: Processes,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    algorithms: tuple[str, ...],
) -> None:
    monkeypatch.setattr(following_module, "FOLLOWED_FROM_BYTES", 4 << 20)
    monkeypatch.setattr(following_module, "default_threads", lambda: threads)
    monkeypatch.setattr(build_module, "validate", not_by_ourselves)
    large, delivered = tmp_path / "large", dict[str, bytes]()
    large.write_bytes(os.urandom((9 << 20) + 77))
    told: list[tuple[int, int]] = []
    entry = Entry(b"data/large", FileContent(os.fsencode(large)), algorithms=algorithms, deliver=delivered.update)
    bag = built(iter([entry]), out, progress=lambda *so_far: told.append(so_far))
    assert bag.report == validate(bag.path, profile=load_profile("dpn-strict"), whole_file_sha256=True)
    content = large.read_bytes()
    assert delivered == {name: hashlib.new(name, content).digest() for name in algorithms}
    assert told
    assert len(followers) == 1


def test_another_process_that_dies_changes_nothing(tmp_path: Path, out: Path, followers: Processes) -> None:
    bag = built(entries(tmp_path, lambda: followers[0].kill()), out)
    assert bag.report == validate(bag.path, profile=load_profile("dpn-strict"), whole_file_sha256=True)
    assert followers[0].returncode == -signal.SIGKILL


def test_a_file_that_was_written_wrongly_is_found(
    tmp_path: Path, out: Path, followers: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = TarSink.add_file

    def wrongly(self: TarSink, name: bytes, content: bytes) -> None:
        really(self, name, content if name != b"data/2/30" else content[:-1] + bytes([content[-1] ^ 1]))

    monkeypatch.setattr(TarSink, "add_file", wrongly)
    with pytest.raises(BuiltBagInvalid, match="sha256"):
        built(entries(tmp_path), out)
    assert [process.poll() is not None for process in followers] == [True]
    assert list(out.iterdir()) == []


def test_what_the_profile_forbids_is_found(tmp_path: Path, out: Path, followers: Processes) -> None:
    more = [Entry(name, FileContent(os.fsencode(__file__))) for name in (b"data/Twice", b"data/twice")]
    with pytest.raises(BuiltBagInvalid, match="only in case"):
        built(chain(entries(tmp_path), more), out)
    assert [process.poll() is not None for process in followers] == [True]
    assert list(out.iterdir()) == []


def test_a_report_that_was_passed_on_is_the_same(tmp_path: Path, out: Path) -> None:
    more = [Entry(name, FileContent(os.fsencode(__file__))) for name in (b"data/Twice", b"data/twice")]
    bag = built(chain(entries(tmp_path), more), out, profile=load_profile("dpn"))
    report = validate(bag.path, profile=load_profile("dpn"))
    assert report.warnings
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_cancellation_while_it_is_built_ends_the_other_process_too(
    tmp_path: Path, out: Path, followers: Processes
) -> None:
    cancellation = Cancellation()
    with pytest.raises(Interrupted):
        built(entries(tmp_path, lambda: cancellation.cancel(Interrupted("stop"))), out, cancellation=cancellation)
    assert followers[0].returncode == -signal.SIGKILL
    assert list(out.iterdir()) == []


def test_a_cancellation_is_heeded_while_the_other_process_is_waited_for(
    tmp_path: Path, out: Path, followers: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancellation, really = Cancellation(), following_module._say

    def cancelled(process: subprocess.Popen[bytes], word: bytes) -> None:
        cancellation.cancel(Interrupted("stop"))
        really(process, word)

    monkeypatch.setattr(following_module, "_say", cancelled)
    with pytest.raises(Interrupted):
        built(entries(tmp_path, lambda: followers[0].send_signal(signal.SIGSTOP)), out, cancellation=cancellation)
    assert followers[0].returncode == -signal.SIGKILL
    assert list(out.iterdir()) == []


BUILDER = """
import os, sys, time
from pathlib import Path
from dpn.bags import hash_threads
from dpn.bags.building import second_reader
from tests.unit.bags.building.test_second_reader import built, entries
second_reader.FOLLOWED_FROM_FILES = 20
hash_threads._TELL_EVERY_FILES = 1
second_reader.default_threads = lambda: 2
really = second_reader._started
def starting(*arguments):
    process = really(*arguments)
    print(process.pid, flush=True)
    return process
second_reader._started = starting
folder = Path(sys.argv[1])
built(entries(folder, lambda: time.sleep(60)), folder / "out")
"""


def test_a_builder_that_is_killed_leaves_no_process(tmp_path: Path, out: Path) -> None:
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert builder.stdout is not None
    follower = int(builder.stdout.readline())
    builder.kill()
    builder.stdout.close()
    builder.wait()
    deadline = time.monotonic() + 30
    while _runs(follower) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(follower)


def test_a_tar_that_was_changed_after_the_builder_is_not_answered_for(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(1000))
    ours, its = os.pipe()
    with _GrowingTar(path, ours) as tar:
        assert tar.read(0, 1000) == bytes(1000)
        os.write(its, f"1000 {path.stat().st_mtime_ns}".encode())
        assert tar.read(500, 1000) == bytes(500)
        tar.check_unchanged()
        os.utime(path, (1, 1))
        with pytest.raises(BagChanged):
            tar.check_unchanged()
    os.close(its)
    with _GrowingTar(path, ours) as tar, pytest.raises(SystemExit):
        tar.read(0, 1001)
    os.close(ours)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
