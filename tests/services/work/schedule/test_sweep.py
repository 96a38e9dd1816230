"""What was lost is found again: messages, intents, staged bytes; what is under way is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from dpn.broker import BrokerUnavailable
from dpn.work.outcomes import Done
from dpn.work.schedule import presence
from dpn.work.schedule.dispatch import BATCH, publish_intents
from dpn.work.schedule.presence import Presence
from dpn.work.schedule.sweep import (
    FIRST_PLACE,
    Abandoned,
    DuePlace,
    abandon_lost_volumes,
    announce_due_items,
    forget_dead_letters,
)
from dpn.work.transitions import announce
from models.manifests import MANIFEST_VERSION, Receipt, ReplicationManifest, StagedFile
from models.work import DeadLetter, DiskReservation, StagingVolume, Status, WorkItem
from tests.fixtures.scripted.bench import Bench
from workers.pipelines import PIPELINES

ABANDON_AFTER_SECONDS = 3600.0


def announce_due(bench: Bench, *crowded_queues: str) -> list[int]:
    def crowded(queue: str) -> bool:
        return queue in crowded_queues

    items: list[int] = []
    place: DuePlace | None = FIRST_PLACE
    while place is not None:
        with bench.sessions.begin() as session:
            announced = announce_due_items(
                session,
                after=place,
                pipelines=PIPELINES,
                clock=bench.clock,
                crowded=crowded,
            )
        items, place = items + announced.items, announced.last
    return sorted(items)


def abandon(bench: Bench) -> Abandoned:
    with bench.sessions.begin() as session:
        return abandon_lost_volumes(
            session,
            after_id=0,
            abandon_after_seconds=ABANDON_AFTER_SECONDS,
            pipelines=PIPELINES,
            worker="sweeper",
            clock=bench.clock,
        )


def test_what_was_lost_is_announced_again_and_what_is_under_way_is_not(bench: Bench) -> None:
    soon = bench.clock.now() + timedelta(seconds=60)
    lost = bench.make_item(1)
    on_volume = bench.make_item(2, stage="validate", staging_volume="a")
    expired = bench.make_item(3, status=Status.RUNNING, lease_expires_at=bench.clock.now() - timedelta(seconds=1))
    bench.make_item(4, run_after=soon)
    bench.make_item(5, status=Status.RUNNING, lease_expires_at=soon)
    bench.make_item(6, status=Status.SUCCESS)
    intended = bench.make_item(7)
    with bench.sessions.begin() as session:
        announce(session, intended, "dpn_copy_topic", bench.clock.now())
    assert announce_due(bench) == [lost, on_volume, expired]
    assert sorted(bench.intents(), key=lambda intent: intent[1]) == [
        ("dpn_copy_topic", lost),
        ("dpn_validation_topic.a", on_volume),
        ("dpn_copy_topic", expired),
        ("dpn_copy_topic", intended),
    ]
    assert announce_due(bench) == [], "those have an intent by now"


def test_an_item_of_newer_software_does_not_stop_the_sweep(bench: Bench) -> None:
    bench.make_item(1, stage="transmogrify")
    known = bench.make_item(2)
    assert announce_due(bench) == [known]


def test_a_topic_on_which_more_than_enough_waits_gets_no_more(bench: Bench) -> None:
    """A message that waits cannot be told from a lost one: a long backlog must not double with every run."""
    bench.make_item(1)
    other = bench.make_item(2, stage="validate", staging_volume="a")
    assert announce_due(bench, "dpn_copy_topic", "dpn_validation_topic") == [other]


def test_only_the_newest_dead_letters_are_kept(bench: Bench) -> None:
    with bench.sessions.begin() as session:
        for number in range(20):
            session.add(DeadLetter(topic="t", body=str(number), reason="garbage", received_at=bench.clock.now()))
    for forgotten in (15, 0):
        with bench.sessions.begin() as session:
            assert forget_dead_letters(session, keep=5) == forgotten
    with bench.sessions() as session:
        assert session.scalars(select(DeadLetter.body).order_by(DeadLetter.id)).all() == [
            "15",
            "16",
            "17",
            "18",
            "19",
        ]


def test_publishing_goes_on_where_it_broke_off(bench: Bench) -> None:
    items = [bench.make_item(number) for number in range(3)]
    with bench.sessions.begin() as session:
        for item in items:
            announce(session, item, f"topic_{item}", bench.clock.now())
    taken: list[tuple[str, int]] = []

    class BreaksOff:
        def publish(self, topic: str, *item_ids: int) -> None:
            if len(taken) == 2:
                raise BrokerUnavailable("nsqd died")
            taken.extend((topic, item_id) for item_id in item_ids)

    with pytest.raises(BrokerUnavailable):
        publish_intents(bench.sessions, BreaksOff())  # type: ignore[arg-type]
    assert bench.intents() == [(f"topic_{items[2]}", items[2])]
    assert publish_intents(bench.sessions, bench.broker) == 1
    assert bench.intents() == []


def test_nothing_is_forgotten_if_no_message_could_be_published(bench: Bench) -> None:
    item = bench.make_item()
    with bench.sessions.begin() as session:
        announce(session, item, "dpn_copy_topic", bench.clock.now())
    bench.queues.down = True
    with pytest.raises(BrokerUnavailable):
        publish_intents(bench.sessions, bench.broker)
    assert bench.intents() == [("dpn_copy_topic", item)]


def test_more_intents_than_a_batch_are_all_published(bench: Bench) -> None:
    items = [bench.make_item(number) for number in range(3)]
    with bench.sessions.begin() as session:
        for _ in range(BATCH):
            for item in items:
                announce(session, item, "dpn_copy_topic", bench.clock.now())
    assert publish_intents(bench.sessions, bench.broker) == 3 * BATCH
    assert len(bench.queues.waiting()) == 3 * BATCH


# -- staging volumes ---------------------------------------------------------------------------------------------


def worker_of(volume: str) -> Presence:
    return Presence(f"host/{volume}/1", "host", 1, ("validate",), (volume,))


def mount(bench: Bench, volume: str) -> None:
    with bench.sessions.begin() as session:
        presence.register(session, worker_of(volume), clock=bench.clock)


def beat(bench: Bench, volume: str) -> None:
    with bench.sessions.begin() as session:
        presence.beat(session, worker_of(volume), state="running", running=0, clock=bench.clock)


def staged_on(bench: Bench, volume: str, number: int = 1, **values: Any) -> int:
    """An item whose bag lies on the volume, with room reserved for it."""
    staged = StagedFile(volume=volume, path="items/1/1/bag.tar", size=1, tag_manifest_sha256="0" * 64)
    manifest = ReplicationManifest(staged=staged, fixity_sent="1" * 64).model_dump(mode="json")
    row = {"stage": "validate", "staging_volume": volume, "manifest": manifest, "attempts": 2, **values}
    item = bench.make_item(number, **row)
    with bench.sessions.begin() as session:
        session.add(DiskReservation(item_id=item, volume=volume, bytes=1, created_at=bench.clock.now()))
    return item


def reservations(bench: Bench) -> int:
    with bench.sessions() as session:
        return session.scalar(select(func.count()).select_from(DiskReservation)) or 0


def test_items_on_a_volume_that_no_live_worker_mounts_go_back_to_the_stage_that_stages_them(bench: Bench) -> None:
    mount(bench, "a")
    item = staged_on(bench, "a")
    token = bench.item(item).lease_token
    bench.clock.advance(ABANDON_AFTER_SECONDS)
    assert abandon(bench).items == []
    bench.clock.advance(1)
    assert abandon(bench).items == [item]
    back = bench.item(item)
    assert (back.stage, back.status, back.attempts, back.staging_volume) == ("copy", Status.PENDING, 0, None)
    assert back.lease_token > token
    assert back.manifest["staged"] is None
    assert back.manifest["fixity_sent"] == "1" * 64, "what its owner knows it knows"
    assert reservations(bench) == 0
    assert bench.intents() == [("dpn_copy_topic", item)]
    assert bench.due_in(item) <= 0
    assert [event.event_type for event in bench.events(item)] == ["staged copy lost"]


def test_a_volume_is_not_given_up_as_long_as_any_worker_says_it_mounts_it(bench: Bench) -> None:
    mount(bench, "a")
    item = staged_on(bench, "a")
    for _ in range(10):
        bench.clock.advance(ABANDON_AFTER_SECONDS - 1)
        beat(bench, "a")
        assert abandon(bench) == Abandoned([], [], None)
    assert bench.item(item).stage == "validate"


def test_what_is_held_or_over_stays(bench: Bench) -> None:
    mount(bench, "a")
    end = bench.clock.now() + timedelta(days=1)
    staged_on(bench, "a", 1, status=Status.RUNNING, lease_expires_at=end)
    staged_on(bench, "a", 2, status=Status.FAILED)
    expired = staged_on(bench, "a", 3, status=Status.RUNNING, lease_expires_at=bench.clock.now())
    bench.clock.advance(ABANDON_AFTER_SECONDS + 1)
    assert abandon(bench).items == [expired]
    assert reservations(bench) == 2


def test_a_late_holder_on_a_lost_volume_changes_nothing_when_it_comes_back(bench: Bench) -> None:
    mount(bench, "a")
    late = bench.claim(staged_on(bench, "a"))
    bench.clock.advance(ABANDON_AFTER_SECONDS + 100)
    abandon(bench)
    after = bench.run(late.item_id, lambda _: Done("valid"), claim=late)
    assert (after.stage, after.status) == ("copy", Status.PENDING)
    assert [event.event_type for event in bench.events(late.item_id)] == ["staged copy lost"]


@pytest.mark.parametrize("manifest", [{"manifest_version": MANIFEST_VERSION + 1}, {"manifest_version": "x"}, []])
def test_an_unreadable_manifest_keeps_its_own_item_only(bench: Bench, manifest: Any) -> None:
    mount(bench, "a")
    unreadable, readable = staged_on(bench, "a", 1, manifest=manifest), staged_on(bench, "a", 2)
    bench.clock.advance(ABANDON_AFTER_SECONDS + 1)
    assert abandon(bench) == Abandoned([readable], [unreadable], readable)
    left = bench.item(unreadable)
    assert (left.stage, left.staging_volume, left.needs_attention) == ("validate", "a", True)
    assert left.manifest == manifest
    assert reservations(bench) == 1


def test_a_worker_that_comes_again_under_the_same_name_says_what_it_mounts_now(bench: Bench) -> None:
    """In a container every worker may be pid 1 of the same host."""
    with bench.sessions.begin() as session:
        presence.register(session, Presence("host/all/1", "host", 1, ("copy",), ("a",)), clock=bench.clock)
        presence.leave(session, Presence("host/all/1", "host", 1, ("copy",), ("a",)), clock=bench.clock)
    bench.clock.advance(10)
    with bench.sessions.begin() as session:
        presence.register(session, Presence("host/all/1", "host", 1, ("store",), ("b",)), clock=bench.clock)
    with bench.sessions() as session:
        (live,) = presence.live_workers(session, within_seconds=5, clock=bench.clock)
        assert (live.stages, live.volumes, live.state) == (["store"], ["b"], "running")
        assert live.started_at == bench.clock.now()
        assert session.get_one(StagingVolume, "b").seen_at == bench.clock.now()
        assert session.get_one(StagingVolume, "a").seen_at < bench.clock.now()
        assert session.scalar(select(func.count()).select_from(WorkItem)) == 0


def test_an_item_that_is_stored_already_leaves_a_lost_volume_and_copies_nothing_again(bench: Bench) -> None:
    """Its owner was away when it was to hear of the copy, and then the host was gone for good."""
    mount(bench, "a")
    item = staged_on(bench, "a", stage="store")
    receipt = Receipt(
        store="main",
        url="file:///store/bag.tar",
        key="bag.tar",
        size=1,
        sha256="0" * 64,
        part_size=1,
        part_sha256=["0" * 64],
        confirmed_at=bench.clock.now(),
        confirmed_by="read-back",
    )
    with bench.sessions.begin() as session:
        row = session.get_one(WorkItem, item)
        row.manifest = {**row.manifest, "receipt": receipt.model_dump(mode="json")}
    bench.clock.advance(ABANDON_AFTER_SECONDS + 1)
    assert abandon(bench).items == [item]
    freed = bench.item(item)
    assert (freed.stage, freed.status, freed.staging_volume) == ("store", Status.PENDING, None)
    assert freed.manifest["receipt"] is not None
    assert bench.intents() == [("dpn_replication_store_topic", item)]
    assert reservations(bench) == 0
