"""What each kind of store promises alike: a folder, an S3 server that checks checksums, one that does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import Interrupted, LeaseLost, PermanentError, StoreMismatch, StoreMissing
from dpn.storage.errors import StagedChanged, StoreConflict
from dpn.storage.store import Store
from models.manifests import Receipt
from tests.services.storage.conftest import METADATA, PART_BYTES, StagedBag

Stage = Callable[[int], StagedBag]
SIZES = [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 17]


@pytest.mark.parametrize("size", SIZES)
def test_a_stored_bag_reads_back_byte_for_byte(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)

    receipt = bag.put(store)

    assert b"".join(store.read(bag.key)) == bag.content
    assert receipt.size == size
    assert receipt.sha256 == bag.sha256


def test_a_receipt_tells_every_part_and_how_and_when_the_copy_was_confirmed(
    store: Store, stage: Stage, clock: ManualClock
) -> None:
    bag = stage(2 * PART_BYTES + 5)

    receipt = bag.put(store)

    content = bag.content
    assert receipt.part_size == PART_BYTES
    assert receipt.part_sha256 == [
        hashlib.sha256(content[start : start + PART_BYTES]).hexdigest()
        for start in range(0, len(content), PART_BYTES)
    ]
    assert receipt.confirmed_at == clock.now()
    assert receipt.confirmed_by in ("store-checksums", "etag", "read-back")
    assert receipt.key == bag.key
    assert receipt.url.endswith(f"/{bag.key}")
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt


def test_metadata_comes_back_as_it_was_given(store: Store, stage: Stage) -> None:
    bag = stage(1000)

    bag.put(store)

    stored = store.head(bag.key)
    assert stored is not None
    assert stored.key == bag.key
    assert stored.size == 1000
    assert {name: stored.metadata[name] for name in METADATA} == METADATA
    assert stored.metadata["sha256"] == bag.sha256


def test_hostile_metadata_neither_fails_nor_breaks_the_store(store: Store, stage: Stage) -> None:
    bag = stage(10)
    hostile = {
        "member": "\r\nx-amz-acl: public-read\r\n",
        "local_id": "仓" * 5000,
        "from_node": "\x00\ud800\u2028  %2e%2e/",
        "transfer_id": "",
    }

    bag.put(store, metadata=hostile)

    stored = store.head(bag.key)
    assert stored is not None
    assert stored.metadata["member"] == hostile["member"]
    assert stored.metadata["local_id"].startswith("仓仓仓")


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES])
def test_a_bag_that_is_stored_already_is_answered_with_its_receipt(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)
    first = bag.put(store)
    before = store.head(bag.key)
    bag.fences = 0

    again = bag.put(store)

    assert store.head(bag.key) == before
    assert bag.fences == 0
    assert again.model_copy(update={"store_checksum": None}) == first.model_copy(update={"store_checksum": None})


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES])
@pytest.mark.parametrize("other_size", [1000, 2 * PART_BYTES])
def test_another_content_under_the_key_is_never_overwritten(
    store: Store, stage: Stage, size: int, other_size: int
) -> None:
    bag, other = stage(size), stage(other_size)
    other.path.write_bytes(b"!" + other.content[1:])
    other.key = bag.key
    other.put(store)

    with pytest.raises(StoreConflict, match="not overwritten") as refused:
        bag.put(store)

    assert isinstance(refused.value, PermanentError)
    assert b"".join(store.read(bag.key)) == other.content


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES])
def test_a_bit_flipped_since_validation_makes_nothing_visible(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)
    validated = bag.sha256
    content = bytearray(bag.content)
    content[size // 2] ^= 1
    bag.path.write_bytes(content)

    with pytest.raises(StagedChanged):
        bag.put(store, sha256=validated)

    assert store.head(bag.key) is None
    assert bag.upload is None
    assert store.abort_abandoned_uploads(older_than=timedelta(0), keep=()) == 0


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES])
def test_a_worker_that_lost_its_lease_makes_nothing_visible(store: Store, stage: Stage, size: int) -> None:
    bag = stage(size)

    def lost() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        bag.put(store, fence=lost)

    assert store.head(bag.key) is None
    assert bag.put(store).sha256 == bag.sha256


def test_a_stop_ends_a_put_and_leaves_nothing_visible(store: Store, stage: Stage) -> None:
    bag = stage(3 * PART_BYTES)
    cancellation = Cancellation()

    def stop_midway(done: int, total: int) -> None:
        if done >= PART_BYTES:
            cancellation.cancel(Interrupted("stopping"))

    with pytest.raises(Interrupted, match="stopping"):
        bag.put(store, cancellation=cancellation, progress=stop_midway)

    assert store.head(bag.key) is None


def test_progress_ends_at_the_whole_size(store: Store, stage: Stage) -> None:
    bag = stage(2 * PART_BYTES + 1)
    told: list[tuple[int, int]] = []

    bag.put(store, progress=lambda done, total: told.append((done, total)))

    size = 2 * PART_BYTES + 1
    assert told[-1] == (size, size)
    assert sorted(told) == told


@pytest.mark.parametrize("size", [0, 1000, 2 * PART_BYTES + 1])
@pytest.mark.parametrize("read_back", [False, True])
def test_a_copy_is_proven_again_from_its_receipt_alone(
    store: Store, stage: Stage, clock: ManualClock, size: int, read_back: bool
) -> None:
    bag = stage(size)
    receipt = bag.put(store)
    bag.path.unlink()
    clock.advance(86_400)

    renewed = store.confirm(receipt, read_back=read_back)

    assert renewed.confirmed_at == clock.now() > receipt.confirmed_at
    assert renewed.sha256 == receipt.sha256


def test_a_receipt_of_other_bytes_is_not_confirmed(store: Store, stage: Stage) -> None:
    bag, other = stage(2 * PART_BYTES), stage(2 * PART_BYTES)
    other.path.write_bytes(b"!" + other.content[1:])
    receipt, others = bag.put(store), other.put(store)
    forged = others.model_copy(update={"key": receipt.key, "url": receipt.url})

    with pytest.raises(StoreMismatch):
        store.confirm(forged)


def test_a_receipt_of_an_object_that_is_gone_says_so(store: Store, stage: Stage) -> None:
    bag = stage(1000)
    receipt = bag.put(store)
    missing = receipt.model_copy(update={"key": "gone.tar", "url": receipt.url.replace(bag.key, "gone.tar")})

    with pytest.raises(StoreMissing):
        store.confirm(missing)
    with pytest.raises(StoreMissing):
        list(store.read("gone.tar"))
    assert store.head("gone.tar") is None


def test_a_probe_leaves_nothing_behind(store: Store, request: pytest.FixtureRequest) -> None:
    store.probe()

    assert store.abort_abandoned_uploads(older_than=timedelta(0), keep=()) == 0
    folder = request.node.callspec.params["store"] == "folder"
    assert _names(request, folder=folder) == []


@pytest.mark.parametrize("key", ["../up.tar", "a/b.tar", "/etc/passwd", ".hidden", "", "a\nb", "x" * 300])
def test_no_key_leaves_the_store(store: Store, stage: Stage, key: str) -> None:
    bag = stage(10)
    bag.key = key

    with pytest.raises(ValueError, match="not a key"):
        bag.put(store)
    with pytest.raises(ValueError, match="not a key"):
        store.head(key)


def test_a_symbolic_link_is_not_followed_to_another_file(store: Store, stage: Stage) -> None:
    bag, secret = stage(10), stage(10)
    bag.path.unlink()
    bag.path.symlink_to(secret.path)

    with pytest.raises(OSError, match="symbolic links"):
        bag.put(store, sha256=secret.sha256)


def _names(request: pytest.FixtureRequest, *, folder: bool) -> list[str]:
    if folder:
        return [path.name for path in (request.getfixturevalue("tmp_path") / "store").iterdir()]
    kind = request.node.callspec.params["store"]
    bucket: Any = request.getfixturevalue("s3_bucket" if kind == "versitygw" else "glacier_bucket")
    return [found["Key"] for found in bucket.client().list_objects_v2(Bucket=bucket.name).get("Contents", [])]
