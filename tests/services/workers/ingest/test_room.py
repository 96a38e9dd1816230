"""What packaging takes of a staging volume: never more than it was promised, and never for longer than needed."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dpn.bags.building import builder
from dpn.errors import StoreUnavailable
from dpn.packaging.package import FETCHED_OBJECTS
from dpn.packaging.s3 import connection, entries
from dpn.s3.limits import Retries
from dpn.staging.volumes import Volume
from tests.conftest import Bucket
from tests.services.workers.ingest.depositing import LEASE_SECONDS, Depositor, make_depositor

MEBIBYTE = 1 << 20


def of_capacity(monkeypatch: pytest.MonkeyPatch, capacity_bytes: int) -> None:
    """Each volume is a disk of this size."""

    def free_bytes(volume: Volume) -> int:
        files = [path.lstat() for path in volume.path.rglob("*") if path.is_file()]
        return capacity_bytes - sum(file.st_blocks * 512 for file in files)

    monkeypatch.setattr(Volume, "free_bytes", free_bytes)


def dies_while_it_builds(north: Depositor, last_words: Any) -> None:
    """Runs what is due in a process that is killed once the payload is in the tar."""
    north.sessions.kw["bind"].dispose()
    child = os.fork()
    if child == 0:
        builder._Bag.add_manifests = lambda bag: (last_words(bag), os._exit(9))  # type: ignore[method-assign]
        try:
            north.run_due()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_what_a_killed_packaging_left_is_not_in_the_way_of_its_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data.bin").write_bytes(os.urandom(4 * MEBIBYTE))
    north = make_depositor(tmp_path / "north")
    of_capacity(monkeypatch, 6 * MEBIBYTE)
    item = north.submit(source)
    dies_while_it_builds(north, lambda bag: bag._sink._write_gathered())
    (half,) = north.settings.staging.volumes["main"].rglob(".building-*/*.tar")
    assert half.stat().st_size >= 4 * MEBIBYTE
    north.clock.advance(LEASE_SECONDS + 1)
    north.run_due()
    assert north.item(item).stage == "store", north.item(item).note


class Source:
    """An S3 prefix, and the node that takes it in."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.client, self.bucket = bucket.client(), bucket.name
        self.north = make_depositor(
            folder,
            s3={
                "endpoint_url": bucket.endpoint,
                "region": bucket.region,
                "access_key_id": bucket.access_key,
                "secret_access_key": bucket.secret_key,
                "fetch_threads": 1,
            },
        )

    def submit(self, name: str, sizes: list[int]) -> int:
        for number, size in enumerate(sizes):
            self.client.put_object(Bucket=self.bucket, Key=f"{name}/{number:03}", Body=os.urandom(size))
        return self.north.submit(f"s3://{self.bucket}/{name}/", name)


@pytest.fixture
def s3(s3_bucket: Bucket, tmp_path: Path) -> Source:
    return Source(s3_bucket, tmp_path / "north")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Keys whose objects cannot be had as long as they are in here."""
    away: set[str] = set()
    really = connection.S3Source.get

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> Any:
        if key in away:
            raise StoreUnavailable("source:test", "it is away")
        return really(self, key, etag, start)

    monkeypatch.setattr(connection.S3Source, "get", get)
    monkeypatch.setattr("dpn.s3.connection.Retries", partial(Retries, attempts=1))
    return away


def test_deposits_that_an_outage_stopped_half_way_do_not_hold_each_other_up(
    s3: Source, outage: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outage.add("003")
    north = s3.north
    of_capacity(monkeypatch, 35 * MEBIBYTE)
    items = [s3.submit(name, [2 * MEBIBYTE] * 4) for name in ("one", "two")]
    north.run_due()
    for item in items:
        assert (north.item(item).stage, "it is away" in north.item(item).note) == ("package", True)
    held = [path for path in north.settings.staging.volumes["main"].rglob("objects/*") if path.is_file()]
    assert len(held) == 6
    outage.clear()
    for _ in range(3):
        north.clock.advance(301)
        north.run_due()
    assert {north.item(item).stage for item in items} == {"record"}, [north.item(item).note for item in items]


def test_while_a_bag_is_built_what_was_fetched_for_it_counts_once(
    s3: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_come: list[int] = []

    def look(*_: Any) -> None:
        (health,) = s3.north.staging.health()
        to_come.append(health.to_come_bytes)
        assert 16 * MEBIBYTE < health.reserved_bytes < 18 * MEBIBYTE + 65_536

    monkeypatch.setattr(builder._Bag, "add_manifests", look)
    s3.submit("one", [4 * MEBIBYTE] * 2)
    s3.north.run_due()
    assert to_come[0] < 3 * MEBIBYTE, "the listing's allowance, and what of the tar is not written yet"


def test_a_packaged_deposit_keeps_no_more_room_than_its_bag_takes(s3: Source) -> None:
    item = s3.submit("one", [4 * MEBIBYTE])
    s3.north.run_due()
    staged = s3.north.manifest(item).staged
    assert staged is not None, s3.north.item(item).note
    (health,) = s3.north.staging.health()
    assert (health.reserved_bytes, health.to_come_bytes) == (staged.size, 0)


def test_the_tree_that_is_noted_is_where_objects_are_fetched_to() -> None:
    assert f"fetched/{entries.OBJECTS}" == FETCHED_OBJECTS
