"""After a lost database, copies in our store become known again: once they are proven, and for nothing less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from dpn.cli.store.adoption import Adopting
from dpn.database import reading
from models.preservation import KnownStore, StoredCopy
from tests.conftest import Bucket, Services
from tests.services.recovery.asking import Asking, write_config


def lose_copies(asking: Asking) -> None:
    """The registry was rebuilt; of copies nothing is known."""
    with asking.registry.sessions.begin() as session:
        session.execute(delete(StoredCopy))
        session.execute(delete(KnownStore))


def known(asking: Asking) -> dict[str, Any]:
    with reading(asking.registry.sessions) as session:
        return {copy.bag: copy.receipt for copy in session.scalars(select(StoredCopy))}


def adopt(asking: Asking, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code; of each bag, what came of it and why."""
    done = asking.dpn("store", "adopt", "--json", *words)
    assert done.code < 2, done.err
    told = [json.loads(line) for line in done.out.splitlines()]
    return done.code, {one["bag"]: (one["state"], one["why"]) for one in told}


def stored(asking: Asking, bag: str) -> Path:
    return asking.folder / "store" / f"{bag}.tar"


def test_copies_are_known_again_with_their_receipts_and_can_be_used(asking: Asking) -> None:
    bags = [asking.a_bag({"data/a": bytes([number])}) for number in range(3)]
    receipts = {bag: asking.keep(bag) for bag in bags}
    lose_copies(asking)
    kept = asking.keep(bags[0])  # one is known by now
    code, told = adopt(asking)
    assert (code, {bag: state for bag, (state, _) in told.items()}) == (0, dict.fromkeys(bags[1:], "adopted"))
    for bag, receipt in known(asking).items():
        before = (kept if bag == bags[0] else receipts[bag]).model_dump(mode="json")
        assert {**receipt, "confirmed_at": 0} == {**before, "confirmed_at": 0}
    assert asking.events(bags[1])[-1] == ("copy adopted", "success")
    assert asking.dpn("restore", "fetch", bags[1], "--from-store", "--out", str(asking.out)).code == 0
    assert adopt(asking) == (0, {})


def test_what_lies_beside_a_copy_is_not_needed_and_proves_nothing(asking: Asking) -> None:
    bare, changed = asking.a_bag(), asking.a_bag()
    for bag in (bare, changed):
        asking.keep(bag)
    lose_copies(asking)
    stored(asking, bare).with_suffix(".tar.json").unlink()
    path = stored(asking, changed)
    content = path.read_bytes().replace(b"first\n", b"fixst\n")
    path.unlink()
    path.write_bytes(content)
    code, told = adopt(asking)
    assert (code, told[bare][0], told[changed][0]) == (1, "adopted", "refused"), told
    assert "the bag is invalid" in told[changed][1]
    assert set(known(asking)) == {bare}
    assert path.read_bytes() == content, "nothing is done to it"


def test_a_bag_that_is_whole_and_not_as_it_was_stored_is_left_to_a_person(asking: Asking) -> None:
    bag = asking.a_bag()
    asking.keep(bag)
    lose_copies(asking)
    path = stored(asking, bag)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"!")  # in the padding: no manifest knows of it
    code, told = adopt(asking)
    assert (code, told[bag][0]) == (1, "refused")
    assert "it has changed, or the note is wrong" in told[bag][1]


def test_a_name_alone_is_nothing(asking: Asking) -> None:
    mine, other = asking.a_bag(), asking.a_bag({"data/b": b"another"})
    unknown, undigested = "00000000-0000-4000-8000-000000000001", asking.a_bag(digest=False)
    asking.keep(mine)
    lose_copies(asking)
    stored(asking, other).write_bytes(stored(asking, mine).read_bytes())
    for bag in (unknown, undigested):
        stored(asking, bag).write_bytes(asking.tars[undigested].read_bytes())
    stored(asking, "not-a-bag").write_bytes(b"stays out of it")
    _, told = adopt(asking)
    assert {bag: state for bag, (state, _) in told.items()} == {
        mine: "adopted", other: "refused", unknown: "refused", undigested: "refused",
    }  # fmt: skip
    assert f"it says that it is bag '{mine}'" in told[other][1]
    assert "our registry knows neither" in told[unknown][1]
    assert "our registry has no digest" in told[undigested][1]
    assert set(known(asking)) == {mine}


def test_only_the_bags_that_are_named(asking: Asking) -> None:
    one, two = asking.a_bag(), asking.a_bag()
    for bag in (one, two):
        asking.keep(bag)
    lose_copies(asking)
    assert set(adopt(asking, two)[1]) == {two}
    assert set(known(asking)) == {two}


def in_s3(asking: Asking, services: Services, bucket: Bucket, storage_class: str = "STANDARD") -> Asking:
    store = f"""
        [store]
        url = "s3://{bucket.name}/bags"
        endpoint_url = "{bucket.endpoint}"
        region = "{bucket.region}"
        access_key_id = "{bucket.access_key}"
        secret_access_key = "{bucket.secret_key}"
        storage_class = "{storage_class}"
        """
    database = asking.registry.settings.database.address()
    write_config(asking.config, asking.registry, services.up("rsyncd"), database, store=store)
    return asking


def test_bags_of_a_bucket_are_read_one_at_a_time_in_a_folder(
    asking: Asking, s3_bucket: Bucket, services: Services, tmp_path: Path
) -> None:
    in_s3(asking, services, s3_bucket)
    bags, scratch = [asking.a_bag({"data/a": bytes([number])}) for number in range(2)], tmp_path / "scratch"
    receipts = {bag: asking.keep(bag) for bag in bags}
    spoilt = s3_bucket.client().get_object(Bucket=s3_bucket.name, Key=f"bags/{bags[1]}.tar")["Body"].read()
    s3_bucket.client().put_object(Bucket=s3_bucket.name, Key=f"bags/{bags[1]}.tar", Body=spoilt[:4096])
    lose_copies(asking)
    refused = asking.dpn("store", "adopt")
    assert (refused.code, "--scratch DIR" in refused.err) == (2, True)
    scratch.mkdir()
    code, told = adopt(asking, "--scratch", str(scratch))
    assert (code, told[bags[0]][0], told[bags[1]][0]) == (1, "adopted", "refused")
    before = receipts[bags[0]].model_dump(mode="json")
    assert {**known(asking)[bags[0]], "confirmed_at": 0} == {**before, "confirmed_at": 0}
    assert list(scratch.iterdir()) == []


def test_what_goes_while_it_is_looked_at_is_not_put_there_by_us(
    asking: Asking, s3_bucket: Bucket, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_s3(asking, services, s3_bucket)
    bag = asking.a_bag()
    asking.keep(bag)
    lose_copies(asking)
    where, judge = {"Bucket": s3_bucket.name, "Key": f"bags/{bag}.tar"}, Adopting._judge

    def judge_and_lose(self: Adopting, *arguments: Any) -> Any:
        judged = judge(self, *arguments)
        s3_bucket.client().delete_object(**where)
        return judged

    monkeypatch.setattr(Adopting, "_judge", judge_and_lose)
    code, told = adopt(asking, "--scratch", str(tmp_path))
    assert (code, told[bag]) == (1, ("refused", f"{bag}.tar went while it was looked at"))
    assert s3_bucket.client().list_objects_v2(Bucket=s3_bucket.name, Prefix=where["Key"])["KeyCount"] == 0


@pytest.mark.parametrize("thaw", [False, True])
def test_what_is_in_cold_storage_is_asked_for_only_if_that_is_wanted(
    asking: Asking, glacier_bucket: Bucket, services: Services, tmp_path: Path, thaw: bool
) -> None:
    in_s3(asking, services, glacier_bucket, "GLACIER")
    bag = asking.a_bag()
    asking.keep(bag)
    lose_copies(asking)
    code, told = adopt(asking, "--scratch", str(tmp_path), *(["--thaw"] if thaw else []))
    assert (code, told[bag][0]) == (1, "cold")
    found = glacier_bucket.client().head_object(Bucket=glacier_bucket.name, Key=f"bags/{bag}.tar")
    assert ("Restore" in found) is thaw
