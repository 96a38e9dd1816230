"""Archived copies: how they stand, asking for them, and every answer that asking may get.

moto restores as Glacier does, and a proxy puts on the wire what moto cannot say.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import Misconfigured, StoreCold, StoreMissing, StoreUnavailable
from dpn.storage.s3.store import S3Store
from dpn.storage.store import Store
from tests.services.storage.conftest import StagedBag, s3_settings, s3_store
from tests.services.storage.s3_proxy import Fault, Proxy

Stage = Callable[[int], StagedBag]
COLD = ("GLACIER", "DEEP_ARCHIVE")


@pytest.fixture
def now(clock: ManualClock) -> ManualClock:
    """The clock that the servers have."""
    clock.advance((datetime.now(UTC) - clock.now()).total_seconds())
    return clock


@dataclass(frozen=True)
class Restores:
    """How fast moto restores, which is at once if nobody says otherwise."""

    endpoint: str

    def take_their_time(self) -> None:
        self._configure("set-transition", progression="manual", times=1_000_000)

    def begin(self, look: Callable[[], object]) -> None:
        """Has what was asked for begin: with the next look at it, moto says."""
        self._configure("set-transition", progression="manual", times=1)
        look()
        self.take_their_time()

    def end(self) -> None:
        self._configure("set-transition", progression="immediate")

    def forget(self) -> None:
        self._configure("unset-transition")

    def _configure(self, name: str, **transition: Any) -> None:
        body = {"model_name": "s3::keyrestore", **({"transition": transition} if transition else {})}
        address = urlsplit(self.endpoint).netloc
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", f"/moto-api/state-manager/{name}", json.dumps(body).encode())
        assert connection.getresponse().status < 300
        connection.close()


@pytest.fixture
def restores(glacier_bucket: Any) -> Iterator[Restores]:
    configured = Restores(glacier_bucket.endpoint)
    configured.take_their_time()
    yield configured
    configured.forget()


def cold_store(bucket: Any, clock: ManualClock, storage_class: str) -> S3Store:
    return s3_store(s3_settings(bucket, storage_class=storage_class), clock)


@pytest.mark.parametrize("storage_class", COLD)
def test_a_cold_copy_is_asked_for_once_waited_for_read_and_cold_again(
    glacier_bucket: Any,
    stage: Stage,
    now: ManualClock,
    restores: Restores,
    storage_class: str,
    tmp_path: Path,
) -> None:
    store, bag = cold_store(glacier_bucket, now, storage_class), stage(1000)
    receipt = bag.put(store)
    target = tmp_path / "retrieved.tar"

    def retrieve() -> str:
        return store.retrieve(bag.key, target, receipt=receipt, cancellation=Cancellation()).sha256

    assert store.availability(bag.key).state == "cold"
    with pytest.raises(StoreCold):
        retrieve()
    assert not target.exists()

    assert store.request_restore(bag.key, tier="Bulk", days=3).outcome == "accepted"
    restores.begin(lambda: store.head(bag.key))
    assert store.availability(bag.key).state == "restoring"
    again = store.request_restore(bag.key, tier="Bulk", days=3)
    assert (again.outcome, again.asked) == ("under-way", False)
    with pytest.raises(StoreCold):
        retrieve()

    restores.end()
    found = store.availability(bag.key)
    assert found.state == "available"
    assert found.until is not None
    assert timedelta(days=2, hours=23) < found.until - now.now() <= timedelta(days=4)
    assert found.storage_class == storage_class
    assert retrieve() == bag.sha256

    now.advance(5 * 86_400)
    assert store.availability(bag.key).state == "cold"


def test_a_restore_that_ends_too_soon_is_extended_and_one_that_lasts_is_left_alone(
    glacier_bucket: Any, stage: Stage, now: ManualClock
) -> None:
    store, bag = cold_store(glacier_bucket, now, "GLACIER"), stage(1000)
    bag.put(store)
    store.request_restore(bag.key, tier="Bulk", days=3)

    extended = store.request_restore(bag.key, tier="Bulk", days=10)
    left_alone = store.request_restore(bag.key, tier="Bulk", days=2)

    assert (extended.outcome, extended.asked) == ("already-available", True)
    assert (left_alone.outcome, left_alone.asked) == ("already-available", False)
    assert extended.until is not None
    assert left_alone.until == extended.until >= now.now() + timedelta(days=9)


def test_an_older_version_is_restored_by_its_own_name(glacier_bucket: Any, stage: Stage, now: ManualClock) -> None:
    s3 = glacier_bucket.client()
    s3.put_bucket_versioning(Bucket=glacier_bucket.name, VersioningConfiguration={"Status": "Enabled"})
    store, bag = cold_store(glacier_bucket, now, "GLACIER"), stage(1000)
    receipt = bag.put(store)
    s3.put_object(Bucket=glacier_bucket.name, Key=f"bags/{bag.key}", Body=b"something else")

    assert store.availability(bag.key).state == "available"
    assert store.availability(bag.key, version_id=receipt.version_id).state == "cold"


def test_what_can_always_be_read_costs_no_request(store: Store, stage: Stage) -> None:
    bag = stage(1000)
    bag.put(store)

    requested = store.request_restore(bag.key, tier="Expedited", days=1)

    found = store.availability(bag.key)
    assert (found.state, found.until) == ("available", None)
    assert found.stored is not None
    assert found.stored.size == 1000
    assert (requested.outcome, requested.asked) == ("already-available", False)


def test_an_object_that_is_not_there_is_missing_and_cannot_be_asked_for(store: Store) -> None:
    assert store.availability("gone.tar").state == "missing"
    with pytest.raises(StoreMissing):
        store.request_restore("gone.tar", tier="Bulk", days=1)


def test_a_bucket_that_is_not_there_is_not_taken_for_a_missing_object(s3_bucket: Any, clock: ManualClock) -> None:
    store = s3_store(s3_settings(s3_bucket, url="s3://no-such-bucket-here/bags"), clock)

    with pytest.raises(Misconfigured):
        store.availability("gone.tar")


class TestOnTheWire:
    """What a store may say, put on the wire by a proxy."""

    @pytest.fixture
    def key(self, behind_proxy: S3Store, stage: Stage) -> str:
        bag = stage(1000)
        bag.put(behind_proxy)
        return bag.key

    @pytest.fixture
    def archived(self, proxy: Proxy, key: str) -> Callable[..., Fault]:
        """Has HEAD say so; returns the fault, whose `times` say how often."""

        def say(storage_class: str, times: int = 1000, **headers: str) -> Fault:
            said = [("x-amz-storage-class", storage_class), *((f"x-amz-{n}", v) for n, v in headers.items())]
            dropped = {name for name, _ in said}

            def edit(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
                return [(name, value) for name, value in given if name.lower() not in dropped] + said

            fault = Fault(lambda request: request.method == "HEAD", times=times, edit_headers=edit)
            proxy.faults.append(fault)
            return fault

        return say

    def _restores_answer(self, proxy: Proxy, status: int, code: str = "", times: int = 1000) -> None:
        proxy.faults.insert(0, Fault(lambda request: request.restores, times=times, answer=(status, code, {})))

    @pytest.mark.parametrize("status", ["ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"])
    def test_a_tiered_object_is_asked_for_without_days(
        self, behind_proxy: S3Store, proxy: Proxy, key: str, archived: Callable[..., Fault], status: str
    ) -> None:
        archived("INTELLIGENT_TIERING", **{"archive-status": status})
        self._restores_answer(proxy, 202)

        assert behind_proxy.availability(key).state == "cold"
        assert behind_proxy.request_restore(key, tier="Standard", days=3).outcome == "accepted"

        [body] = proxy.bodies
        assert b"<Tier>Standard</Tier>" in body
        assert b"Days" not in body

    def test_an_archived_object_is_asked_for_by_tier_and_days(
        self, behind_proxy: S3Store, proxy: Proxy, key: str, archived: Callable[..., Fault]
    ) -> None:
        archived("DEEP_ARCHIVE")
        self._restores_answer(proxy, 202)

        requested = behind_proxy.request_restore(key, tier="Bulk", days=3)

        assert (requested.outcome, requested.asked) == ("accepted", True)
        assert b"<Days>3</Days>" in proxy.bodies[0]
        assert b"<Tier>Bulk</Tier>" in proxy.bodies[0]

    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [
            (409, "RestoreAlreadyInProgress", "under-way"),
            (503, "GlacierExpeditedRetrievalNotAvailable", "no-capacity"),
            (403, "ObjectAlreadyInActiveTierError", "already-available"),
            (403, "InvalidObjectState", "refused"),
            (400, "InvalidArgument", "refused"),
            (400, "MalformedXML", "refused"),
        ],
    )
    def test_each_refusal_is_an_answer_and_costs_one_request(
        self,
        behind_proxy: S3Store,
        proxy: Proxy,
        key: str,
        archived: Callable[..., Fault],
        status: int,
        code: str,
        outcome: str,
    ) -> None:
        archived("GLACIER")
        self._restores_answer(proxy, status, code)

        requested = behind_proxy.request_restore(key, tier="Expedited", days=3)

        assert requested.outcome == outcome
        assert len(proxy.bodies) == 1

    def test_an_object_that_left_the_archive_meanwhile_is_available(
        self, behind_proxy: S3Store, proxy: Proxy, key: str, archived: Callable[..., Fault]
    ) -> None:
        archived("GLACIER", times=1)
        self._restores_answer(proxy, 403, "InvalidObjectState")

        assert behind_proxy.request_restore(key, tier="Bulk", days=3).outcome == "already-available"

    def test_no_permission_says_which_one_to_give(
        self, behind_proxy: S3Store, proxy: Proxy, key: str, archived: Callable[..., Fault]
    ) -> None:
        archived("GLACIER")
        self._restores_answer(proxy, 403, "AccessDenied")

        with pytest.raises(Misconfigured, match="allow the key s3:RestoreObject"):
            behind_proxy.request_restore(key, tier="Bulk", days=3)

    @pytest.mark.parametrize("times", [2, 1000])
    def test_an_overloaded_store_is_asked_again_and_then_is_unavailable(
        self, behind_proxy: S3Store, proxy: Proxy, key: str, archived: Callable[..., Fault], times: int
    ) -> None:
        archived("GLACIER")
        self._restores_answer(proxy, 202)
        self._restores_answer(proxy, 503, "SlowDown", times)

        if times == 2:
            assert behind_proxy.request_restore(key, tier="Bulk", days=3).outcome == "accepted"
        else:
            with pytest.raises(StoreUnavailable, match="SlowDown"):
                behind_proxy.request_restore(key, tier="Bulk", days=3)

    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [(202, "", "faster"), (409, "RestoreAlreadyInProgress", "under-way")],
    )
    def test_a_restore_under_way_is_sped_up_only_when_told(
        self,
        behind_proxy: S3Store,
        proxy: Proxy,
        key: str,
        archived: Callable[..., Fault],
        status: int,
        code: str,
        outcome: str,
    ) -> None:
        archived("GLACIER", restore='ongoing-request="true"')
        self._restores_answer(proxy, status, code)

        assert behind_proxy.request_restore(key, tier="Expedited", days=3).outcome == "under-way"
        assert proxy.bodies == []
        assert behind_proxy.request_restore(key, tier="Expedited", days=3, faster=True).outcome == outcome
        assert len(proxy.bodies) == 1

    def test_what_a_class_never_offers_is_refused_without_a_request(
        self, behind_proxy: S3Store, proxy: Proxy, key: str, archived: Callable[..., Fault]
    ) -> None:
        archived("DEEP_ARCHIVE")

        requested = behind_proxy.request_restore(key, tier="Expedited", days=3)

        assert (requested.outcome, requested.asked) == ("refused", False)
        assert proxy.count(lambda request: request.restores) == 0
