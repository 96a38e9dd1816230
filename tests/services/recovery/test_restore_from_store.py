"""Our own copy, straight from our store into a folder: from a folder store, and from one that must be restored."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from dpn.database import reading
from models.preservation import ColdRequest
from tests.conftest import Bucket, Services
from tests.services.recovery.asking import Asking, Ran, write_config


def fetch(asking: Asking, bag: str, *words: str) -> Ran:
    return asking.fetch(bag, "--from-store", "--json", *words)


def test_a_copy_of_ours_comes_without_asking_anybody(asking: Asking) -> None:
    bag = asking.a_bag()
    asking.keep(bag)
    done = fetch(asking, bag)
    assert (done.code, done.said["finished"]) == (0, None)
    assert (asking.out / f"{bag}.tar").read_bytes() == asking.tars[bag].read_bytes()
    assert asking.there() == {f"{bag}.tar"}
    assert fetch(asking, bag).said["was_there"]
    assert fetch(asking, bag, "--unpack").code == 0
    assert asking.there() == {f"{bag}.tar", bag}


def test_a_bag_that_we_do_not_keep_is_told(asking: Asking) -> None:
    done = fetch(asking, asking.a_bag())
    assert done.code == 2
    assert "we keep no copy" in done.err


@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
def test_a_bad_copy_never_gets_the_bags_name(asking: Asking, how: str) -> None:
    bag = asking.a_bag()
    stored = Path(asking.keep(bag).url.removeprefix("file://"))
    content = stored.read_bytes()
    stored.unlink()
    if how == "flipped":
        stored.write_bytes(content.replace(b"first\n", b"fixst\n"))
    elif how == "cut":
        stored.write_bytes(content[:4096])
    done = fetch(asking, bag)
    assert done.code == 1
    assert done.said["state"] == ("missing" if how == "deleted" else "bad")
    assert f"dpn restore request {bag}" in done.said["why"]
    assert not list(asking.out.glob("*.tar"))


def test_a_store_that_is_not_mounted_is_not_taken_for_a_lost_copy(asking: Asking) -> None:
    bag = asking.a_bag()
    Path(asking.keep(bag).url.removeprefix("file://")).unlink()
    for path in (asking.folder / "store").iterdir():
        path.unlink()
    done = fetch(asking, bag)
    assert done.code == 2
    assert "it has no marker, and we have copies there: mount the right disk" in done.err
    marked = asking.dpn("store", "mark")
    assert (marked.code, "is store main of node north now" in marked.out) == (0, True)
    assert fetch(asking, bag).said["state"] == "missing"


# -- cold storage -------------------------------------------------------------------------------------------------


@pytest.fixture
def cold(asking: Asking, glacier_bucket: Bucket, services: Services) -> Iterator[Asking]:
    """North with its store on moto, in GLACIER, where a restore takes three looks."""
    bucket = glacier_bucket
    store = f"""
        [store]
        url = "s3://{bucket.name}/bags"
        endpoint_url = "{bucket.endpoint}"
        region = "{bucket.region}"
        access_key_id = "{bucket.access_key}"
        secret_access_key = "{bucket.secret_key}"
        storage_class = "GLACIER"
        [fixity]
        look_again_seconds = 0.1
        """
    database = asking.registry.settings.database.address()
    write_config(asking.config, asking.registry, services.up("rsyncd"), database, store=store)
    _moto(bucket, "set-transition", {"transition": {"progression": "manual", "times": 3}})
    yield asking
    _moto(bucket, "unset-transition", {})


def _moto(bucket: Bucket, command: str, body: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection(urlsplit(bucket.endpoint).netloc, timeout=10)
    body = {"model_name": "s3::keyrestore", **body}
    connection.request("POST", f"/moto-api/state-manager/{command}", json.dumps(body).encode())
    assert connection.getresponse().status < 300
    connection.close()


def test_a_cold_copy_is_asked_for_once_and_comes_when_it_can_be_read(cold: Asking) -> None:
    bag = cold.a_bag()
    cold.keep(bag)
    first = fetch(cold, bag)
    assert (first.code, first.said["state"]) == (1, "cold")
    assert "up to 48 hours" in first.said["why"]
    assert cold.there() == set()
    done = fetch(cold, bag, "--wait", "60")
    assert done.code == 0, done
    assert (cold.out / f"{bag}.tar").read_bytes() == cold.tars[bag].read_bytes()
    assert cold.events(bag).count(("restore requested", "accepted")) == 1
    with reading(cold.registry.sessions) as session:
        noted = [(one.item_id, one.bag, one.bytes) for one in session.scalars(select(ColdRequest))]
    assert noted == [(None, bag, cold.tars[bag].stat().st_size)], "it counts for the budget of fixity checks"
