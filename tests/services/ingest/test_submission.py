"""Deposits: what is wrong is refused with a remedy, and the same deposit never makes two bags."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions
from dpn.ingest.submission import DepositRefused, DepositRequest, Submitted, submit, submitted
from dpn.registry.catalogue import BAGS, MEMBERS
from dpn.registry.catalogue.rows import save
from dpn.registry.records import MAX_VERSION, MemberRecord
from dpn.work.items import NotAllowed, cancel_item, retry_item
from dpn.work.pipeline import Pipelines
from models.manifests import IngestManifest, Receipt
from models.work import AuditEvent, Deposit, DispatchIntent, Status, Task, WorkItem
from tests.fixtures.databases import migrate
from tests.fixtures.made_bags import bag_files, dpn_info, tar_bag
from tests.fixtures.records import LONG_AGO, a_bag, uuid
from tests.services.workers.ingest.depositing import make_depositor
from workers.pipelines import PIPELINES as NODES_PIPELINES

MEMBER = uuid(0xFFFF)
UUID_1 = "5b7d9d4c-2f7e-1c55-8a44-9a7b6c5d4e3f"
"""Of version 1."""
RECEIPT = Receipt(
    store="main",
    url="file:///store/a.tar",
    key="a.tar",
    size=1,
    sha256="0" * 64,
    part_size=1,
    part_sha256=["0" * 64],
    confirmed_at=LONG_AGO,
    confirmed_by="read-back",
)
PIPELINES = Pipelines([NODES_PIPELINES.of(Task.INGEST)])


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    """A registry with one member and one bag of it, on SQLite and PostgreSQL."""
    engine = open_engine(database_url)
    migrate(engine)
    opened = open_sessions(engine)
    with opened.begin() as session:
        times = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
        save(session, MEMBERS, [MemberRecord(member_id=MEMBER, name="A library", email="a@example.org", **times)])
        save(session, BAGS, [a_bag(1), a_bag(2, bag_type="R")])
    yield opened
    engine.dispose()


def deposit(sessions: Sessions, **fields: Any) -> Submitted:
    values: dict[str, Any] = {"source": "/deposits/a", "member": MEMBER, "local_id": "a"} | fields
    with sessions.begin() as session:
        return submit(
            session,
            DepositRequest(**values),
            by="somebody",
            node="north",
            pipelines=PIPELINES,
            clock=ManualClock(),
        )


def another_member(sessions: Sessions) -> str:
    other = uuid(0xEEEE)
    with sessions.begin() as session:
        times = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
        save(session, MEMBERS, [MemberRecord(member_id=other, name="B", email="b@example.org", **times)])
    return other


def manifest_of(sessions: Sessions, item: int) -> IngestManifest:
    with sessions() as session:
        stored = session.get_one(WorkItem, item)
        manifest = IngestManifest.read(stored.manifest)
    assert isinstance(manifest, IngestManifest)
    return manifest


def count(sessions: Sessions, model: Any) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def end(sessions: Sessions, item: int, status: Status, *, stored: bool = False) -> None:
    """The item's end, as a worker or an operator would leave it."""
    with sessions.begin() as session:
        found = session.get_one(WorkItem, item)
        found.status = status
        if stored:
            found.manifest = {**found.manifest, "receipt": RECEIPT.model_dump(mode="json")}


def retry(sessions: Sessions, item: int) -> None:
    with sessions.begin() as session:
        retry_item(session, item, operator="ann", pipelines=PIPELINES, clock=ManualClock())


def test_a_deposit_becomes_one_item_that_is_announced_and_in_the_audit_trail(sessions: Sessions) -> None:
    done = deposit(sessions, title="All of it", source_name="aptrust")
    assert not done.repeated
    facts = manifest_of(sessions, done.item).deposit
    assert (facts.bag, facts.version, facts.first_version_uuid) == (done.bag, 1, done.bag)
    assert (facts.title, facts.source_name, facts.submitted_by) == ("All of it", "aptrust", "somebody")
    with sessions() as session:
        assert session.scalars(select(DispatchIntent.topic)).all() == ["dpn_package_topic"]
        assert session.scalars(select(AuditEvent.object_id)).all() == [done.bag]
        assert submitted(session, done.bag) is not None
        assert submitted(session, uuid(77)) is None


def test_the_same_deposit_again_is_the_same_item_and_says_so(sessions: Sessions) -> None:
    first, again = deposit(sessions), deposit(sessions)
    assert again.repeated
    assert (again.item, again.bag) == (first.item, first.bag)
    assert count(sessions, WorkItem) == count(sessions, Deposit) == count(sessions, DispatchIntent) == 1


ENDED = pytest.mark.parametrize("ended", [Status.FAILED, Status.CANCELLED])
"""How a deposit may end of which nothing is stored."""

OTHERWISE = pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        ({"title": "Another"}, "title is now 'Another', was none"),
        ({"rights": (uuid(2),)}, f"rights is now {uuid(2)}, was none"),
        ({"source_name": "aptrust"}, "source name is now 'aptrust', was none"),
        ({"as_is": True}, "as is is now True, was False"),
    ],
)
"""What the key that a deposit has of itself does not tell apart."""


@OTHERWISE
def test_a_deposit_with_the_key_of_another_is_refused_and_told_what_is_different(
    sessions: Sessions, otherwise: dict[str, Any], said: str
) -> None:
    first = deposit(sessions)
    with pytest.raises(DepositRefused) as refused:
        deposit(sessions, **otherwise)
    assert f"item {first.item}" in str(refused.value)
    assert said in str(refused.value)
    assert f"`dpn item cancel {first.item}`" in str(refused.value)
    assert deposit(sessions).item == first.item
    assert count(sessions, WorkItem) == 1


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        ({"source": "/deposits/b"}, "source is now '/deposits/b', was '/deposits/a'"),
        ({"local_id": "b"}, "local id is now 'b', was 'a'"),
        ({"bag_type": "rights"}, "bag type is now 'rights', was 'data'"),
        ({"new_version_of": uuid(1)}, f"new version of is now '{uuid(1)}', was none"),
    ],
)
def test_a_key_that_was_given_names_one_deposit(sessions: Sessions, otherwise: dict[str, Any], said: str) -> None:
    first = deposit(sessions, key="box 7")
    assert deposit(sessions, key="box 7").item == first.item
    with pytest.raises(DepositRefused) as refused:
        deposit(sessions, key="box 7", **otherwise)
    assert said in str(refused.value)
    assert "the key 'box 7' is that of" in str(refused.value)
    assert count(sessions, WorkItem) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://deposits/a/", "s3://deposits/a"),
        ("s3://deposits/a/", "S3://deposits/a/"),
        ("{folder}/real", "{folder}/real/"),
        ("{folder}/real", "{folder}/other/../real"),
        ("{folder}/real", "{folder}/link"),
    ],
)
def test_a_place_under_two_names_is_one_deposit(sessions: Sessions, tmp_path: Path, one: str, other: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    says = {"local_id": "inst.example/thing-1", "new_version_of": uuid(1)}
    first = deposit(sessions, source=one.format(folder=tmp_path), **says)
    assert deposit(sessions, source=other.format(folder=tmp_path), **says).item == first.item
    deposit(sessions, source=one.format(folder=tmp_path), key="k", local_id="k")
    assert deposit(sessions, source=other.format(folder=tmp_path), key="k", local_id="k").repeated


@pytest.mark.parametrize("source", ["s3://[x/y/", "s3://x]/y/", "s3://x?y/z/", "s3://a b/c/", "s3://u@x/y/"])
def test_an_address_that_names_no_bucket_is_refused(sessions: Sessions, source: str) -> None:
    with pytest.raises(DepositRefused, match="names no bucket"):
        deposit(sessions, source=source)


def test_links_that_lead_to_each_other_are_refused(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DepositRefused, match="leads nowhere"):
        deposit(sessions, source=str(tmp_path / "a"))


def test_a_key_is_one_of_its_member(sessions: Sessions) -> None:
    other = another_member(sessions)
    first = deposit(sessions, key="2024-001")
    second = deposit(sessions, key="2024-001", member=other, source="/deposits/b")
    assert not second.repeated
    assert deposit(sessions, key="2024-001").item == first.item


def test_a_key_of_before_keys_belonged_to_members_is_still_its_members(sessions: Sessions) -> None:
    """Hashed as the releases did that asked for no member."""
    other = another_member(sessions)
    first = deposit(sessions, key="box 7")
    former = hashlib.sha256(json.dumps(["key", "box 7"]).encode()).hexdigest()
    with sessions.begin() as session:
        session.execute(update(Deposit).values(key=former))
    assert deposit(sessions, key="box 7").item == first.item
    assert not deposit(sessions, key="box 7", member=other).repeated


def test_a_version_with_a_key_is_the_same_again_whatever_came_after_it(sessions: Sessions) -> None:
    first = deposit(sessions)
    second = deposit(sessions, key="two", source="/deposits/a2", new_version_of=first.bag)
    third = deposit(sessions, key="three", source="/deposits/a3", new_version_of=first.bag)
    end(sessions, second.item, Status.SUCCESS, stored=True)
    again = deposit(sessions, key="two", source="/deposits/a2", new_version_of=first.bag)
    assert (again.item, again.version) == (second.item, 2)
    with pytest.raises(DepositRefused, match=f"new version of is now '{third.bag}', was 'a bag before version 2"):
        deposit(sessions, key="two", source="/deposits/a2", new_version_of=third.bag)


def test_a_further_version_from_the_same_place_is_not_taken_for_the_one_before(sessions: Sessions) -> None:
    says = {"local_id": "inst.example/thing-1", "new_version_of": uuid(1)}
    second = deposit(sessions, **says)
    assert deposit(sessions, **says).item == second.item
    end(sessions, second.item, Status.SUCCESS, stored=True)
    with pytest.raises(DepositRefused, match=f"say --new-version-of {second.bag}"):
        deposit(sessions, **says)
    assert deposit(sessions, **says | {"new_version_of": second.bag}).version == 3


@ENDED
@pytest.mark.parametrize("key", [None, "box 7"])
def test_what_came_to_nothing_is_corrected_from_the_same_place_and_with_the_same_key(
    sessions: Sessions, ended: Status, key: str | None
) -> None:
    otherwise = {"title": "Another", "rights": (uuid(2),)}
    first = deposit(sessions, key=key)
    end(sessions, first.item, ended)
    assert deposit(sessions, key=key).item == first.item, "the same again is begun again by a retry"
    second = deposit(sessions, key=key, **otherwise)
    assert second.bag != first.bag
    assert deposit(sessions, key=key, **otherwise).item == second.item
    with sessions() as session:
        before = submitted(session, first.bag)
    assert before is not None
    assert (before.item, before.status) == (first.item, ended)


def test_a_key_of_what_came_to_nothing_is_not_taken_by_a_deposit_of_another_name(sessions: Sessions) -> None:
    first = deposit(sessions, key="box 7")
    end(sessions, first.item, Status.FAILED)
    with pytest.raises(DepositRefused, match="give another deposit another --key"):
        deposit(sessions, key="box 7", local_id="b")


@ENDED
def test_of_many_that_correct_one_deposit_at_once_one_makes_it(sessions: Sessions, ended: Status) -> None:
    first = deposit(sessions)
    end(sessions, first.item, ended)
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: deposit(sessions, title="right"), range(16)))
    assert len({one.bag for one in done}) == 1
    assert sum(not one.repeated for one in done) == 1
    assert count(sessions, WorkItem) == 2


def test_of_many_that_submit_one_deposit_at_once_one_makes_it(sessions: Sessions) -> None:
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: deposit(sessions), range(16)))
    assert len({one.bag for one in done}) == 1
    assert sum(not one.repeated for one in done) == 1
    assert count(sessions, WorkItem) == 1


def test_versions_deposited_at_once_get_numbers_of_their_own(sessions: Sessions) -> None:
    def next_version(number: int) -> Submitted:
        return deposit(
            sessions, source=f"/deposits/v{number}", local_id="inst.example/thing-1", new_version_of=uuid(1)
        )

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(next_version, range(4)))
    assert sorted(one.version for one in done) == [2, 3, 4, 5]
    assert {one.first_version_uuid for one in done} == {uuid(1)}


def test_a_version_of_a_deposit_that_is_not_registered_yet_joins_its_family(sessions: Sessions) -> None:
    first = deposit(sessions)
    second = deposit(sessions, source="/deposits/a2", new_version_of=first.bag)
    assert (second.version, second.first_version_uuid) == (2, first.bag)
    assert deposit(sessions, source="/deposits/a3", new_version_of=second.bag).version == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"member": uuid(5)}, "no member"),
        ({"member": "a library"}, "--member 'a library': not a hyphenated UUID"),
        ({"local_id": "inst.example/thing-1"}, f"say --new-version-of {uuid(1)}"),
        ({"local_id": ""}, "the local id '' is empty"),
        ({"local_id": "two\nlines"}, "control characters"),
        ({"rights": (uuid(77),)}, f"--rights {uuid(77)}: no such bag"),
        ({"rights": (uuid(1),)}, "of type D, not R"),
        ({"interpretive": (uuid(2),)}, "of type R, not I"),
        ({"new_version_of": uuid(77)}, "no such bag"),
        ({"as_is": True}, "is not a DPN bag to be taken as it is"),
    ],
)
def test_what_is_wrong_is_refused_with_a_remedy_and_makes_nothing(
    sessions: Sessions, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(DepositRefused) as refused:
        deposit(sessions, **fields)
    assert said in str(refused.value)
    assert count(sessions, WorkItem) == count(sessions, Deposit) == 0


@ENDED
def test_a_deposit_that_ended_before_it_was_stored_frees_its_local_id(sessions: Sessions, ended: Status) -> None:
    first = deposit(sessions)
    with pytest.raises(
        DepositRefused, match=rf"item {first.item}.*another local id.*dpn item cancel {first.item}"
    ):
        deposit(sessions, source="/deposits/elsewhere")
    end(sessions, first.item, ended)
    second = deposit(sessions, source="/deposits/elsewhere")
    assert (second.bag != first.bag, second.version, second.repeated) == (True, 1, False)


def test_a_deposit_that_failed_after_it_was_stored_keeps_its_local_id(sessions: Sessions) -> None:
    first = deposit(sessions)
    end(sessions, first.item, Status.FAILED, stored=True)
    with pytest.raises(DepositRefused, match=f"say --new-version-of {first.bag}") as refused:
        deposit(sessions, source="/deposits/elsewhere")
    assert "dpn item cancel" not in str(refused.value)


@ENDED
@pytest.mark.parametrize("option", ["rights", "interpretive", "new_version_of"])
def test_a_bag_of_which_nothing_will_come_is_not_referred_to(
    sessions: Sessions, ended: Status, option: str
) -> None:
    kind = option if option in ("rights", "interpretive") else "data"
    dead = deposit(sessions, local_id="dead", bag_type=kind)
    end(sessions, dead.item, ended)
    named = dead.bag if option == "new_version_of" else (dead.bag,)
    with pytest.raises(DepositRefused, match=rf"no such bag.*`dpn item retry {dead.item}`"):
        deposit(sessions, **{option: named})
    assert count(sessions, WorkItem) == 1
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(3, uuid=dead.bag, first_version_uuid=dead.bag, bag_type=kind[0].upper())])
    assert not deposit(sessions, **{option: named}).repeated, "somebody has entered it by hand"


@ENDED
def test_no_version_follows_one_whose_first_version_came_to_nothing(sessions: Sessions, ended: Status) -> None:
    first = deposit(sessions)
    second = deposit(sessions, source="/deposits/a2", new_version_of=first.bag)
    end(sessions, first.item, ended)
    with pytest.raises(DepositRefused, match=f"its first version {first.bag}: no such bag"):
        deposit(sessions, source="/deposits/a3", new_version_of=second.bag)


@ENDED
def test_what_came_to_nothing_is_not_begun_again_once_its_local_id_is_taken(
    sessions: Sessions, ended: Status
) -> None:
    first = deposit(sessions)
    end(sessions, first.item, ended)
    second = deposit(sessions, source="/deposits/elsewhere")
    with pytest.raises(NotAllowed, match=rf"that of bag {second.bag} \(item {second.item}, pending\)") as refused:
        retry(sessions, first.item)
    assert f"--new-version-of {second.bag}" in str(refused.value)
    end(sessions, second.item, ended)
    retry(sessions, first.item)
    with pytest.raises(NotAllowed, match=f"that of bag {first.bag}"):
        retry(sessions, second.item)


def test_what_came_to_nothing_is_not_begun_again_once_its_local_id_is_registered(sessions: Sessions) -> None:
    first = deposit(sessions)
    end(sessions, first.item, Status.FAILED)
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(4, member=MEMBER, local_id="a")])
    with pytest.raises(NotAllowed, match=f"that of bag {uuid(4)} by now"):
        retry(sessions, first.item)


def test_what_other_nodes_say_of_our_family_and_our_member_decides_nothing(sessions: Sessions) -> None:
    """A peer that lists a bag as the last version of our family, and another under a local id of our member."""
    foreign = {"admin_node": "south", "ingest_node": "south", "member": MEMBER}
    last = a_bag(8, first_version_uuid=uuid(1), version=MAX_VERSION, **foreign)
    with sessions.begin() as session:
        save(session, BAGS, [last, a_bag(9, local_id="a", **foreign)])
    assert deposit(sessions).version == 1
    says = {"source": "/deposits/b", "local_id": "inst.example/thing-1"}
    assert deposit(sessions, **says, new_version_of=uuid(1)).version == 2
    with pytest.raises(DepositRefused, match=f"administered by south.*dpn registry disown south bag {uuid(8)}"):
        deposit(sessions, **says, new_version_of=uuid(8))


def test_a_version_that_another_node_says_it_has_of_our_family_keeps_no_bag_of_ours_out(
    sessions: Sessions, tmp_path: Path
) -> None:
    foreign = {"admin_node": "south", "ingest_node": "south", "member": MEMBER}
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(8, first_version_uuid=uuid(1), version=2, **foreign)])
    says = {"First_Version_Object_ID": uuid(1), "Version_Number": "2", "Local_ID": "inst.example/thing-7"}
    assert deposit(sessions, source=as_it_is(tmp_path / "ours", **says), **AS_IT_IS).version == 2


@pytest.mark.parametrize("first_to_act", ["retry", "submit"])
def test_a_retry_and_a_deposit_of_one_local_id_take_turns(sessions: Sessions, first_to_act: str) -> None:
    first = deposit(sessions)
    end(sessions, first.item, Status.FAILED)

    def again(session: Session) -> None:
        retry_item(session, first.item, operator="ann", pipelines=PIPELINES, clock=ManualClock())

    def corrected(session: Session) -> None:
        request = DepositRequest("/deposits/elsewhere", MEMBER, "a")
        submit(session, request, by="bob", node="north", pipelines=PIPELINES, clock=ManualClock())

    def alone(act: Callable[[Session], None]) -> None:
        with sessions.begin() as session:
            act(session)

    one, other = (again, corrected) if first_to_act == "retry" else (corrected, again)
    with ThreadPoolExecutor(1) as threads:
        with sessions.begin() as session:
            one(session)
            waiting = threads.submit(alone, other)
            with pytest.raises(StillWaiting):
                waiting.result(timeout=0.5)
        with pytest.raises((DepositRefused, NotAllowed), match="local id"):
            waiting.result(timeout=30)


def test_a_rights_bag_that_is_deposited_just_before_may_be_named(sessions: Sessions) -> None:
    rights = deposit(sessions, source="/deposits/r", local_id="r", bag_type="rights")
    done = deposit(sessions, rights=(rights.bag.upper(), uuid(2)))
    assert manifest_of(sessions, done.item).deposit.rights == sorted([rights.bag, uuid(2)])


def as_it_is(folder: Path, **tags: str) -> str:
    """A DPN bag in a tar, in a folder of its own, whose dpn-info.txt says these, by label with `_` for `-`."""
    info = dpn_info().decode()
    for label, value in tags.items():
        label = label.replace("_", "-")
        info = re.sub(rf"^{label}: .*$", f"{label}: {value}", info, flags=re.MULTILINE)
    folder.mkdir()
    return str(tar_bag(folder, bag_files(changes={"dpn-tags/dpn-info.txt": info.encode()})))


AS_IT_IS = {"as_is": True, "local_id": "inst.example/thing-7"}


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Version_Number": "2"}, "the first version of a family, and only that"),
        ({"First_Version_Object_ID": uuid(3)}, "the first version of a family, and only that"),
        ({"First_Version_Object_ID": uuid(3), "Version_Number": "0"}, "Version-Number|the first version"),
        ({"First_Version_Object_ID": uuid(1), "Version_Number": "2"}, f"that is bag {uuid(9)} in our registry"),
        ({"First_Version_Object_ID": UUID_1, "Version_Number": "2"}, "no version 4 UUID"),
        ({"DPN_Object_ID": UUID_1, "First_Version_Object_ID": UUID_1}, "no version 4 UUID"),
    ],
)
def test_a_bag_that_our_registry_would_refuse_is_refused_before_it_is_stored(
    sessions: Sessions, tmp_path: Path, tags: dict[str, str], said: str
) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(9, first_version_uuid=uuid(1), version=2)])
    with pytest.raises(DepositRefused, match=said):
        deposit(sessions, source=as_it_is(tmp_path / "bag", Local_ID="inst.example/thing-7", **tags), **AS_IT_IS)
    assert count(sessions, WorkItem) == 0


@ENDED
def test_a_bag_taken_as_it_is_that_came_to_nothing_is_deposited_from_elsewhere(
    sessions: Sessions, tmp_path: Path, ended: Status
) -> None:
    wrong, right = (as_it_is(tmp_path / name, Local_ID="inst.example/thing-7") for name in ("wrong", "right"))
    first = deposit(sessions, source=wrong, **AS_IT_IS)
    with pytest.raises(DepositRefused, match=rf"\(item {first.item}, pending\).*dpn item cancel {first.item}"):
        deposit(sessions, source=right, **AS_IT_IS)
    with sessions.begin() as session:
        item = session.get_one(WorkItem, first.item)
        item.stage, item.staging_volume, item.needs_attention = "store", "main", True
        token = item.lease_token
    end(sessions, first.item, ended)
    again = deposit(sessions, source=right, title="Right", **AS_IT_IS)
    assert (again.item, again.bag, again.repeated, again.status) == (first.item, first.bag, False, "pending")
    facts = manifest_of(sessions, again.item).deposit
    assert (facts.source, facts.title) == (right, "Right")
    with sessions() as session:
        item = session.get_one(WorkItem, first.item)
        assert (item.stage, item.staging_volume, item.needs_attention) == ("package", None, False)
        assert item.lease_token > token
        assert session.scalars(select(DispatchIntent.item_id)).all() == [first.item, first.item]
    assert deposit(sessions, source=right, title="Right", **AS_IT_IS).repeated
    assert count(sessions, WorkItem) == count(sessions, Deposit) == 1


def test_a_bag_taken_as_it_is_that_was_cancelled_when_it_was_staged_goes_all_the_way_from_elsewhere(
    tmp_path: Path,
) -> None:
    north = make_depositor(tmp_path / "north")
    wrong, right = (as_it_is(tmp_path / name, Local_ID="inst.example/thing-7") for name in ("wrong", "right"))
    item = north.submit(wrong, **AS_IT_IS)
    north.run_due()
    assert north.item(item).stage == "store"
    with north.sessions.begin() as session:
        cancel_item(session, item, reason="?", operator="ann", pipelines=NODES_PIPELINES, clock=north.clock)
    assert north.submit(right, **AS_IT_IS) == item
    Path(wrong).unlink()
    north.run_until_it_waits(item)
    north.peers_store("south", "west", "east")
    assert north.next_poll(item).status == Status.SUCCESS, north.item(item).note
    folder = north.settings.staging.volumes["main"] / "items"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@ENDED
def test_a_version_taken_as_it_is_that_came_to_nothing_gives_its_place_to_another_bag(
    sessions: Sessions, tmp_path: Path, ended: Status
) -> None:
    says = {"First_Version_Object_ID": uuid(1), "Version_Number": "2", "Local_ID": "inst.example/thing-7"}
    wrong = deposit(sessions, source=as_it_is(tmp_path / "wrong", **says), **AS_IT_IS)
    other = as_it_is(tmp_path / "right", **says, DPN_Object_ID=uuid(50))
    with pytest.raises(
        DepositRefused, match=rf"version 2 of {uuid(1)}, has been deposited: that is bag {wrong.bag}"
    ):
        deposit(sessions, source=other, **AS_IT_IS)
    end(sessions, wrong.item, ended)
    right = deposit(sessions, source=other, **AS_IT_IS)
    assert (right.bag, right.version, right.repeated) == (uuid(50), 2, False)
    with pytest.raises(NotAllowed, match="the same version of its family"):
        retry(sessions, wrong.item)


def test_a_dpn_bag_taken_as_it_is_keeps_its_uuid(sessions: Sessions, tmp_path: Path) -> None:
    tar = Path(__file__).parents[4] / "shared/data/dpn-bags/a9f7cbab-b531-4eb7-b532-770f592629ba.tar"
    if not tar.exists():
        pytest.skip("the real bags of ../shared/data are not here")
    with pytest.raises(DepositRefused, match="says that its local id is"):
        deposit(sessions, source=str(tar), as_is=True)
    local_id = "dpn_bag_of_the_test"
    with pytest.raises(DepositRefused) as refused:
        deposit(sessions, source=str(tar), as_is=True, local_id=local_id)
    its_own = str(refused.value).split("'")[1]
    assert deposit(sessions, source=str(tar), as_is=True, local_id=its_own).bag == tar.stem
