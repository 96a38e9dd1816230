"""Uploads that were broken off and what becomes of them, on a store that checks and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dpn.clock import ManualClock
from dpn.errors import LeaseLost, Misconfigured, StoreCold, StoreMismatch, StoreUnavailable
from dpn.storage.errors import StoreConflict
from dpn.storage.s3.store import S3Store
from dpn.storage.stored_object import Capabilities
from models.manifests import UploadState
from tests.services.storage.conftest import METADATA, PART_BYTES, StagedBag, s3_settings, s3_store
from tests.services.storage.s3_proxy import Fault, Proxy, Request

Stage = Callable[[int], StagedBag]


def lost() -> None:
    raise LeaseLost("another worker has it")


@pytest.fixture(params=["s3_bucket", "glacier_bucket"])
def bucket(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(bucket: Any, clock: ManualClock) -> S3Store:
    return s3_store(s3_settings(bucket), clock)


def uploads(bucket: Any) -> list[str]:
    answer = bucket.client().list_multipart_uploads(Bucket=bucket.name)
    return [upload["UploadId"] for upload in answer.get("Uploads", [])]


def test_the_upload_is_known_before_a_part_is_sent_and_forgotten_when_it_is_done(
    store: S3Store, bucket: Any, stage: Stage
) -> None:
    bag = stage(2 * PART_BYTES)
    parts_at_checkpoint: list[int] = []

    def checkpoint(state: UploadState | None) -> None:
        bag.checkpoints.append(state)
        if state:
            where = {"Bucket": bucket.name, "Key": f"bags/{bag.key}", "UploadId": state.upload_id}
            parts_at_checkpoint.append(len(bucket.client().list_parts(**where).get("Parts", [])))

    bag.put(store, checkpoint=checkpoint)

    assert parts_at_checkpoint == [0]
    assert [state is None for state in bag.checkpoints] == [False, True]
    assert uploads(bucket) == []


def test_a_small_bag_is_one_put_without_an_upload(store: S3Store, bucket: Any, stage: Stage) -> None:
    bag = stage(PART_BYTES)

    receipt = bag.put(store)

    assert bag.checkpoints == []
    assert receipt.etag is not None
    assert "-" not in receipt.etag


def test_an_upload_that_lost_its_lease_is_completed_by_the_next_holder(
    store: S3Store, bucket: Any, stage: Stage
) -> None:
    bag = stage(3 * PART_BYTES + 1)
    with pytest.raises(LeaseLost):
        bag.put(store, fence=lost)
    begun = bag.upload

    receipt = bag.put(store)

    assert begun is not None
    assert bag.checkpoints == [begun, None]
    assert receipt.sha256 == bag.sha256
    assert b"".join(store.read(bag.key)) == bag.content


def test_an_upload_goes_on_with_the_part_size_it_began_with(
    store: S3Store, bucket: Any, stage: Stage, clock: ManualClock
) -> None:
    bag = stage(4 * PART_BYTES)
    with pytest.raises(LeaseLost):
        bag.put(store, fence=lost)
    changed = s3_store(s3_settings(bucket, part_size_bytes=2 * PART_BYTES), clock)

    receipt = bag.put(changed)

    assert receipt.part_size == PART_BYTES
    assert len(receipt.part_sha256) == 4


def test_an_upload_that_someone_aborted_begins_anew(store: S3Store, bucket: Any, stage: Stage) -> None:
    bag = stage(2 * PART_BYTES)
    with pytest.raises(LeaseLost):
        bag.put(store, fence=lost)
    assert bag.upload is not None
    gone = bag.upload.upload_id
    bucket.client().abort_multipart_upload(Bucket=bucket.name, Key=f"bags/{bag.key}", UploadId=gone)

    receipt = bag.put(store)

    first, forgotten, second, done = bag.checkpoints
    assert (forgotten, done) == (None, None)
    assert first is not None
    assert second is not None
    assert second.upload_id != first.upload_id
    assert receipt.sha256 == bag.sha256


def test_parts_of_other_bytes_are_not_taken_for_ours(store: S3Store, bucket: Any, stage: Stage) -> None:
    bag = stage(2 * PART_BYTES)
    with pytest.raises(LeaseLost):
        bag.put(store, fence=lost)
    content = bag.content
    bag.path.write_bytes(b"!" + content[1:])

    receipt = bag.put(store)

    assert receipt.sha256 == bag.sha256
    assert b"".join(store.read(bag.key)) == b"!" + content[1:]


def test_an_upload_is_aborted_when_the_bag_was_stored_meanwhile(store: S3Store, bucket: Any, stage: Stage) -> None:
    bag = stage(2 * PART_BYTES)
    with pytest.raises(LeaseLost):
        bag.put(store, fence=lost)
    bag.put(store, resume=None, checkpoint=lambda _: None)

    bag.put(store)

    assert bag.upload is None
    assert uploads(bucket) == []


def test_the_first_of_two_writers_wins_and_the_second_gets_its_receipt(store: S3Store, stage: Stage) -> None:
    bag = stage(2 * PART_BYTES)

    def overtaken() -> None:
        if not overtaking:
            overtaking.append(True)
            bag.put(store, resume=None, checkpoint=lambda _: None, fence=lambda: None)

    overtaking: list[bool] = []
    receipt = bag.put(store, fence=overtaken)

    assert overtaking
    assert receipt.sha256 == bag.sha256
    assert bag.upload is None


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES])
def test_a_writer_of_another_content_that_comes_between_is_not_overwritten(
    store: S3Store, stage: Stage, size: int
) -> None:
    bag, other = stage(size), stage(size)
    other.path.write_bytes(b"!" + other.content[1:])
    other.key = bag.key

    with pytest.raises(StoreConflict):
        bag.put(store, fence=lambda: other.put(store) and None)

    assert b"".join(store.read(bag.key)) == other.content


def test_an_object_that_another_tool_put_there_is_recognised(store: S3Store, bucket: Any, stage: Stage) -> None:
    bag = stage(3 * PART_BYTES)
    bucket.client().upload_file(str(bag.path), bucket.name, f"bags/{bag.key}")

    receipt = bag.put(store)

    assert receipt.confirmed_by == "read-back"
    assert store.confirm(receipt).sha256 == bag.sha256


def test_metadata_stands_in_the_headers_as_plain_ascii(store: S3Store, bucket: Any, stage: Stage) -> None:
    bag = stage(10)
    bag.put(store)

    answer = bucket.client().head_object(Bucket=bucket.name, Key=f"bags/{bag.key}")

    assert answer["ContentType"] == "application/x-tar"
    assert answer["Metadata"]["from_node"] == "north"
    assert answer["Metadata"]["local_id"] == "two%20%20blanks,%0Anew%20line,%20%C3%A9%20and%20%E4%BB%93"
    assert sum(len(name) + len(value) for name, value in answer["Metadata"].items()) <= 2048
    assert set(METADATA) <= set(answer["Metadata"])


class TestJanitor:
    def test_only_old_uploads_of_ours_that_no_item_owns_are_aborted(
        self, store: S3Store, bucket: Any, stage: Stage, clock: ManualClock
    ) -> None:
        clock.advance((datetime.now(UTC) - clock.now()).total_seconds() + 8 * 86_400)
        owned, abandoned = stage(2 * PART_BYTES), stage(2 * PART_BYTES)
        for bag in (owned, abandoned):
            with pytest.raises(LeaseLost):
                bag.put(store, fence=lost)
        s3 = bucket.client()
        foreign = [
            s3.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
            for key in (f"elsewhere/{uuid4()}.tar", "bags/somebody's.zip", f"bags/deeper/{uuid4()}.tar")
        ]
        assert owned.upload is not None

        aborted = store.abort_abandoned_uploads(older_than=timedelta(days=7), keep=[owned.upload.upload_id])

        assert aborted == 1
        assert sorted(uploads(bucket)) == sorted([owned.upload.upload_id, *foreign])
        assert owned.put(store).sha256 == owned.sha256
        assert abandoned.put(store).sha256 == abandoned.sha256

    def test_young_uploads_stay(self, s3_bucket: Any, stage: Stage, clock: ManualClock) -> None:
        # Only versitygw: moto gives every upload a date in 2010.
        store = s3_store(s3_settings(s3_bucket), clock)
        clock.advance((datetime.now(UTC) - clock.now()).total_seconds() + 60)
        bag = stage(2 * PART_BYTES)
        with pytest.raises(LeaseLost):
            bag.put(store, fence=lost)

        assert store.abort_abandoned_uploads(older_than=timedelta(days=7), keep=()) == 0
        assert len(uploads(s3_bucket)) == 1


class TestProbe:
    def test_versitygw_checks_what_it_is_sent(self, s3_bucket: Any, clock: ManualClock) -> None:
        assert s3_store(s3_settings(s3_bucket), clock).probe() == Capabilities(
            refuses_wrong_sha256=True,
            shows_sha256=True,
            shows_crc64nvme=True,
            etag_is_md5=True,
            refuses_overwriting=True,
            replaces_on_condition=True,
            may_delete=True,
        )

    def test_moto_takes_any_checksum_so_its_entity_tag_is_the_proof(
        self, glacier_bucket: Any, clock: ManualClock
    ) -> None:
        capabilities = s3_store(s3_settings(glacier_bucket), clock).probe()

        assert not capabilities.refuses_wrong_sha256
        assert capabilities.etag_is_md5
        assert capabilities.refuses_overwriting
        assert capabilities.proof == "etag"


class TestAStoreThatIsPeculiar:
    def test_a_bucket_that_takes_nothing_without_a_checksum_is_probed_and_used(
        self, glacier_bucket: Any, clock: ManualClock, stage: Stage
    ) -> None:
        """As every bucket does that keeps objects for a time by default (Object Lock)."""
        s3, name = glacier_bucket.client(), f"locked-{uuid4()}"
        s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        retention = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        s3.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention}
        )
        store = s3_store(s3_settings(glacier_bucket, url=f"s3://{name}/bags"), clock)

        store.mark("whose it is")

        assert store.marker() == "whose it is"
        assert not store.probe().may_delete
        assert stage(1000).put(store).confirmed_by == "etag"

    @pytest.mark.parametrize("size", [1000, 2 * PART_BYTES])
    def test_what_is_shown_only_after_a_while_is_waited_for(
        self, s3_bucket: Any, proxy: Proxy, clock: ManualClock, stage: Stage, size: int
    ) -> None:
        store, unseen = s3_store(s3_settings(s3_bucket, endpoint_url=proxy.endpoint), clock), (404, "", {})
        proxy.faults.append(Fault(lambda request: request.method == "HEAD", times=3, answer=unseen))

        assert store.probe().proof == "store-checksums"
        proxy.faults.append(Fault(lambda request: request.method == "HEAD", times=4, answer=unseen))
        assert stage(size).put(store).confirmed_by == "store-checksums"

    def test_one_that_refuses_for_no_reason_that_we_know_is_waited_for(
        self, s3_bucket: Any, proxy: Proxy, clock: ManualClock, stage: Stage
    ) -> None:
        store = s3_store(s3_settings(s3_bucket, endpoint_url=proxy.endpoint), clock)
        proxy.faults.append(Fault(lambda request: request.puts_whole, answer=(418, "Teapot", {})))

        with pytest.raises(StoreUnavailable, match="cannot be tried out"):
            stage(10).put(store)


class TestAStoreThatIsNotTrusted:
    """`store.trusted_checksums = false`: it may have thrown the bytes away, and echo what it was sent."""

    @pytest.fixture
    def untrusted(self, s3_bucket: Any, proxy: Proxy, clock: ManualClock) -> S3Store:
        settings = s3_settings(s3_bucket, endpoint_url=proxy.endpoint, trusted_checksums=False)
        return s3_store(settings, clock)

    def test_a_copy_is_read_back_once_after_storing(self, untrusted: S3Store, proxy: Proxy, stage: Stage) -> None:
        bag = stage(1000)
        assert bag.put(untrusted).confirmed_by == "read-back"
        assert proxy.count(_gets) == 1
        assert bag.put(untrusted).confirmed_by == "read-back", "what lies there is no more believed"
        assert proxy.count(_gets) == 2

    def test_a_receipt_of_the_time_when_it_was_trusted_is_proven_by_reading(
        self, s3_bucket: Any, untrusted: S3Store, proxy: Proxy, clock: ManualClock, stage: Stage
    ) -> None:
        receipt = stage(1000).put(s3_store(s3_settings(s3_bucket), clock))
        assert receipt.confirmed_by == "store-checksums"
        assert untrusted.confirm(receipt).confirmed_by == "read-back"

    def test_an_echo_is_no_copy(self, untrusted: S3Store, proxy: Proxy, stage: Stage) -> None:
        bag = stage(1000)
        proxy.faults.append(Fault(_gets, swap_answer_byte=True))
        with pytest.raises(StoreMismatch, match="read back, its SHA-256 is"):
            bag.put(untrusted)
        assert untrusted.head(bag.key) is None

    def test_that_it_cannot_be_read_now_is_no_proof(self, untrusted: S3Store, proxy: Proxy, stage: Stage) -> None:
        cold, name = ("x-amz-storage-class", "GLACIER"), "x-amz-storage-class"
        proxy.faults.append(
            Fault(
                lambda request: request.method == "HEAD",
                edit_headers=lambda told: [cold, *(one for one in told if one[0].lower() != name)],
            )
        )
        with pytest.raises(StoreMismatch, match="trusted_checksums is false, and it cannot be read back now"):
            stage(1000).put(untrusted)

    def test_a_class_that_cannot_be_read_back_is_refused_with_the_settings(self, s3_bucket: Any) -> None:
        with pytest.raises(ValueError, match="cannot be read back: without trusted_checksums no copy"):
            s3_settings(s3_bucket, trusted_checksums=False, storage_class="DEEP_ARCHIVE")


def _gets(request: Request) -> bool:
    return request.method == "GET" and not request.query


class TestVersions:
    """moto keeps versions; versitygw as the tests run it does not."""

    def test_a_receipt_proves_its_own_version_whatever_came_after(
        self, glacier_bucket: Any, stage: Stage, clock: ManualClock
    ) -> None:
        s3 = glacier_bucket.client()
        s3.put_bucket_versioning(Bucket=glacier_bucket.name, VersioningConfiguration={"Status": "Enabled"})
        store = s3_store(s3_settings(glacier_bucket), clock)
        bag = stage(2 * PART_BYTES)
        receipt = bag.put(store)
        s3.put_object(Bucket=glacier_bucket.name, Key=f"bags/{bag.key}", Body=b"something else")

        assert receipt.version_id is not None
        assert store.confirm(receipt).version_id == receipt.version_id
        with pytest.raises(StoreConflict):
            bag.put(store)


class TestGlacier:
    @pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
    @pytest.mark.parametrize("size", [1000, 2 * PART_BYTES + 1])
    def test_a_cold_copy_is_proven_without_reading_it(
        self, glacier_bucket: Any, stage: Stage, clock: ManualClock, storage_class: str, size: int
    ) -> None:
        store = s3_store(s3_settings(glacier_bucket, storage_class=storage_class), clock)
        bag = stage(size)

        receipt = bag.put(store)

        stored = store.head(bag.key)
        assert stored is not None
        assert stored.storage_class == storage_class
        assert receipt.confirmed_by == "etag"
        assert store.confirm(receipt).sha256 == bag.sha256
        assert bag.put(store).etag == receipt.etag

    def test_reading_a_cold_copy_says_that_it_must_be_restored_first(
        self, glacier_bucket: Any, stage: Stage, clock: ManualClock
    ) -> None:
        store = s3_store(s3_settings(glacier_bucket, storage_class="GLACIER"), clock)
        bag = stage(1000)
        receipt = bag.put(store)

        with pytest.raises(StoreCold, match="restore"):
            list(store.read(bag.key))
        with pytest.raises(StoreCold, match="restore"):
            store.confirm(receipt, read_back=True)

    def test_another_content_in_a_cold_class_is_a_conflict(
        self, glacier_bucket: Any, stage: Stage, clock: ManualClock
    ) -> None:
        store = s3_store(s3_settings(glacier_bucket, storage_class="GLACIER"), clock)
        bag, other = stage(1000), stage(1000)
        other.path.write_bytes(b"!" + other.content[1:])
        other.key = bag.key
        other.put(store)

        with pytest.raises(StoreConflict, match="another content"):
            bag.put(store)


class TestSettingsThatAreWrong:
    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            ({"secret_access_key": "wrong"}, "correct store.secret_access_key"),
            ({"access_key_id": "nobody"}, "correct store.access_key_id"),
            ({"url": "s3://no-such-bucket-here/bags"}, "create the bucket or correct store.url"),
        ],
    )
    def test_each_says_what_to_fix(
        self, s3_bucket: Any, stage: Stage, clock: ManualClock, change: dict[str, str], remedy: str
    ) -> None:
        store = s3_store(s3_settings(s3_bucket, **change), clock)

        with pytest.raises(Misconfigured, match=remedy):
            store.probe()
        with pytest.raises(Misconfigured, match=remedy):
            stage(10).put(store)

    def test_a_bucket_that_is_not_there_is_not_taken_for_a_lost_copy(
        self, s3_bucket: Any, stage: Stage, clock: ManualClock
    ) -> None:
        receipt = stage(10).put(s3_store(s3_settings(s3_bucket), clock))
        elsewhere = s3_store(s3_settings(s3_bucket, url="s3://no-such-bucket-here/bags"), clock)
        moved = receipt.model_copy(update={"url": f"s3://no-such-bucket-here/bags/{receipt.key}"})

        with pytest.raises(Misconfigured, match="no bucket"):
            elsewhere.confirm(moved)

    def test_a_receipt_of_another_store_is_refused(self, s3_bucket: Any, stage: Stage, clock: ManualClock) -> None:
        receipt = stage(10).put(s3_store(s3_settings(s3_bucket), clock))
        other = s3_store(s3_settings(s3_bucket, url=f"s3://{s3_bucket.name}/other"), clock)

        with pytest.raises(Misconfigured, match="is not in this store"):
            other.confirm(receipt)
