"""The folder store on a real file system: what is visible is whole, proven and never replaced."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import Interrupted, LeaseLost, Misconfigured, StoreMismatch, StoreMissing, StoreUnavailable
from dpn.s3.plan import Part
from dpn.storage.errors import SourceUnreadable, StoreConflict
from dpn.storage.folder import disk as folder_disk
from dpn.storage.folder import files as folder_files
from dpn.storage.folder import store as folder
from dpn.storage.settings import StoreSettings
from dpn.storage.source import Source
from dpn.storage.store import Store
from dpn.storage.stores import open_store
from models.manifests import Receipt, UploadState

KEY = "0f4d9f7c-8f0b-4c4b-8b5f-3f8f6f1d2c3b.tar"
PART_BYTES = 5 * 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "the store"
    root.mkdir()
    return root


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def store(root: Path, clock: ManualClock) -> Store:
    return open_store(StoreSettings(url=root.as_uri(), part_size_bytes=PART_BYTES), clock=clock)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    path = tmp_path / "staged.tar"
    path.write_bytes(os.urandom(2 * PART_BYTES + 100))
    return path


def put(store: Store, bag: Path, **changes: Any) -> Receipt:
    arguments: dict[str, Any] = {
        "sha256": hashlib.sha256(bag.read_bytes()).hexdigest(),
        "metadata": {"from_node": "north"},
        "resume": None,
        "checkpoint": lambda _: None,
        "cancellation": Cancellation(),
    }
    return store.put(bag, KEY, **{**arguments, **changes})


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_the_name_is_given_last_and_the_sidecar_only_by_who_gave_it(store: Store, root: Path, bag: Path) -> None:
    at_the_fence: list[list[str]] = []

    put(store, bag, fence=lambda: at_the_fence.append(names(root)))

    [before] = at_the_fence
    assert KEY not in before
    assert f"{KEY}.json" not in before
    assert names(root) == [KEY, f"{KEY}.json"]


@pytest.mark.parametrize("knows", [True, False])
def test_a_late_holder_says_nothing_of_the_object_of_another(
    store: Store, root: Path, bag: Path, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    """It is frozen with its copy written and wakes when another one has stored."""
    late = bag.with_name("late.tar")
    late.write_bytes(b"what the owner had before")
    really = folder.compare

    def frozen(*arguments: Any) -> None:
        monkeypatch.setattr(folder, "compare", really)
        put(store, bag)

    def fence() -> None:
        if knows:
            raise LeaseLost("another worker holds it")

    monkeypatch.setattr(folder, "compare", frozen)
    with pytest.raises((LeaseLost, StoreConflict)):
        put(
            store,
            late,
            sha256=hashlib.sha256(late.read_bytes()).hexdigest(),
            metadata={"from_node": "late"},
            fence=fence,
        )
    stored = store.head(KEY)
    assert stored is not None
    assert stored.metadata["from_node"] == "north"


def test_what_died_before_its_name_was_durable_and_its_sidecar_written_is_finished_by_the_next_run(
    store: Store, root: Path, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, bag)
    (root / f"{KEY}.json").unlink()
    synced: list[Path] = []
    monkeypatch.setattr(folder, "sync_folder", synced.append)

    put(store, bag)

    assert synced == [root]
    assert names(root) == [KEY, f"{KEY}.json"]
    stored = store.head(KEY)
    assert stored is not None
    assert stored.metadata["from_node"] == "north"


def test_the_sidecar_tells_what_the_object_is_meant_to_be(store: Store, root: Path, bag: Path) -> None:
    receipt = put(store, bag)

    told = json.loads((root / f"{KEY}.json").read_text())

    assert told["metadata"] == {
        "from_node": "north",
        "sha256": receipt.sha256,
        "part_size": str(receipt.part_size),
    }
    assert told["part_sha256"] == receipt.part_sha256
    assert told["size"] == receipt.size


def test_an_object_is_read_only(store: Store, root: Path, bag: Path) -> None:
    put(store, bag)

    assert stat.S_IMODE((root / KEY).stat().st_mode) & 0o222 == 0


def test_a_missing_sidecar_loses_only_the_metadata(store: Store, root: Path, bag: Path) -> None:
    receipt = put(store, bag)
    (root / f"{KEY}.json").write_text("[1")

    stored = store.head(KEY)

    assert stored is not None
    assert stored.metadata == {}
    assert store.confirm(receipt).sha256 == receipt.sha256
    assert put(store, bag).sha256 == receipt.sha256


def test_a_disk_that_keeps_other_bytes_is_found_out_before_the_name_is_given(
    store: Store, root: Path, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = folder.make_durable

    def rot(file: BinaryIO) -> None:
        durable(file)
        with Path(file.name if isinstance(file.name, str) else f"/proc/self/fd/{file.fileno()}").open(
            "r+b"
        ) as disk:
            disk.seek(PART_BYTES + 3)
            disk.write(b"rot")

    monkeypatch.setattr(folder, "make_durable", rot)

    with pytest.raises(StoreMismatch, match="wrong parts of 5242880 bytes: 2"):
        put(store, bag)

    assert names(root) == []


def test_rot_is_found_by_confirming_the_receipt(store: Store, root: Path, bag: Path) -> None:
    receipt = put(store, bag)
    (root / KEY).chmod(0o600)
    with (root / KEY).open("r+b") as disk:
        disk.seek(2 * PART_BYTES + 3)
        disk.write(b"rot")

    with pytest.raises(StoreMismatch, match="wrong parts of 5242880 bytes: 3"):
        store.confirm(receipt)


def test_parts_are_read_back_several_at_a_time_and_all_that_are_wrong_are_named(
    store: Store, root: Path, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = put(store, bag)
    monkeypatch.setattr(folder_files, "READ_BACK_THREADS", 2)
    both, buffers = threading.Barrier(2, timeout=60), Source.buffers

    def together(source: Source, part: Part, check: Callable[[], None]) -> Iterator[memoryview]:
        if part.number < 3:
            both.wait()  # for ever, if there were but one at a time
        yield from buffers(source, part, check)

    monkeypatch.setattr(Source, "buffers", together)
    assert store.confirm(receipt).sha256 == receipt.sha256
    monkeypatch.setattr(Source, "buffers", buffers)
    (root / KEY).chmod(0o600)
    with (root / KEY).open("r+b") as disk:
        for offset in (PART_BYTES - 1, 2 * PART_BYTES):
            disk.seek(offset)
            disk.write(b"!!")
    with pytest.raises(StoreMismatch, match="wrong parts of 5242880 bytes: 1, 2, 3"):
        store.confirm(receipt)


def test_a_part_that_cannot_be_read_back_is_the_stores_outage_and_the_others_are_left(
    store: Store, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = put(store, bag)
    buffers = Source.buffers

    def fail_at_the_first(source: Source, part: Part, check: Callable[[], None]) -> Iterator[memoryview]:
        if part.number == 1:
            raise SourceUnreadable(errno.EIO, "Input/output error", str(source.path))
        yield from buffers(source, part, check)

    monkeypatch.setattr(Source, "buffers", fail_at_the_first)
    with pytest.raises(StoreUnavailable, match="look at its disk"):
        store.confirm(receipt)


def test_reading_back_ends_when_it_is_told_to(store: Store, bag: Path) -> None:
    receipt, stopped = put(store, bag), Cancellation()
    stopped.cancel(Interrupted("the worker stops"))
    with pytest.raises(Interrupted, match="the worker stops"):
        store.confirm(receipt, cancellation=stopped)


def test_a_copy_cut_short_is_found_by_confirming_the_receipt(store: Store, root: Path, bag: Path) -> None:
    receipt = put(store, bag)
    os.truncate(root / KEY, 100)

    with pytest.raises(StoreMismatch, match="100 bytes instead of"):
        store.confirm(receipt)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_or_failing_disk_is_the_stores_outage(
    store: Store, root: Path, bag: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: BinaryIO) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder, "make_durable", fail)

    with pytest.raises(StoreUnavailable) as outage:
        put(store, bag)

    assert outage.value.service == "store:main"
    assert names(root) == []


def test_a_bag_larger_than_the_room_left_is_not_begun(
    store: Store, root: Path, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(root)._replace(free=bag.stat().st_size - 1)
    monkeypatch.setattr(folder_disk.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(StoreUnavailable, match="bytes left"):
        put(store, bag)

    assert names(root) == []


@pytest.mark.parametrize("ask", [lambda store: store.probe(), lambda store: store.head(KEY)])
def test_a_folder_that_is_not_there_is_not_taken_for_an_empty_store(
    store: Store, root: Path, bag: Path, ask: Callable[[Store], object]
) -> None:
    receipt = put(store, bag)
    root.rename(root.with_name("unmounted"))

    with pytest.raises(Misconfigured, match="is no folder: create it, or mount its disk"):
        ask(store)
    with pytest.raises(Misconfigured, match="mount its disk"):
        store.confirm(receipt)


def test_an_object_that_was_removed_is_missing(store: Store, root: Path, bag: Path) -> None:
    receipt = put(store, bag)
    (root / KEY).unlink()

    with pytest.raises(StoreMissing):
        store.confirm(receipt)


def test_an_upload_of_another_store_is_forgotten(store: Store, bag: Path) -> None:
    told: list[UploadState | None] = []
    state = UploadState(upload_id="x", key=KEY, part_size=PART_BYTES, started_at=datetime.now(UTC))

    put(store, bag, resume=state, checkpoint=told.append)

    assert told == [None]


def test_of_two_workers_at_once_both_get_the_receipt_of_one_object(store: Store, root: Path, bag: Path) -> None:
    barrier = threading.Barrier(2, timeout=20)
    receipts: list[Receipt] = []

    def work() -> None:
        receipts.append(put(store, bag, fence=barrier.wait))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(receipts) == 2
    assert receipts[0].sha256 == receipts[1].sha256
    assert names(root) == [KEY, f"{KEY}.json"]


KILLED = """
import os, pathlib, signal, sys
from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.storage.settings import StoreSettings
from dpn.storage.source import Source
from dpn.storage.stores import open_store

bag, root, key, sha256, at = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
store = open_store(StoreSettings(url=pathlib.Path(root).as_uri(), part_size_bytes=5242880), clock=SystemClock())
store.put(
    pathlib.Path(bag), key, sha256=sha256, metadata={}, resume=None, checkpoint=lambda _: None,
    cancellation=Cancellation(), **{at: die},
)
"""


@pytest.mark.parametrize("at", ["progress", "fence"])
def test_a_killed_worker_leaves_nothing_visible_and_the_janitor_cleans_up(
    store: Store, root: Path, bag: Path, clock: ManualClock, at: str
) -> None:
    sha256 = hashlib.sha256(bag.read_bytes()).hexdigest()
    killed = subprocess.run([sys.executable, "-c", KILLED, bag, root, KEY, sha256, at], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.head(KEY) is None
    left = names(root)
    assert left

    assert store.abort_abandoned_uploads(older_than=timedelta(days=7), keep=()) == 0
    assert names(root) == left
    clock.advance(8 * 86_400)
    assert store.abort_abandoned_uploads(older_than=timedelta(days=7), keep=()) == len(left)

    assert names(root) == []
    assert put(store, bag).sha256 == sha256


def test_the_janitor_touches_no_object_however_old(
    store: Store, root: Path, bag: Path, clock: ManualClock
) -> None:
    receipt = put(store, bag)
    clock.advance(1000 * 86_400)

    assert store.abort_abandoned_uploads(older_than=timedelta(days=7), keep=()) == 0

    assert names(root) == [KEY, f"{KEY}.json"]
    assert store.confirm(receipt).sha256 == receipt.sha256
