"""A network and a store that let us down midway: nothing is lost, nothing is stored twice or wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import Interrupted, Misconfigured, StoreMismatch, StoreUnavailable
from dpn.s3.limits import Retries
from dpn.storage.errors import ObjectReplaced, StagedChanged
from dpn.storage.s3.store import S3Store
from tests.services.storage.conftest import PART_BYTES, StagedBag, s3_settings, s3_store
from tests.services.storage.s3_proxy import Fault, Proxy, Request, faulty_proxy

Stage = Callable[[int], StagedBag]
PATIENT = Retries(attempts=5, first_seconds=60, max_seconds=60)
CHECKSUM_HEADERS = ("x-amz-checksum-",)


def of_part(number: int) -> Callable[[Request], bool]:
    return lambda request: request.part == number


def sends(request: Request) -> bool:
    """Whether a body goes to the store."""
    return request.part is not None or request.puts_whole


@pytest.mark.parametrize("size", [100_000, 3 * PART_BYTES])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(sends, times=2, drop_after_bytes=50_000),
        Fault(sends, times=2, answer=(503, "SlowDown", {})),
        Fault(sends, times=2, answer=(500, "InternalError", {})),
        Fault(sends, times=2, answer=(429, "TooManyRequests", {"Retry-After": "0"})),
        Fault(sends, times=2, swap_byte=True),
        Fault(sends, times=1, lose_answer=True),
        Fault(sends, times=1, hang=threading.Event()),
        Fault(lambda request: request.completes, times=2, answer=(503, "SlowDown", {})),
        Fault(lambda request: request.method == "HEAD", times=2, answer=(503, "", {})),
    ],
    ids=["reset", "slow-down", "500", "429", "damaged", "answer-lost", "timeout", "complete-503", "head-503"],
)
def test_a_short_disturbance_is_overcome(
    behind_proxy: S3Store, proxy: Proxy, stage: Stage, size: int, fault: Fault
) -> None:
    bag = stage(size)
    proxy.faults.append(Fault(**vars(fault)))

    receipt = bag.put(behind_proxy)

    assert receipt.confirmed_by == "store-checksums"
    assert b"".join(behind_proxy.read(bag.key)) == bag.content


@pytest.mark.parametrize("size", [100_000, 3 * PART_BYTES])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(sends, drop_after_bytes=50_000),
        Fault(sends, answer=(503, "SlowDown", {})),
        Fault(lambda request: request.method == "HEAD", answer=(502, "", {})),
        Fault(lambda _: True, answer=(200, "", {})),
    ],
    ids=["reset", "slow-down", "bad-gateway", "nonsense"],
)
def test_a_long_outage_is_the_stores_and_the_put_goes_through_afterwards(
    behind_proxy: S3Store, proxy: Proxy, stage: Stage, size: int, fault: Fault
) -> None:
    bag = stage(size)
    proxy.faults.append(Fault(**vars(fault)))

    with pytest.raises(StoreUnavailable) as outage:
        bag.put(behind_proxy)

    assert outage.value.service == "store:main"
    proxy.forget()
    assert behind_proxy.head(bag.key) is None
    assert bag.put(behind_proxy).sha256 == bag.sha256


def test_retry_after_is_told_to_the_caller(behind_proxy: S3Store, proxy: Proxy) -> None:
    proxy.faults.append(Fault(lambda _: True, answer=(503, "SlowDown", {"Retry-After": "120"})))

    with pytest.raises(StoreUnavailable) as outage:
        behind_proxy.head("x.tar")

    assert outage.value.retry_after_seconds == 120


def test_a_store_that_nobody_serves_is_unavailable(s3_bucket: Any, stage: Stage, clock: ManualClock) -> None:
    with faulty_proxy(s3_bucket.endpoint) as gone:
        endpoint = gone.endpoint
    store = s3_store(s3_settings(s3_bucket, endpoint_url=endpoint), clock)

    with pytest.raises(StoreUnavailable):
        stage(10).put(store)


def test_a_part_that_is_damaged_on_every_way_is_refused_and_nothing_becomes_visible(
    behind_proxy: S3Store, proxy: Proxy, stage: Stage
) -> None:
    bag = stage(3 * PART_BYTES)
    proxy.faults.append(Fault(of_part(2), swap_byte=True))

    with pytest.raises(StoreMismatch, match="part 2 of 3"):
        bag.put(behind_proxy)

    assert behind_proxy.head(bag.key) is None
    proxy.forget()
    assert bag.put(behind_proxy).sha256 == bag.sha256
    assert 1 not in proxy.parts_stored, "a part that was stored well is not sent again"


@pytest.mark.parametrize("rows_per_page", [1, 1000])
def test_a_resumed_upload_sends_only_what_is_missing(
    behind_proxy: S3Store, proxy: Proxy, stage: Stage, monkeypatch: pytest.MonkeyPatch, rows_per_page: int
) -> None:
    monkeypatch.setattr("dpn.s3.pages.ROWS_PER_PAGE", rows_per_page)
    bag = stage(5 * PART_BYTES + 3)
    proxy.faults.append(Fault(of_part(4), answer=(503, "SlowDown", {})))
    with pytest.raises(StoreUnavailable):
        bag.put(behind_proxy)
    stored = set(proxy.parts_stored)
    assert {1, 2} <= stored
    proxy.forget()

    bag.put(behind_proxy)

    assert sorted(proxy.parts_stored) == sorted({1, 2, 3, 4, 5, 6} - stored)
    assert proxy.sent_bytes == 5 * PART_BYTES + 3 - len(stored - {6}) * PART_BYTES - (3 if 6 in stored else 0)


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("size", [100_000, 2 * PART_BYTES])
def test_a_lost_answer_to_the_last_request_does_not_store_twice(
    s3_bucket: Any, proxy: Proxy, stage: Stage, clock: ManualClock, size: int, attempts: int
) -> None:
    store = s3_store(s3_settings(s3_bucket, endpoint_url=proxy.endpoint), clock, attempts=attempts)
    store.probe()
    proxy.forget()
    bag = stage(size)
    proxy.faults.append(Fault(lambda request: request.completes or request.puts_whole, times=1, lose_answer=True))

    if attempts == 1:
        with pytest.raises(StoreUnavailable):
            bag.put(store)
        proxy.forget()
        receipt = bag.put(store)
        assert proxy.sent_bytes == 0
    else:
        receipt = bag.put(store)

    assert receipt.sha256 == bag.sha256
    assert bag.upload is None
    client = s3_bucket.client()
    assert client.list_objects_v2(Bucket=s3_bucket.name)["KeyCount"] == 1
    assert client.list_multipart_uploads(Bucket=s3_bucket.name).get("Uploads", []) == []


def test_an_upload_that_is_gone_at_its_completion_is_looked_for_first(
    behind_proxy: S3Store, proxy: Proxy, stage: Stage
) -> None:
    """AWS forgets a completed upload's id: Complete, sent again after a lost answer, gets NoSuchUpload."""
    bag = stage(2 * PART_BYTES)
    proxy.faults += [
        Fault(lambda request: request.completes, times=1, lose_answer=True),
        Fault(lambda request: request.completes, answer=(404, "NoSuchUpload", {})),
    ]

    assert bag.put(behind_proxy).sha256 == bag.sha256


@pytest.mark.parametrize("size", [PART_BYTES, 3 * PART_BYTES])
@pytest.mark.parametrize("waiting", [True, False], ids=["before-the-next-try", "within-a-body"])
def test_a_stop_takes_effect_within_a_second(
    s3_bucket: Any, proxy: Proxy, stage: Stage, clock: ManualClock, size: int, waiting: bool
) -> None:
    store = S3Store(s3_settings(s3_bucket, endpoint_url=proxy.endpoint), clock=clock, retries=PATIENT)
    store.probe()
    proxy.forget()
    if waiting:
        proxy.faults.append(Fault(sends, answer=(503, "SlowDown", {"Retry-After": "1000"})))
    else:
        proxy.faults.append(Fault(sends, seconds_a_buffer=0.1))
    bag, cancellation, stopped_at = stage(size), Cancellation(), []

    def stop_when_it_is_being_sent() -> None:
        proxy.wait_until(lambda: any(sends(request) for request in proxy.seen))
        stopped_at.append(time.monotonic())
        cancellation.cancel(Interrupted("stopping"))

    thread = threading.Thread(target=stop_when_it_is_being_sent)
    thread.start()
    with pytest.raises(Interrupted, match="stopping"):
        bag.put(store, cancellation=cancellation)

    assert time.monotonic() - stopped_at[0] < 1.0
    thread.join()


def test_a_bag_cut_short_while_it_is_sent_is_found_out(behind_proxy: S3Store, proxy: Proxy, stage: Stage) -> None:
    bag = stage(3 * PART_BYTES)
    validated = bag.sha256

    def cut_short(done: int, total: int) -> None:
        bag.path.open("r+b").truncate(PART_BYTES + 5)

    with pytest.raises(StagedChanged, match="ends at byte"):
        bag.put(behind_proxy, sha256=validated, progress=cut_short)

    assert behind_proxy.head(bag.key) is None


class TestStoresThatProveLess:
    """The same server behind a proxy that takes away what it shows."""

    def _without(self, proxy: Proxy, *names: str) -> None:
        def edit(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
            return [(name, value) for name, value in headers if not name.lower().startswith(names)]

        proxy.faults.append(Fault(lambda request: request.method == "HEAD", edit_headers=edit))

    def _store(self, bucket: Any, proxy: Proxy, clock: ManualClock, **changes: Any) -> S3Store:
        return s3_store(s3_settings(bucket, endpoint_url=proxy.endpoint, **changes), clock)

    @pytest.mark.parametrize("size", [100_000, 3 * PART_BYTES])
    def test_checksums_that_are_not_shown_are_made_up_for_by_the_entity_tag(
        self, s3_bucket: Any, proxy: Proxy, stage: Stage, clock: ManualClock, size: int
    ) -> None:
        self._without(proxy, *CHECKSUM_HEADERS)
        store = self._store(s3_bucket, proxy, clock)
        bag = stage(size)

        receipt = bag.put(store)

        assert store.probe().proof == "etag"
        assert receipt.confirmed_by == "etag"
        assert store.confirm(receipt).confirmed_by == "etag"

    @pytest.mark.parametrize("size", [100_000, 3 * PART_BYTES])
    def test_without_any_checksum_everything_is_read_back(
        self, s3_bucket: Any, proxy: Proxy, stage: Stage, clock: ManualClock, size: int
    ) -> None:
        self._without(proxy, *CHECKSUM_HEADERS, "etag")
        store = self._store(s3_bucket, proxy, clock)
        bag = stage(size)

        receipt = bag.put(store)

        assert store.probe().proof == "read-back"
        assert receipt.confirmed_by == "read-back"
        assert proxy.count(lambda request: request.method == "GET" and not request.query) == 1
        assert store.confirm(receipt).confirmed_by == "read-back"
        assert bag.put(store).sha256 == bag.sha256

    def test_a_cold_class_without_any_checksum_is_refused_before_a_byte_is_sent(
        self, s3_bucket: Any, proxy: Proxy, stage: Stage, clock: ManualClock
    ) -> None:
        self._without(proxy, *CHECKSUM_HEADERS, "etag")
        store = self._store(s3_bucket, proxy, clock, storage_class="GLACIER")
        store.probe()
        sent = proxy.sent_bytes

        with pytest.raises(Misconfigured, match="could ever be proven"):
            stage(1000).put(store)

        assert proxy.sent_bytes == sent

    def test_a_read_back_that_breaks_off_goes_on_where_it_broke(
        self, s3_bucket: Any, proxy: Proxy, stage: Stage, clock: ManualClock
    ) -> None:
        self._without(proxy, *CHECKSUM_HEADERS, "etag")
        store = self._store(s3_bucket, proxy, clock)
        bag = stage(3 * PART_BYTES)
        receipt = bag.put(store)
        proxy.faults.insert(
            0, Fault(lambda request: request.method == "GET", times=2, break_answer_after_bytes=PART_BYTES)
        )
        before = proxy.count(lambda request: request.method == "GET")

        assert store.confirm(receipt).sha256 == bag.sha256

        assert proxy.count(lambda request: request.method == "GET") == before + 3


def test_an_object_replaced_while_it_is_read_is_not_mixed_with_the_new_one(
    behind_proxy: S3Store, proxy: Proxy, s3_bucket: Any, stage: Stage
) -> None:
    bag = stage(3 * PART_BYTES)
    bag.put(behind_proxy)
    proxy.faults.append(
        Fault(lambda request: request.method == "GET", times=1, break_answer_after_bytes=2 * PART_BYTES)
    )
    chunks = behind_proxy.read(bag.key)
    next(chunks)

    s3_bucket.client().put_object(Bucket=s3_bucket.name, Key=f"bags/{bag.key}", Body=bytes(3 * PART_BYTES))

    with pytest.raises(ObjectReplaced, match="replaced while it was read"):
        b"".join(chunks)


class TestAStoreThatKeepsOtherBytes:
    """moto takes any bytes for any checksum: what was damaged on the way is found out afterwards."""

    @pytest.fixture
    def moto_proxy(self, glacier_bucket: Any) -> Any:
        with faulty_proxy(glacier_bucket.endpoint) as running:
            yield running

    @pytest.fixture
    def unchecked(self, glacier_bucket: Any, moto_proxy: Proxy, clock: ManualClock) -> S3Store:
        store = s3_store(s3_settings(glacier_bucket, endpoint_url=moto_proxy.endpoint), clock)
        store.probe()
        moto_proxy.forget()
        return store

    def test_a_damaged_object_does_not_count_and_is_taken_away(
        self, unchecked: S3Store, moto_proxy: Proxy, stage: Stage
    ) -> None:
        bag = stage(1000)
        moto_proxy.faults.append(Fault(sends, swap_byte=True))

        with pytest.raises(StoreMismatch, match="removed"):
            bag.put(unchecked)

        assert unchecked.head(bag.key) is None
        moto_proxy.forget()
        assert bag.put(unchecked).sha256 == bag.sha256

    def test_a_damaged_object_that_may_not_be_removed_is_left_to_an_operator(
        self, unchecked: S3Store, moto_proxy: Proxy, stage: Stage
    ) -> None:
        bag = stage(1000)
        moto_proxy.faults += [
            Fault(sends, swap_byte=True),
            Fault(lambda request: request.method == "DELETE", answer=(403, "AccessDenied", {})),
        ]

        with pytest.raises(StoreMismatch, match="remove it by hand"):
            bag.put(unchecked)

    @pytest.mark.parametrize("times", [1, 1000])
    def test_a_damaged_part_is_sent_again(
        self, unchecked: S3Store, moto_proxy: Proxy, stage: Stage, times: int
    ) -> None:
        bag = stage(2 * PART_BYTES)
        moto_proxy.faults.append(Fault(of_part(2), times=times, swap_byte=True))

        if times > 1:
            with pytest.raises(StoreMismatch, match="part 2"):
                bag.put(unchecked)
            assert unchecked.head(bag.key) is None
            moto_proxy.forget()

        assert bag.put(unchecked).sha256 == bag.sha256

    def test_a_stored_object_that_the_store_does_not_show_does_not_count(
        self, glacier_bucket: Any, clock: ManualClock, moto_proxy: Proxy, stage: Stage
    ) -> None:
        settings = s3_settings(glacier_bucket, endpoint_url=moto_proxy.endpoint)
        unchecked, bag = s3_store(settings, clock, visible_seconds=0.1), stage(1000)
        moto_proxy.faults.append(
            Fault(lambda request: request.method == "HEAD" and bag.key in request.key, answer=(404, "", {}))
        )

        with pytest.raises(StoreUnavailable, match="does not show what was stored"):
            bag.put(unchecked)
