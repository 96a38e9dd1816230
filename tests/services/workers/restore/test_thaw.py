"""A bag that lies in GLACIER or DEEP_ARCHIVE, on moto, is restored there, retrieved, offered and fetched.

What a restore takes is told to moto: looks at the object, not time.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dpn.audit.trail import EventType
from dpn.fixity.copies import Copies
from models.work import Status
from tests.conftest import Bucket
from tests.services.workers.fixity.checking import BAG, KEY, LOOK_AGAIN_SECONDS, put
from tests.services.workers.restore.handing_back import LINK, holder_and_requester

RESTORE = "s3::keyrestore"
"""What moto calls the restore of an object."""


@pytest.fixture
def slow_bucket(glacier_bucket: Bucket) -> Iterator[Bucket]:
    """A restore there takes three looks at the object."""
    transition = {"progression": "manual", "times": 3}
    tell_moto(glacier_bucket, "set-transition", {"model_name": RESTORE, "transition": transition})
    yield glacier_bucket
    tell_moto(glacier_bucket, "unset-transition", {"model_name": RESTORE})


def tell_moto(bucket: Bucket, command: str, body: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection(urlsplit(bucket.endpoint).netloc, timeout=10)
    connection.request("POST", f"/moto-api/state-manager/{command}", json.dumps(body).encode())
    assert connection.getresponse().status < 300
    connection.close()


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE", "STANDARD"])
def test_a_bag_comes_back_from_cold_storage_for_the_node_that_asks(
    tmp_path: Path, sqlite_url: str, slow_bucket: Bucket, storage_class: str
) -> None:
    store = {
        "url": f"s3://{slow_bucket.name}/bags",
        "endpoint_url": slow_bucket.endpoint,
        "region": slow_bucket.region,
        "access_key_id": slow_bucket.access_key,
        "secret_access_key": slow_bucket.secret_key,
        "storage_class": storage_class,
    }
    is_cold = storage_class != "STANDARD"
    with holder_and_requester(tmp_path, database_url=sqlite_url, store=store) as north:
        restore = north.requester.ask()
        item = north.hand_out(restore)
        assert north.requester.record(restore).accepted, "told at once, however long it takes"
        assert (item.status, item.stage) == (Status.PENDING, "restore-init" if is_cold else "deliver")
        for _ in range(4):
            north.clock.advance(LOOK_AGAIN_SECONDS + 1)
            north.run_all()
        assert north.requester.record(restore).link == LINK.format(node="south", bag=BAG)
        assert north.offered_to_south().read_bytes() == north.tar.read_bytes()
        north.requester.finish(restore)
        north.poll()
        item = north.the_item(restore)
        assert (item.status, item.needs_attention) == (Status.SUCCESS, False)
        assert (north.offered(), north.staged(), north.reservations()) == ([], [], 0)
        assert len(north.events(item.id, EventType.RESTORE_REQUESTED)) == is_cold


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_copy_that_was_replaced_after_the_request_was_taken_is_handed_out_as_it_is_now(
    tmp_path: Path, sqlite_url: str, glacier_bucket: Bucket, rounds: int
) -> None:
    client = glacier_bucket.client()
    client.put_bucket_versioning(Bucket=glacier_bucket.name, VersioningConfiguration={"Status": "Enabled"})
    store = {
        "url": f"s3://{glacier_bucket.name}/bags",
        "endpoint_url": glacier_bucket.endpoint,
        "region": glacier_bucket.region,
        "access_key_id": glacier_bucket.access_key,
        "secret_access_key": glacier_bucket.secret_key,
    }
    with holder_and_requester(tmp_path, database_url=sqlite_url, store=store) as north:
        restore = north.requester.ask()
        north.cron()
        for _ in range(rounds):
            north.run_due()
        lost = north.receipt.version_id
        client.delete_object(Bucket=glacier_bucket.name, Key=f"bags/{KEY}", VersionId=lost)
        north.clock.advance(1)
        repaired = put(north.store, north.tar)
        assert repaired.version_id != lost
        Copies(north.sessions, 100.0).remember(repaired, bag=BAG, tag_manifest_sha256=north.digest, item_id=5)
        north.run_all()
        north.clock.advance(60)  # what begins anew does so a little later
        north.run_all()
        assert north.requester.record(restore).link == LINK.format(node="south", bag=BAG)
        assert [check.success for check in north.records()] == [True]
        assert north.restore_manifest(restore).copied.receipt == repaired
        assert north.copy().outcome == "good"
