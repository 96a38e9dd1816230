"""Repairs of copies on real S3 servers: objects that rot on the server's disk, in cold storage, with a history."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from dpn.audit.trail import EventType
from dpn.fixity.begin import copy_facts
from dpn.fixity.repairs import open_repair
from models.preservation import StoredCopy
from tests.conftest import Bucket, Services
from tests.services.workers.fixity.checking import BAG, KEY, METADATA, MISFORTUNES, damage
from tests.services.workers.recovery.repair_bench import RepairBench, repair_bench
from workers.pipelines import PIPELINES

Make = Callable[..., RepairBench]


@pytest.fixture
def make(tmp_path: Path, sqlite_url: str, services: Services) -> Iterator[Make]:
    with ExitStack() as open_nodes:

        def made(bucket: Bucket, storage_class: str = "STANDARD") -> RepairBench:
            store = {
                "url": f"s3://{bucket.name}/bags",
                "endpoint_url": bucket.endpoint,
                "region": bucket.region,
                "access_key_id": bucket.access_key,
                "secret_access_key": bucket.secret_key,
                "storage_class": storage_class,
            }
            daemon = services.up("rsyncd")
            return open_nodes.enter_context(repair_bench(tmp_path, daemon, database_url=sqlite_url, store=store))

        yield made


def overwrite(bucket: Bucket, content: bytes | None, storage_class: str = "STANDARD") -> None:
    where = {"Bucket": bucket.name, "Key": f"bags/{KEY}"}
    if content is None:
        bucket.client().delete_object(**where)
    else:
        bucket.client().put_object(**where, Body=content, StorageClass=storage_class, Metadata=METADATA)


@pytest.mark.parametrize("how", [how for how in MISFORTUNES if how != "another file"])
def test_whatever_happened_to_an_object_another_nodes_copy_takes_its_place(
    make: Make, s3_bucket: Bucket, how: str
) -> None:
    north = make(s3_bucket)
    overwrite(s3_bucket, damage(north.tar.read_bytes(), how))
    north.find_bad()
    north.holders["south"].offer()
    north.go_on()
    north.expect_repaired()


def test_rot_on_the_servers_disk_that_its_checksums_do_not_show_is_repaired(
    make: Make, s3_bucket: Bucket, services: Services
) -> None:
    north = make(s3_bucket)
    kept = Path(services.up("s3")["data"]) / s3_bucket.name / "bags" / KEY
    times = (kept.stat().st_atime_ns, kept.stat().st_mtime_ns)
    kept.write_bytes(damage(kept.read_bytes(), "bit flip in the payload") or b"")
    os.utime(kept, ns=times)
    north.find_bad()
    north.holders["south"].offer()
    north.go_on()
    north.expect_repaired()
    assert north.event(EventType.COPY_REPLACED).outcome == "success"


def test_an_object_that_is_good_again_stays(make: Make, s3_bucket: Bucket) -> None:
    north = make(s3_bucket)
    overwrite(s3_bucket, damage(north.tar.read_bytes(), "truncated"))
    north.find_bad()
    overwrite(s3_bucket, north.tar.read_bytes())
    before = north.store.head(KEY)
    north.holders["south"].offer()
    item = north.go_on()
    assert "was good when it was to be replaced" in item.note
    assert north.store.head(KEY) == before
    assert north.copy().outcome == "good"


def test_an_object_in_cold_storage_is_replaced_there(make: Make, glacier_bucket: Bucket) -> None:
    north = make(glacier_bucket, "GLACIER")
    overwrite(glacier_bucket, damage(north.tar.read_bytes(), "bit flip in the payload"), "GLACIER")
    item = north.begin()
    for _ in range(5):
        found = north.later(item)
    assert found.status == "failed", found.note
    north.holders["south"].offer()
    for _ in range(5):
        north.clock.advance(7201)
        north.settle(north.repair().id)
    north.expect_cold_repaired()
    stored = north.store.head(KEY)
    assert stored is not None
    assert stored.storage_class == "GLACIER"


def test_a_cold_object_that_was_put_there_after_the_check_is_not_replaced(
    make: Make, glacier_bucket: Bucket
) -> None:
    north = make(glacier_bucket, "GLACIER")
    overwrite(glacier_bucket, damage(north.tar.read_bytes(), "bit flip in the payload"), "GLACIER")
    item = north.begin()
    for _ in range(5):
        found = north.later(item)
    assert found.status == "failed", found.note
    overwrite(glacier_bucket, damage(north.tar.read_bytes(), "bit flip in the padding"), "GLACIER")
    before = north.store.head(KEY)
    assert before is not None
    with north.sessions.begin() as session:
        repair = session.get_one(type(north.repair()), north.repair().id)
        long_ago = before.modified_at.replace(year=2000)
        repair.manifest = {**repair.manifest, "found_at": long_ago.isoformat()}
    north.holders["south"].offer()
    item_after = north.go_on()
    assert item_after.status == "pending"
    assert "is not the object that was found bad" in item_after.note
    assert north.store.head(KEY) == before


def test_a_cold_object_that_nothing_has_read_is_not_replaced_by_force(make: Make, glacier_bucket: Bucket) -> None:
    north = make(glacier_bucket, "GLACIER")
    before = north.store.head(KEY)
    with north.sessions.begin() as session:
        open_repair(
            session,
            copy_facts(session.get_one(StoredCopy, BAG)),
            check_id=str(uuid4()),
            found="asked for",
            found_at=None,
            agent="me",
            pipelines=PIPELINES,
            clock=north.clock,
        )
    north.settle(north.repair().id)
    north.holders["south"].offer()
    item = north.go_on()
    assert "was good when it was to be replaced" in item.note
    after = north.store.head(KEY)
    assert before is not None
    assert after is not None
    assert (after.etag, after.modified_at) == (before.etag, before.modified_at)


def test_a_bucket_with_history_keeps_the_bad_version_and_the_trail_names_both(
    make: Make, glacier_bucket: Bucket
) -> None:
    glacier_bucket.client().put_bucket_versioning(
        Bucket=glacier_bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    north = make(glacier_bucket)
    bad = north.receipt.version_id
    glacier_bucket.client().delete_object(Bucket=glacier_bucket.name, Key=f"bags/{KEY}", VersionId=bad)
    north.find_bad()
    north.holders["south"].offer()
    north.go_on()
    replaced = north.event(EventType.COPY_REPLACED).detail
    assert replaced["version_now"] not in (None, bad)
    assert north.copy().receipt["version_id"] == replaced["version_now"]
    assert north.last_check().status == "success"
    assert BAG in KEY


@pytest.mark.parametrize("whose", ["ours", "another writer's"])
def test_in_a_bucket_with_history_a_try_of_ours_that_was_not_proven_is_replaced_again(
    make: Make, glacier_bucket: Bucket, whose: str
) -> None:
    client = glacier_bucket.client()
    client.put_bucket_versioning(Bucket=glacier_bucket.name, VersioningConfiguration={"Status": "Enabled"})
    north = make(glacier_bucket)
    client.delete_object(
        Bucket=glacier_bucket.name, Key=f"bags/{KEY}", VersionId=north.receipt.version_id or "none"
    )
    north.find_bad()
    asking = north.recovery().asking
    assert asking is not None
    client.put_object(
        Bucket=glacier_bucket.name,
        Key=f"bags/{KEY}",
        Body=damage(north.tar.read_bytes(), "bit flip in the payload") or b"",
        Metadata={**METADATA, "transfer_id": asking.restore_id if whose == "ours" else BAG},
    )
    before = north.store.head(KEY)
    with north.sessions.begin() as session:
        repair = session.get_one(type(north.repair()), north.repair().id)
        repair.manifest = {**repair.manifest, "replacing": True}
    north.holders["south"].offer()
    item = north.go_on()
    if whose == "ours":
        north.expect_repaired()
    else:
        assert "is not the object that was found bad" in item.note
        assert north.store.head(KEY) == before
