"""A pipeline that lies in a folder of its own goes through every end and through cleanup, and the core, which has
never heard of it, forgets nothing of what it owes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from sqlalchemy import select, update

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import insert_missing, reading
from dpn.errors import PermanentError
from dpn.settings import Settings
from dpn.storage.folder.store import FolderStore
from dpn.work.items import NotAllowed, cancel_item, new_item, retry_item
from dpn.work.outcomes import Done, Fail, Retry, StartOver, Stopped
from dpn.work.reconciliation import close
from models.manifests import UploadState
from models.work import Status, WorkItem
from tests.fixtures.scripted.bench import POLICY, Behaviour, Bench
from tests.fixtures.toy import REPLY, SEAL, SEND, TOY, TOYS, Regrets, ToyManifest, replies
from workers.runner.housekeeping import Housekeeping
from workers.stage import Job

NAME = "toy-1"


@pytest.fixture
def toys(bench: Bench) -> Bench:
    bench.pipelines = TOYS
    return bench


def make(toys: Bench, manifest: dict[str, Any] | None = None) -> int:
    row = new_item(
        task="toy",
        identifier=NAME,
        remote_node="west",
        note="asked for",
        manifest=manifest or ToyManifest().model_dump(mode="json"),
        pipelines=TOYS,
        clock=toys.clock,
    )
    with toys.sessions.begin() as session:
        assert insert_missing(session, WorkItem, [row]) == 1
        return session.scalars(select(WorkItem.id).where(WorkItem.task == "toy")).one()


def owed(toys: Bench) -> list[str]:
    with reading(toys.sessions) as session:
        return replies(session, NAME)


def until_it_ends(toys: Bench, item: int, behaviour: Behaviour) -> WorkItem:
    for _ in range(20):
        found = toys.run(item, behaviour)
        if Status(found.status).is_final:
            return found
        assert owed(toys) == [], "nothing is owed before the end"
        toys.clock.advance(max(0.0, toys.due_in(item)) + 1)
    raise AssertionError("it does not end")


def raising(error: Exception) -> Behaviour:
    def behave(_: Job[Any]) -> Done:
        raise error

    return behave


@pytest.mark.parametrize(
    ("behaviour", "status", "text"),
    [
        (lambda _: Done("well"), Status.SUCCESS, "success"),
        (lambda _: Done("well", ends_item=True), Status.SUCCESS, "success"),
        (lambda _: Fail("no"), Status.FAILED, "failed"),
        (lambda _: Fail("no", Regrets("we are sorry")), Status.FAILED, "we are sorry"),
        (lambda _: Stopped("not wanted", Regrets("as you wish")), Status.CANCELLED, "as you wish"),
        (lambda _: Retry("not now"), Status.FAILED, "given up"),
        (lambda _: StartOver("send", "gone"), Status.FAILED, "given up"),
        (raising(PermanentError("no attempt would cure that")), Status.FAILED, "given up"),
        (raising(ZeroDivisionError("a bug")), Status.FAILED, "given up"),
    ],
    ids=["done", "done early", "fails", "fails and says", "stopped", "retries", "starts over", "permanent", "bug"],
)  # fmt: skip
def test_whoever_asked_hears_of_every_end_that_a_stage_brings(
    toys: Bench, behaviour: Behaviour, status: Status, text: str
) -> None:
    ended = until_it_ends(toys, make(toys), behaviour)
    assert (ended.status, owed(toys)) == (status, [text])


def test_nobody_hears_of_workers_that_died_of_it(toys: Bench) -> None:
    item = make(toys)
    for _ in range(POLICY.attempts):
        toys.claim(item)
        toys.clock.advance(3600)
    waiting = toys.run(item, raising(AssertionError("no stage runs for now")))
    assert (waiting.status, waiting.needs_attention, owed(toys)) == (Status.PENDING, True, [])


@pytest.mark.parametrize("held", [False, True], ids=["waiting", "held by a worker"])
def test_whoever_asked_hears_that_an_operator_ended_it(toys: Bench, held: bool) -> None:
    item = make(toys)
    claim = toys.claim(item) if held else None
    with toys.sessions.begin() as session:
        cancel_item(session, item, reason="no", operator="ann", pipelines=TOYS, clock=toys.clock)
    assert owed(toys) == ["operator"]
    if claim is not None:
        toys.runner("send", lambda _: Fail("late", Regrets("twice"))).run(claim, Cancellation())
        assert owed(toys) == ["operator"], "a worker that lost its lease owes nothing"


def test_whoever_asked_hears_that_it_ended_elsewhere(toys: Bench) -> None:
    item = make(toys)
    with toys.sessions.begin() as session:
        close(session, session.get_one(WorkItem, item), Stopped("it is over"), TOYS, toys.clock)
    assert (toys.item(item).status, owed(toys)) == (Status.CANCELLED, ["elsewhere"])


def test_an_unreadable_manifest_waits_for_a_person_and_its_end_is_told_all_the_same(toys: Bench) -> None:
    item = make(toys, {"manifest_version": "none", "upload": 3})
    found = toys.run(item, raising(AssertionError("it cannot run")))
    assert (found.status, found.needs_attention, owed(toys)) == (Status.PENDING, True, [])
    with toys.sessions.begin() as session:
        cancel_item(session, item, reason="damaged", operator="ann", pipelines=TOYS, clock=toys.clock)
    assert owed(toys) == ["operator"]


def test_what_is_tried_again_takes_back_what_nobody_has_heard(toys: Bench) -> None:
    item = until_it_ends(toys, make(toys), lambda _: Fail("no")).id
    with toys.sessions.begin() as session:
        retry_item(session, item, operator="ann", pipelines=TOYS, clock=toys.clock)
    assert owed(toys) == []
    assert (until_it_ends(toys, item, lambda _: Done("well")).status, owed(toys)) == (Status.SUCCESS, ["success"])
    with toys.sessions.begin() as session, pytest.raises(NotAllowed):
        retry_item(session, item, operator="ann", pipelines=TOYS, clock=toys.clock)


def test_its_uploads_are_its_own_as_long_as_it_is_open(toys: Bench, tmp_path: Any) -> None:
    upload = UploadState(upload_id="u-1", key="k", part_size=5, started_at=datetime(2024, 1, 1, tzinfo=UTC))
    item = make(toys, ToyManifest(upload=upload).model_dump(mode="json"))
    assert owned(toys, tmp_path) == {"u-1"}
    with toys.sessions.begin() as session:
        damaged = {"upload": {"upload_id": "u-2"}, "restarts": "damaged"}
        session.execute(update(WorkItem).values(status=Status.RUNNING, manifest=damaged))
    assert owned(toys, tmp_path) == {"u-2"}, "a manifest that is damaged elsewhere still says what it owns"
    with toys.sessions.begin() as session:
        session.execute(update(WorkItem).values(stage=SEAL.name))
    assert owned(toys, tmp_path) == set(), "only a stage that uploads owns uploads"
    with toys.sessions.begin() as session:
        session.execute(update(WorkItem).values(stage=SEND.name))
        cancel_item(session, item, reason="no", operator="ann", pipelines=TOYS, clock=toys.clock)
    assert owned(toys, tmp_path) == set()


def owned(toys: Bench, folder: Any) -> set[str]:
    """What the store's janitor is told to leave alone."""
    kept: list[set[str]] = []

    class Watched(FolderStore):
        def abort_abandoned_uploads(self, *, older_than: Any, keep: Any) -> int:
            kept.append(set(keep))
            return 0

    settings = Settings.model_validate(
        {
            "node": {"namespace": "north", "api_root": "https://north.example.org"},
            "database": {"url": "sqlite:///unused"},
            "staging": {"volumes": {"main": str(folder)}},
            "store": {"url": folder.as_uri()},
        }
    )
    keeping = Housekeeping(
        settings=settings,
        sessions=toys.sessions,
        broker=toys.broker,
        staging=None,
        store=Watched.__new__(Watched),
        pipelines=TOYS,
        worker_id="w",
        witness=None,  # type: ignore[arg-type]
        clock=ManualClock(),
        log=structlog.stdlib.get_logger(),
    )
    next(chore for chore in keeping.chores() if "uploads" in chore.name).run()
    return kept[0]


def test_the_toy_is_known_to_nobody_but_itself() -> None:
    assert [pipeline.task for pipeline in (TOY, REPLY)] == ["toy", "toy-reply"]
    from workers.pipelines import PIPELINES

    assert not {"toy", "toy-reply"} & set(PIPELINES.tasks)
