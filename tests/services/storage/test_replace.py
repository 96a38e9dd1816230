"""A good copy takes the place of a bad one: never nothing in between, and never in the place of any other."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dpn.clock import ManualClock
from dpn.errors import LeaseLost
from dpn.storage.errors import ObjectReplaced, StagedChanged
from dpn.storage.folder import files as folder_files
from dpn.storage.settings import StoreSettings
from dpn.storage.store import Replaced, Store
from dpn.storage.stored_object import StoredObject
from dpn.storage.stores import open_store
from tests.services.storage.conftest import METADATA, PART_BYTES, StagedBag, s3_settings, s3_store
from tests.services.storage.s3_proxy import Fault

Stage = Callable[[int], StagedBag]
SIZES = [1000, 2 * PART_BYTES + 3]


def replace(store: Store, bag: StagedBag, bad: StoredObject | None, **changes: Any) -> Replaced:
    arguments: dict[str, Any] = {"bad": bad, **changes}
    return bag.put(_Replacing(store), **arguments)  # type: ignore[arg-type, return-value]


class _Replacing:
    """Lets a staged bag be put by a repair."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, *arguments: Any, **more: Any) -> Replaced:
        return self._store.replace(*arguments, **more)


def spoil(store: Store, bag: StagedBag, stage: Stage) -> StoredObject:
    """Has other bytes of the same size lie under the bag's key; returns what the store says of them."""
    other = stage(bag.path.stat().st_size)
    other.path.write_bytes(b"!" + other.content[1:])
    other.key = bag.key
    other.put(store)
    bad = store.head(bag.key)
    assert bad is not None
    return bad


@pytest.mark.parametrize("size", SIZES)
def test_a_bad_object_gives_way_to_the_good_copy_and_its_receipt_is_proven(
    store: Store, stage: Stage, size: int
) -> None:
    bag = stage(size)
    bad = spoil(store, bag, stage)

    replaced = replace(store, bag, bad)

    assert b"".join(store.read(bag.key)) == bag.content
    assert store.confirm(replaced.receipt, read_back=True).sha256 == bag.sha256
    assert store.abort_abandoned_uploads(older_than=timedelta(0), keep=()) == 0
    stored = store.head(bag.key)
    assert stored is not None
    assert {name: stored.metadata[name] for name in METADATA} == METADATA


@pytest.mark.parametrize("size", SIZES)
def test_a_missing_object_is_put_back(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)

    replaced = replace(store, bag, None)

    assert b"".join(store.read(bag.key)) == bag.content
    assert store.confirm(replaced.receipt).sha256 == bag.sha256


@pytest.mark.parametrize("size", SIZES)
def test_an_object_that_nobody_found_bad_is_not_replaced(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)
    spoil(store, bag, stage)
    before = b"".join(store.read(bag.key))
    elsewhere = store.head(bag.key)
    assert elsewhere is not None

    for bad in (None, StoredObject(bag.key, size, elsewhere.modified_at - timedelta(days=1), etag="0" * 32)):
        with pytest.raises(ObjectReplaced):
            replace(store, bag, bad)

    assert b"".join(store.read(bag.key)) == before


@pytest.mark.parametrize("size", SIZES)
def test_a_good_copy_that_is_there_by_now_stays_and_is_answered(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)
    bag.put(store)
    before = store.head(bag.key)

    replaced = replace(store, bag, None)

    assert store.head(bag.key) == before
    assert replaced.receipt.sha256 == bag.sha256


@pytest.mark.parametrize("size", SIZES)
def test_a_worker_that_lost_its_lease_replaces_nothing_and_the_next_one_does(
    store: Store, stage: Stage, size: int
) -> None:
    bag = stage(size)
    bad = spoil(store, bag, stage)
    before = b"".join(store.read(bag.key))

    def lost() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        replace(store, bag, bad, fence=lost)

    assert b"".join(store.read(bag.key)) == before
    replace(store, bag, bad)
    assert b"".join(store.read(bag.key)) == bag.content


@pytest.mark.parametrize("size", SIZES)
def test_a_source_that_changed_since_it_was_validated_replaces_nothing(
    store: Store, stage: Stage, size: int
) -> None:
    bag = stage(size)
    bad = spoil(store, bag, stage)
    before = b"".join(store.read(bag.key))
    validated = bag.sha256
    bag.path.write_bytes(b"?" + bag.content[1:])

    with pytest.raises(StagedChanged):
        replace(store, bag, bad, sha256=validated)

    assert b"".join(store.read(bag.key)) == before


@pytest.mark.parametrize("size", SIZES)
def test_an_object_that_changes_at_the_last_moment_is_not_overwritten(
    s3_bucket: Any, clock: ManualClock, stage: Stage, size: int
) -> None:
    store, bag = s3_store(s3_settings(s3_bucket), clock), stage(size)
    bad = spoil(store, bag, stage)

    def overtaken() -> None:
        s3_bucket.client().put_object(Bucket=s3_bucket.name, Key=f"bags/{bag.key}", Body=b"another's")

    with pytest.raises(ObjectReplaced):
        replace(store, bag, bad, fence=overtaken)

    assert b"".join(store.read(bag.key)) == b"another's"


@pytest.mark.parametrize("size", SIZES)
def test_rot_that_the_stores_checksums_do_not_show_is_replaced(
    server: Callable[[str], Any], s3_bucket: Any, clock: ManualClock, stage: Stage, size: int
) -> None:
    store, bag = s3_store(s3_settings(s3_bucket), clock), stage(size)
    receipt = bag.put(store)
    kept = Path(server("s3")[0]["data"]) / s3_bucket.name / "bags" / bag.key
    with kept.open("r+b") as file:
        file.write(bytes([bag.content[0] ^ 1]))
    os.utime(kept, (1_600_000_000, 1_600_000_000))
    bad = store.head(bag.key)
    assert bad is not None
    assert store.confirm(receipt).confirmed_by == "store-checksums", "the store itself knows nothing of it"

    replace(store, bag, bad)

    assert b"".join(store.read(bag.key)) == bag.content


def test_a_versioned_bucket_keeps_the_bad_version_and_the_answer_names_it(
    glacier_bucket: Any, clock: ManualClock, stage: Stage
) -> None:
    s3 = glacier_bucket.client()
    s3.put_bucket_versioning(Bucket=glacier_bucket.name, VersioningConfiguration={"Status": "Enabled"})
    store, bag = s3_store(s3_settings(glacier_bucket), clock), stage(1000)
    bad = spoil(store, bag, stage)

    replaced = replace(store, bag, bad)

    assert replaced.kept_version == bad.version_id != replaced.receipt.version_id
    assert store.availability(bag.key, version_id=bad.version_id).state == "available"


def test_a_replacement_that_comes_out_damaged_is_not_removed(
    s3_bucket: Any, glacier_bucket: Any, clock: ManualClock, stage: Stage
) -> None:
    from dpn.errors import StoreMismatch
    from tests.services.storage.s3_proxy import faulty_proxy

    with faulty_proxy(glacier_bucket.endpoint) as proxy:
        store = s3_store(s3_settings(glacier_bucket, endpoint_url=proxy.endpoint), clock)
        store.probe()
        bag = stage(1000)
        bad = spoil(store, bag, stage)
        proxy.faults.append(Fault(lambda request: request.puts_whole, swap_byte=True))

        with pytest.raises(StoreMismatch, match="it stays"):
            replace(store, bag, bad)

        assert store.head(bag.key) is not None


class TestFolder:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "the store"
        root.mkdir()
        return root

    @pytest.fixture
    def folder_store(self, root: Path, clock: ManualClock) -> Store:
        return open_store(StoreSettings(url=root.as_uri(), part_size_bytes=PART_BYTES), clock=clock)

    def test_at_every_step_the_name_is_taken_and_the_bad_bytes_outlive_it(
        self, folder_store: Store, root: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bag = stage(1000)
        bad = spoil(folder_store, bag, stage)
        before = (root / bag.key).read_bytes()
        seen: list[tuple[bytes, list[bytes]]] = []
        sync = folder_files.sync_folder

        def look(folder: Path) -> None:
            aside = [path.read_bytes() for path in root.iterdir() if ".bad-" in path.name]
            seen.append(((root / bag.key).read_bytes(), aside))
            sync(folder)

        monkeypatch.setattr(folder_files, "sync_folder", look)
        replace(folder_store, bag, bad)

        assert seen == [(before, [before]), (bag.content, [before])]
        assert sorted(path.name for path in root.iterdir()) == [bag.key, f"{bag.key}.json"]

    @pytest.mark.parametrize("step", [1, 2])
    def test_a_crash_at_any_step_is_followed_by_a_repair_that_ends_the_same(
        self, folder_store: Store, root: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        bag, steps = stage(1000), []
        bad = spoil(folder_store, bag, stage)
        sync = folder_files.sync_folder

        def die(folder: Path) -> None:
            steps.append(folder)
            if len(steps) == step:
                raise KeyboardInterrupt
            sync(folder)

        monkeypatch.setattr(folder_files, "sync_folder", die)
        with pytest.raises(KeyboardInterrupt):
            replace(folder_store, bag, bad)
        monkeypatch.setattr(folder_files, "sync_folder", sync)
        assert (root / bag.key).exists()

        replace(folder_store, bag, bad)

        assert (root / bag.key).read_bytes() == bag.content
