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
from models.work import Status
from tests.conftest import Bucket
from tests.services.fixity.checking import BAG, LOOK_AGAIN_SECONDS
from tests.services.restore.handing_back import LINK, holder_and_requester

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
