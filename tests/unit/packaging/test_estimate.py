"""Room for objects that are fetched: each becomes a file, which takes more of a disk than its bytes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from dpn.bags.building.build import build_bag
from dpn.bags.building.metadata import DpnMetadata
from dpn.packaging.estimate import estimate
from dpn.packaging.s3.listing import open_listing
from dpn.packaging.settings import DepositS3Settings
from dpn.s3.pages import ListedObject
from dpn.staging.disk_use import allocated_bytes
from tests.fixtures.deposits import described

FEW_BYTES = 100
MANY = 2000


@pytest.mark.parametrize(
    "name",
    ["{0:06}", "{1:02}/{0:06}.txt", "{0}/a/b/c", "{0:06}" + "n" * 200, "café {1}/{0}"],
    ids=["flat", "in folders", "each in its own folders", "long names", "other characters"],
)
@pytest.mark.parametrize("size", [0, FEW_BYTES, 5000])
def test_many_small_objects_take_no_more_than_was_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    keys = sorted((name.format(number, number % 50) for number in range(MANY)), key=str.encode)
    monkeypatch.setattr("dpn.packaging.s3.object_sizes", lambda *_: ((key.encode(), size) for key in keys))
    needed = estimate(described("s3://bucket/prefix/"), s3=DepositS3Settings())
    objects = tmp_path / "fetched" / "objects"
    for key in keys:
        (objects / key).parent.mkdir(parents=True, exist_ok=True)
        (objects / key).write_bytes(b"x" * size)
    with open_listing(tmp_path / "fetched" / "listing.sqlite") as listing:
        listing.fill((ListedObject(key, size, f'"{number:032x}"') for number, key in enumerate(keys)), "there")
        listing.note_checksums((key.encode(), {"md5": "0" * 32}) for key in keys)
    build_bag(
        objects, tmp_path, metadata=DpnMetadata(local_id="x", ingest_node="n", bagging_date=date(2024, 1, 1))
    )
    taken = allocated_bytes(tmp_path)
    assert taken <= needed.staging_bytes <= 2 * taken + (2 << 20)
