"""A store whose copies are cold: restored, waited for, retrieved and checked; every case that a store knows.

Against moto, whose restores end when the test says so, and against a folder that answers as it is told to.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dpn.audit.trail import EventType
from dpn.errors import Misconfigured, StoreCold, StoreMismatch, StoreUnavailable
from dpn.storage.availability import Availability, RestoreRequested
from dpn.storage.stores import open_store
from tests.conftest import Bucket
from tests.services.workers.fixity.checking import (
    BAG,
    KEY,
    LOOK_AGAIN_SECONDS,
    METADATA,
    MISFORTUNES,
    Checker,
    damage,
    make_checker,
)
from tests.services.workers.fixity.cold_stores import ColdFolder

HOUR = 3600.0
RESTORE = "s3::keyrestore"
"""What moto calls the restore of an object."""


@pytest.fixture
def north(tmp_path: Path, sqlite_url: str) -> Checker:
    return make_checker(tmp_path, database_url=sqlite_url)


@pytest.fixture
def cold(north: Checker) -> ColdFolder:
    """The store of `north`, gone cold."""
    north.store = ColdFolder(north.store, says("cold"))  # type: ignore[assignment]
    return north.store  # type: ignore[return-value]


def says(state: Any, until: Any = None) -> Availability:
    return Availability(state, f"GLACIER: {state}", until, "GLACIER")


def answer(outcome: Any, until: Any = None) -> RestoreRequested:
    return RestoreRequested(outcome, f"it is {outcome}", "GLACIER", until, asked=True)


def waits(item: Any) -> bool:
    return (item.status, item.stage, item.attempts) == ("pending", "restore-init", 0)


class TestEveryAnswer:
    @pytest.mark.parametrize("outcome", ["accepted", "faster", "under-way"])
    def test_what_is_being_restored_is_waited_for_without_an_attempt(
        self, north: Checker, cold: ColdFolder, outcome: str
    ) -> None:
        cold.answers = [answer(outcome)]
        began = north.clock.now()
        item = north.check()
        assert waits(item)
        assert not item.needs_attention
        assert f"asked for on {began:%Y-%m-%d %H:%M} UTC (Bulk, for 3 days)" in item.note
        assert item.run_after == began + timedelta(seconds=LOOK_AGAIN_SECONDS)
        cold.says = says("restoring")
        for _ in range(11):
            item = north.later(item.id)
            assert waits(item)
        assert f"asked for on {began:%Y-%m-%d %H:%M} UTC" in item.note
        assert len(cold.requests) == 1, "asked for once"
        assert (cold.requests[0]["tier"], cold.requests[0]["days"]) == ("Bulk", 3)
        assert len(north.events(item.id, EventType.RESTORE_REQUESTED)) == 1
        cold.says = says("available", north.clock.now() + timedelta(days=3))
        item = north.later(item.id)
        assert item.status == "success"
        assert [check.success for check in north.records()] == [True]
        assert (north.staged(), north.reservations(), north.quarantined()) == ([], 0, [])

    def test_what_can_be_read_goes_on_at_once(self, north: Checker, cold: ColdFolder) -> None:
        cold.says = says("available")
        assert north.check().status == "success"
        assert cold.requests == []

    def test_what_turns_out_to_be_readable_goes_on_at_once(self, north: Checker, cold: ColdFolder) -> None:
        cold.answers = [answer("already-available", north.clock.now() + timedelta(days=1))]
        assert north.check().status == "success"

    def test_what_goes_cold_soon_is_asked_for_longer(self, north: Checker, cold: ColdFolder) -> None:
        cold.says = says("available", north.clock.now() + timedelta(hours=1))
        cold.answers = [answer("already-available", north.clock.now() + timedelta(days=3))]
        item = north.check()
        assert item.status == "success"
        assert north.manifest(item.id).readable_until == north.clock.now() + timedelta(days=3)

    def test_what_was_restored_and_expired_is_asked_for_again(self, north: Checker, cold: ColdFolder) -> None:
        cold.answers = [answer("accepted"), answer("accepted")]
        item = north.check()
        first = north.manifest(item.id).restore
        item = north.later(item.id)
        again = north.manifest(item.id).restore
        assert waits(item)
        assert len(cold.requests) == 2
        assert first is not None
        assert again is not None
        assert again.requested_at > first.requested_at
        assert len(north.events(item.id, EventType.RESTORE_REQUESTED)) == 2

    def test_a_restore_that_somebody_else_began_is_waited_for(self, north: Checker, cold: ColdFolder) -> None:
        cold.says = says("restoring")
        item = north.check()
        assert waits(item)
        assert "which we did not ask for" in item.note
        assert cold.requests == []

    def test_where_no_fast_restore_is_to_be_had_it_is_asked_for_again(
        self, north: Checker, cold: ColdFolder
    ) -> None:
        north.change_settings(retrieval_tier="Expedited")
        cold.answers = [answer("no-capacity"), answer("accepted")]
        item = north.check()
        assert waits(item)
        assert "no Expedited restore to give now" in item.note
        assert north.manifest(item.id).restore is None
        assert "asked for on" in north.later(item.id).note

    def test_a_restore_of_a_kind_that_there_is_not_calls_for_an_operator(
        self, north: Checker, cold: ColdFolder
    ) -> None:
        cold.answers = [answer("refused"), answer("accepted")]
        item = north.check()
        assert waits(item)
        assert item.needs_attention
        assert "Set another retrieval_tier" in item.note
        assert not north.later(item.id).needs_attention

    def test_missing_rights_call_for_an_operator(self, north: Checker, cold: ColdFolder) -> None:
        cold.answers = [Misconfigured("store:main: access denied: allow s3:RestoreObject"), answer("accepted")]
        item = north.check()
        assert waits(item)
        assert item.needs_attention
        assert "allow s3:RestoreObject" in item.note
        item = north.later(item.id, 301)
        assert waits(item)
        assert not item.needs_attention

    def test_a_store_that_is_busy_is_left_alone_for_a_while(self, north: Checker, cold: ColdFolder) -> None:
        busy = StoreUnavailable("store:main", "HTTP 503: SlowDown")
        cold.answers = [busy, busy, busy, answer("accepted")]
        item = north.check()
        for _ in range(3):
            assert waits(item)
            assert "503" in item.note
            assert north.records() == []
            item = north.later(item.id, 901)
        assert "asked for on" in item.note

    def test_a_copy_that_is_not_there_is_recorded_as_lost(self, north: Checker, cold: ColdFolder) -> None:
        cold.says = Availability("missing", "store:main answers that there is no object")
        item = north.check()
        assert (item.status, item.stage, item.needs_attention) == ("failed", "check", True)
        assert "it is not there: store:main answers that there is no object" in item.note
        assert [check.success for check in north.records()] == [False]
        assert north.copy().outcome == "bad"


class TestRetrieving:
    @pytest.fixture(autouse=True)
    def _warm(self, cold: ColdFolder) -> None:
        cold.says = says("available")

    def test_what_goes_cold_midway_is_asked_for_again(self, north: Checker, cold: ColdFolder) -> None:
        cold.fails = [StoreCold("restored until an hour ago")]
        item_id = north.begin()
        north.run_due()
        cold.says, cold.answers = says("cold"), [answer("accepted")]
        item = north.settle(item_id)
        assert (item.stage, north.reservations()) == ("restore-init", 0)
        assert "went cold before it was here" in item.note
        item = north.later(item.id, 901)
        assert "asked for on" in item.note
        cold.says = says("available")
        assert north.later(item.id).status == "success"
        assert [check.success for check in north.records()] == [True]

    def test_what_went_cold_while_it_waited_for_room_is_asked_for_before_it_is_fetched(
        self, north: Checker, cold: ColdFolder
    ) -> None:
        cold.says = says("available", north.clock.now() + timedelta(hours=7))
        item_id = north.begin()
        north.run_due()
        assert north.item(item_id).stage == "retrieve"
        north.clock.advance(8 * HOUR)
        north.run_due()
        assert north.item(item_id).stage == "restore-init"
        assert cold.retrieved == 0

    def test_a_store_that_is_away_is_asked_again_after_the_time_set_for_it(
        self, north: Checker, cold: ColdFolder
    ) -> None:
        cold.fails = [StoreUnavailable("store:main", "HTTP 503")]
        item = north.check()
        assert (item.status, item.stage, item.attempts) == ("pending", "retrieve", 0)
        assert item.run_after == north.clock.now() + timedelta(seconds=180)
        assert north.later(item.id, 181).status == "success"

    def test_a_bad_copy_is_fetched_as_it_is_and_kept_for_a_person_to_look_at(
        self, north: Checker, cold: ColdFolder
    ) -> None:
        stored = Path(north.receipt.url.removeprefix("file://"))
        bad = damage(north.tar.read_bytes(), "bit flip in the payload")
        assert bad is not None
        stored.unlink()
        stored.write_bytes(bad)
        item = north.check()
        assert item.status == "failed"
        (kept,) = north.quarantined()
        assert kept.read_bytes() == bad
        assert f"quarantine/{item.id}/{KEY} on volume main" in item.note
        assert "data/a.txt" in item.note
        report = json.loads(kept.with_name("report.json").read_text())
        assert "data/a.txt" in report["report"]["found"]
        assert (north.staged(), north.reservations()) == ([], 0)
        assert [check.success for check in north.records()] == [False]

    def test_what_the_way_has_spoilt_is_not_held_against_the_copy(self, north: Checker, cold: ColdFolder) -> None:
        cold.fails = [StoreMismatch("part 1 has another SHA-256")]
        item = north.check()
        assert (item.status, north.quarantined()) == ("success", [])
        assert [check.success for check in north.records()] == [True]

    def test_a_copy_of_which_no_bytes_can_be_had_is_bad_all_the_same(
        self, north: Checker, cold: ColdFolder
    ) -> None:
        cold.fails = [StoreMismatch("part 1 has another SHA-256"), StoreMismatch("not what the store says")]
        item = north.check()
        assert (item.status, item.stage) == ("failed", "check")
        assert "part 1 has another SHA-256" in item.note
        assert [check.success for check in north.records()] == [False]
        assert (north.staged(), north.quarantined(), north.reservations()) == ([], [], 0)

    def test_an_object_that_is_larger_than_the_copy_is_not_fetched(self, north: Checker, cold: ColdFolder) -> None:
        stored = Path(north.receipt.url.removeprefix("file://"))
        stored.chmod(0o644)
        with stored.open("ab") as file:
            file.write(bytes(1024))
        item = north.check()
        assert (item.status, cold.retrieved) == ("failed", 1)
        assert f"instead of {north.receipt.size}" in item.note
        assert north.quarantined() == []


# -- moto ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def glacier(glacier_bucket: Bucket) -> Iterator[Bucket]:
    """A bucket on moto, where a restore takes as many looks at the object as the test says."""
    yield glacier_bucket
    _moto(glacier_bucket, "unset-transition", {"model_name": RESTORE})


def restores_after(bucket: Bucket, looks: int) -> None:
    transition = {"progression": "manual", "times": looks}
    _moto(bucket, "set-transition", {"model_name": RESTORE, "transition": transition})


def _moto(bucket: Bucket, command: str, body: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection(urlsplit(bucket.endpoint).netloc, timeout=10)
    connection.request("POST", f"/moto-api/state-manager/{command}", json.dumps(body).encode())
    assert connection.getresponse().status < 300
    connection.close()


@pytest.fixture
def keep(tmp_path: Path, sqlite_url: str, glacier: Bucket) -> Callable[[str], Checker]:
    """North with its copy on moto, in a storage class."""

    def kept(storage_class: str) -> Checker:
        store = {
            "url": f"s3://{glacier.name}/bags",
            "endpoint_url": glacier.endpoint,
            "region": glacier.region,
            "access_key_id": glacier.access_key,
            "secret_access_key": glacier.secret_key,
            "storage_class": storage_class,
        }
        return make_checker(tmp_path, store=store, database_url=sqlite_url)

    return kept


def overwrite(glacier: Bucket, content: bytes, storage_class: str) -> None:
    """What is under the key is another object now; cold again, if it is of a cold class."""
    glacier.client().put_object(
        Bucket=glacier.name, Key=f"bags/{KEY}", Body=content, StorageClass=storage_class, Metadata=METADATA
    )


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_cold_copy_is_restored_waited_for_and_checked(
    keep: Callable[[str], Checker], glacier: Bucket, storage_class: str
) -> None:
    north = keep(storage_class)
    restores_after(glacier, 3)
    item = north.check()
    looks = 0
    while waits(item):
        looks += 1
        assert looks < 6
        assert "waiting for its restore from cold storage, asked for on" in item.note
        assert not item.needs_attention
        item = north.later(item.id)
    assert looks >= 1
    assert item.status == "success"
    assert [check.success for check in north.records()] == [True]
    assert len(north.events(item.id, EventType.RESTORE_REQUESTED)) == 1
    assert north.events(item.id)[0].detail["read"] == "retrieved"
    assert (north.staged(), north.reservations(), north.quarantined()) == ([], 0, [])


@pytest.mark.parametrize("storage_class", ["STANDARD", "GLACIER_IR", "INTELLIGENT_TIERING"])
def test_a_copy_that_can_be_read_is_never_restored(
    keep: Callable[[str], Checker], glacier: Bucket, storage_class: str
) -> None:
    north = keep(storage_class)
    restores_after(glacier, 3)
    item = north.check()
    assert (item.status, item.attempts) == ("success", 1)
    assert north.events(item.id, EventType.RESTORE_REQUESTED) == []


def test_a_copy_that_went_cold_again_before_it_was_fetched_is_restored_again(
    keep: Callable[[str], Checker], glacier: Bucket
) -> None:
    north = keep("GLACIER")
    restores_after(glacier, 1)
    item_id = north.begin()
    for _ in range(6):
        north.run_due()
        north.clock.advance(LOOK_AGAIN_SECONDS + 1)
        if north.item(item_id).stage == "retrieve":
            break
    overwrite(glacier, north.tar.read_bytes(), "GLACIER")
    north.run_due()
    item = north.item(item_id)
    assert (item.stage, item.status) == ("restore-init", "pending")
    for _ in range(6):
        item = north.later(item_id)
    assert item.status == "success"
    assert len(north.events(item_id, EventType.RESTORE_REQUESTED)) == 2


@pytest.mark.parametrize("how", MISFORTUNES)
def test_a_copy_on_s3_that_was_spoilt_is_found_and_recorded(
    keep: Callable[[str], Checker], glacier: Bucket, how: str
) -> None:
    north = keep("STANDARD")
    bad = damage(north.tar.read_bytes(), how)
    if bad is None:
        glacier.client().delete_object(Bucket=glacier.name, Key=f"bags/{KEY}")
    else:
        overwrite(glacier, bad, "STANDARD")
    item = north.check()
    assert (item.status, item.needs_attention) == ("failed", True)
    assert MISFORTUNES[how] in item.note
    (check,) = north.records()
    assert (check.bag, check.success) == (BAG, False)
    assert [path.read_bytes() for path in north.quarantined()] == ([] if bad is None else [bad])
    assert (north.staged(), north.reservations()) == ([], 0)


def test_a_store_that_does_not_answer_is_no_verdict(keep: Callable[[str], Checker]) -> None:
    north = keep("STANDARD")
    reached = north.settings.store
    away = reached.model_copy(update={"endpoint_url": "http://127.0.0.1:1"})
    answering, north.store = north.store, open_store(away, clock=north.clock)
    item = north.check()
    assert (item.status, item.stage, item.attempts) == ("pending", "restore-init", 0)
    assert "store:main is unavailable" in item.note
    assert north.records() == []
    north.store = answering
    assert north.later(item.id).status == "success"
