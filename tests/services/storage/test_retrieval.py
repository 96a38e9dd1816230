"""Copies fetched back: whole and proven under their name, or not there; never fetched twice, never mixed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import (
    Interrupted,
    Misconfigured,
    NoSpace,
    StoreCold,
    StoreMismatch,
    StoreMissing,
    StoreUnavailable,
)
from dpn.storage import fetch as fetch_module
from dpn.storage import retrieval
from dpn.storage.errors import ObjectReplaced, TargetBusy
from dpn.storage.retrieval import Retrieved, discard_partial
from dpn.storage.s3.store import S3Store
from dpn.storage.store import Store
from models.manifests import Receipt
from tests.services.storage.conftest import PART_BYTES, StagedBag, s3_settings, s3_store
from tests.services.storage.s3_proxy import Fault, Proxy, Request

Stage = Callable[[int], StagedBag]
SIZES = [0, 1, PART_BYTES, 3 * PART_BYTES + 17]

RETRIEVER = """
import json, pathlib, sys
from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.storage.settings import StoreSettings
from dpn.storage.stores import open_store
from models.manifests import Receipt

job = json.load(sys.stdin)
store = open_store(StoreSettings.model_validate(job["settings"]), clock=SystemClock())
receipt = Receipt.model_validate(job["receipt"]) if job["receipt"] else None
store.retrieve(job["key"], pathlib.Path(job["target"]), receipt=receipt, cancellation=Cancellation())
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder / "retrieved.tar"


def fetch(store: Store, bag: StagedBag, target: Path, receipt: Receipt | None, **more: Any) -> Retrieved:
    return store.retrieve(bag.key, target, receipt=receipt, **{"cancellation": Cancellation(), **more})


def gets(request: Request) -> bool:
    return request.method == "GET"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_receipt", [True, False])
def test_a_copy_comes_back_byte_for_byte_and_nothing_else_is_left(
    store: Store, stage: Stage, target: Path, size: int, with_receipt: bool
) -> None:
    bag = stage(size)
    receipt = bag.put(store)
    told: list[tuple[int, int]] = []

    got = fetch(
        store,
        bag,
        target,
        receipt if with_receipt else None,
        progress=lambda done, all_: told.append((done, all_)),
    )

    assert target.read_bytes() == bag.content
    assert (got.path, got.size, got.sha256, got.resumed_bytes) == (target, size, bag.sha256, 0)
    assert ("receipt" in got.verified_by) == with_receipt
    assert left(target) == [target.name]
    assert told == sorted(told)
    assert told[-1] == (size, size)


@pytest.mark.parametrize("size", [1000, 3 * PART_BYTES])
def test_what_the_store_shows_is_compared_too(
    s3_bucket: Any, stage: Stage, clock: ManualClock, target: Path, size: int
) -> None:
    store, bag = s3_store(s3_settings(s3_bucket), clock), stage(size)
    bag.put(store)

    assert fetch(store, bag, target, None).verified_by == ("store-checksums",)


def test_an_object_that_is_not_there_leaves_nothing(store: Store, stage: Stage, target: Path) -> None:
    bag = stage(10)

    with pytest.raises(StoreMissing):
        fetch(store, bag, target, None)

    assert left(target) == []


def test_a_call_after_the_file_got_its_name_fetches_nothing(
    behind_proxy: S3Store, proxy: Proxy, stage: Stage, target: Path
) -> None:
    bag = stage(2 * PART_BYTES)
    receipt = bag.put(behind_proxy)
    fetch(behind_proxy, bag, target, receipt)
    proxy.forget()

    again = fetch(behind_proxy, bag, target, receipt)

    assert again.resumed_bytes == 2 * PART_BYTES
    assert proxy.count(lambda request: request.method == "GET") == 0


def test_a_wrong_file_under_the_name_is_replaced(store: Store, stage: Stage, target: Path) -> None:
    bag = stage(2 * PART_BYTES)
    receipt = bag.put(store)
    target.write_bytes(b"!" + bag.content[1:])

    fetch(store, bag, target, receipt)

    assert target.read_bytes() == bag.content


class TestDamageInTheStore:
    """versitygw keeps objects as files; what rots there it hands out as it is."""

    @pytest.fixture
    def bag(self, stage: Stage) -> StagedBag:
        return stage(3 * PART_BYTES + 17)

    @pytest.fixture
    def versitygw(self, s3_bucket: Any, clock: ManualClock) -> S3Store:
        return s3_store(s3_settings(s3_bucket), clock)

    @pytest.fixture
    def kept(self, server: Callable[[str], Any], s3_bucket: Any, bag: StagedBag) -> Path:
        return Path(server("s3")[0]["data"]) / s3_bucket.name / "bags" / bag.key

    def _flip(self, path: Path, at: int) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 4]))

    @pytest.mark.parametrize(("at", "part"), [(0, 1), (PART_BYTES, 2), (3 * PART_BYTES + 16, 4)])
    def test_a_flipped_bit_is_found_and_the_part_is_named(
        self, versitygw: S3Store, bag: StagedBag, kept: Path, target: Path, at: int, part: int
    ) -> None:
        receipt = bag.put(versitygw)
        self._flip(kept, at)

        with pytest.raises(StoreMismatch, match=f"part {part} of 4"):
            fetch(versitygw, bag, target, receipt)

        assert not target.exists()

    def test_a_flipped_bit_is_found_without_a_receipt_by_the_stores_checksum(
        self, versitygw: S3Store, bag: StagedBag, kept: Path, target: Path
    ) -> None:
        bag.put(versitygw)
        self._flip(kept, 2 * PART_BYTES)

        with pytest.raises(StoreMismatch, match="not what the store says"):
            fetch(versitygw, bag, target, None)

        assert not target.exists()

    def test_an_object_cut_short_is_found_before_a_byte_is_fetched(
        self, versitygw: S3Store, bag: StagedBag, kept: Path, target: Path
    ) -> None:
        receipt = bag.put(versitygw)
        os.truncate(kept, 2 * PART_BYTES)

        with pytest.raises(StoreMismatch, match="bytes instead of"):
            fetch(versitygw, bag, target, receipt)

        assert left(target) == []

    def test_a_deleted_object_is_missing(
        self, versitygw: S3Store, bag: StagedBag, kept: Path, target: Path
    ) -> None:
        receipt = bag.put(versitygw)
        kept.unlink()

        with pytest.raises(StoreMissing):
            fetch(versitygw, bag, target, receipt)

    def test_once_the_part_is_repaired_only_it_is_fetched(
        self, versitygw: S3Store, bag: StagedBag, kept: Path, target: Path
    ) -> None:
        receipt = bag.put(versitygw)
        self._flip(kept, 3 * PART_BYTES + 1)
        with pytest.raises(StoreMismatch):
            fetch(versitygw, bag, target, receipt)
        self._flip(kept, 3 * PART_BYTES + 1)

        assert fetch(versitygw, bag, target, receipt).resumed_bytes == 3 * PART_BYTES
        assert target.read_bytes() == bag.content


class TestDisturbed:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault(gets, times=2, break_answer_after_bytes=PART_BYTES // 2),
            Fault(gets, times=2, answer=(503, "SlowDown", {})),
            Fault(gets, times=1, swap_answer_byte=True),
            Fault(gets, times=1, hang=threading.Event()),
        ],
        ids=["broken-off", "slow-down", "damaged-on-the-way", "timeout"],
    )
    def test_a_short_disturbance_is_overcome(
        self, behind_proxy: S3Store, proxy: Proxy, stage: Stage, target: Path, fault: Fault
    ) -> None:
        bag = stage(3 * PART_BYTES)
        receipt = bag.put(behind_proxy)
        proxy.faults.append(Fault(**vars(fault)))

        fetch(behind_proxy, bag, target, receipt)

        assert target.read_bytes() == bag.content

    @pytest.mark.parametrize(
        ("status", "code", "error"),
        [
            (403, "InvalidObjectState", StoreCold),
            (503, "SlowDown", StoreUnavailable),
            (403, "AccessDenied", Misconfigured),
            (404, "NoSuchKey", StoreMissing),
        ],
        ids=["restore-expired", "outage", "forbidden", "deleted"],
    )
    @pytest.mark.parametrize("with_receipt", [True, False])
    def test_what_came_before_a_failure_is_kept_and_not_fetched_again(
        self,
        behind_proxy: S3Store,
        proxy: Proxy,
        stage: Stage,
        target: Path,
        status: int,
        code: str,
        error: type[Exception],
        with_receipt: bool,
    ) -> None:
        bag = stage(6 * PART_BYTES)
        receipt = bag.put(behind_proxy)
        known = receipt if with_receipt else None
        proxy.faults += [Fault(gets, times=3, seconds_a_buffer=0), Fault(gets, answer=(status, code, {}))]

        with pytest.raises(error):
            fetch(behind_proxy, bag, target, known)

        assert not target.exists()
        proxy.forget()
        got = fetch(behind_proxy, bag, target, known)
        assert target.read_bytes() == bag.content
        assert got.resumed_bytes > 0
        fetched_now = proxy.count(lambda request: request.method == "GET")
        assert fetched_now == 6 - got.resumed_bytes // PART_BYTES
        assert left(target) == [target.name]

    @pytest.mark.parametrize("with_receipt", [True, False])
    def test_an_object_replaced_meanwhile_is_noticed_and_never_mixed(
        self,
        behind_proxy: S3Store,
        proxy: Proxy,
        s3_bucket: Any,
        stage: Stage,
        target: Path,
        with_receipt: bool,
    ) -> None:
        bag, other = stage(6 * PART_BYTES), bytes(6 * PART_BYTES)
        receipt = bag.put(behind_proxy)

        def replace_it(done: int, total: int) -> None:
            if done and not replaced:
                replaced.append(True)
                s3_bucket.client().put_object(Bucket=s3_bucket.name, Key=f"bags/{bag.key}", Body=other)

        replaced: list[bool] = []
        with pytest.raises(ObjectReplaced):
            fetch(behind_proxy, bag, target, receipt if with_receipt else None, progress=replace_it)

        assert not target.exists()
        if with_receipt:
            with pytest.raises(StoreMismatch, match="part"):
                fetch(behind_proxy, bag, target, receipt)
        else:
            assert fetch(behind_proxy, bag, target, None).resumed_bytes == 0
            assert target.read_bytes() == other

    def test_a_stop_keeps_what_came(self, behind_proxy: S3Store, proxy: Proxy, stage: Stage, target: Path) -> None:
        bag, cancellation = stage(6 * PART_BYTES), Cancellation()
        receipt = bag.put(behind_proxy)

        def stop_midway(done: int, total: int) -> None:
            if done >= 2 * PART_BYTES:
                cancellation.cancel(Interrupted("stopping"))

        with pytest.raises(Interrupted, match="stopping"):
            fetch(behind_proxy, bag, target, receipt, cancellation=cancellation, progress=stop_midway)

        assert not target.exists()
        assert fetch(behind_proxy, bag, target, receipt).resumed_bytes > 0
        assert target.read_bytes() == bag.content


class TestTheStagingDisk:
    def test_a_volume_without_room_is_waited_for_before_a_byte_is_fetched(
        self, behind_proxy: S3Store, proxy: Proxy, stage: Stage, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bag = stage(2 * PART_BYTES)
        receipt = bag.put(behind_proxy)
        proxy.forget()
        usage = shutil.disk_usage(target.parent)._replace(free=PART_BYTES)
        monkeypatch.setattr(retrieval.shutil, "disk_usage", lambda _: usage)

        with pytest.raises(NoSpace, match=f"{PART_BYTES} bytes left"):
            fetch(behind_proxy, bag, target, receipt)

        assert proxy.count(lambda request: request.method == "GET") == 0

    def test_a_volume_that_fills_up_midway_keeps_what_came(
        self, store: Store, stage: Stage, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bag = stage(4 * PART_BYTES)
        receipt = bag.put(store)
        pwrite = os.pwrite

        def full(descriptor: int, data: Any, offset: int) -> int:
            if offset >= 3 * PART_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return pwrite(descriptor, data, offset)

        monkeypatch.setattr(fetch_module.os, "pwrite", full)
        with pytest.raises(NoSpace, match="what came is kept"):
            fetch(store, bag, target, receipt)
        monkeypatch.setattr(fetch_module.os, "pwrite", pwrite)

        assert fetch(store, bag, target, receipt).resumed_bytes > 0
        assert target.read_bytes() == bag.content

    @pytest.mark.parametrize("with_receipt", [True, False])
    @pytest.mark.parametrize("damage", ["data", "journal-digest", "journal-torn", "journal-nonsense", "cut-short"])
    def test_what_is_there_is_trusted_no_further_than_its_digests(
        self, behind_proxy: S3Store, proxy: Proxy, stage: Stage, target: Path, damage: str, with_receipt: bool
    ) -> None:
        bag = stage(4 * PART_BYTES)
        receipt = bag.put(behind_proxy)
        known = receipt if with_receipt else None
        proxy.faults += [Fault(gets, times=3), Fault(gets, answer=(403, "InvalidObjectState", {}))]
        with pytest.raises(StoreCold):
            fetch(behind_proxy, bag, target, known)
        proxy.forget()
        damage_what_is_there(target, damage)

        fetch(behind_proxy, bag, target, known)

        assert target.read_bytes() == bag.content

    def test_two_processes_never_write_the_same_file(self, store: Store, stage: Stage, target: Path) -> None:
        bag = stage(2 * PART_BYTES)
        receipt = bag.put(store)
        refused: list[bool] = []

        def fetch_again(done: int, total: int) -> None:
            if not refused:
                with pytest.raises(TargetBusy):
                    fetch(store, bag, target, receipt)
                refused.append(True)

        fetch(store, bag, target, receipt, progress=fetch_again)

        assert refused
        assert target.read_bytes() == bag.content

    def test_what_nobody_wants_any_more_can_be_discarded(
        self, behind_proxy: S3Store, proxy: Proxy, stage: Stage, target: Path
    ) -> None:
        bag = stage(4 * PART_BYTES)
        receipt = bag.put(behind_proxy)
        proxy.faults += [Fault(gets, times=2), Fault(gets, answer=(403, "InvalidObjectState", {}))]
        with pytest.raises(StoreCold):
            fetch(behind_proxy, bag, target, receipt)
        assert left(target) != []

        discard_partial(target)

        assert left(target) == []


@pytest.mark.parametrize("with_receipt", [True, False])
def test_a_process_killed_midway_is_followed_by_one_that_fetches_only_the_rest(
    s3_bucket: Any, proxy: Proxy, stage: Stage, target: Path, clock: ManualClock, with_receipt: bool
) -> None:
    settings = s3_settings(s3_bucket, endpoint_url=proxy.endpoint, read_timeout_seconds=60)
    store, bag = s3_store(settings, clock), stage(8 * PART_BYTES)
    receipt = bag.put(store)
    proxy.forget()
    release = threading.Event()
    proxy.faults += [Fault(gets, times=5), Fault(gets, hang=release)]
    known = receipt if with_receipt else None
    process = retriever(bag, settings, target, known)
    journal = target.with_name(f".{target.name}.partial.journal")
    proxy.wait_until(lambda: proxy.count(gets) == 7 and len(journal.read_text().splitlines()) == 6, 60)
    process.kill()
    process.wait()
    release.set()
    assert not target.exists()
    proxy.forget()

    got = fetch(store, bag, target, known)

    assert got.resumed_bytes == 5 * PART_BYTES
    assert proxy.count(gets) == 3
    assert target.read_bytes() == bag.content
    assert left(target) == [target.name]


def test_a_folder_is_read_in_place_and_a_bucket_is_not(
    store: Store, stage: Stage, request: pytest.FixtureRequest
) -> None:
    bag = stage(1000)
    bag.put(store)

    path = store.open_in_place(bag.key)

    if request.node.callspec.params["store"] == "folder":
        assert path is not None
        assert path.read_bytes() == bag.content
        with pytest.raises(StoreMissing):
            store.open_in_place("gone.tar")
    else:
        assert path is None


def damage_what_is_there(target: Path, damage: str) -> None:
    partial = target.with_name(f".{target.name}.partial")
    journal = target.with_name(f".{target.name}.partial.journal")
    lines = journal.read_text().splitlines()
    assert len(lines) > 1
    if damage == "data":
        partial.write_bytes(bytes(len(partial.read_bytes())))
    elif damage == "cut-short":
        os.truncate(partial, 10)
    elif damage == "journal-digest":
        journal.write_text("\n".join([lines[0], *(f'[{n}, "{"0" * 64}"]' for n in range(1, 5)), ""]))
    elif damage == "journal-torn":
        journal.write_text(journal.read_text()[:-20])
    else:
        journal.write_text(
            "\n".join([lines[0], "[[[", "{}", "null", "[1, 2]", '["x", "y"]', '[99999, "00"]', "\0"])
        )


def retriever(bag: StagedBag, settings: Any, target: Path, receipt: Receipt | None) -> subprocess.Popen[str]:
    """A process of its own that retrieves the bag."""
    process = subprocess.Popen([sys.executable, "-c", RETRIEVER], stdin=subprocess.PIPE, text=True)
    values = settings.model_dump(mode="json", exclude_none=True)
    values["secret_access_key"] = settings.secret()
    job = {
        "settings": values,
        "key": bag.key,
        "target": str(target),
        "receipt": receipt.model_dump(mode="json") if receipt else None,
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    return process
