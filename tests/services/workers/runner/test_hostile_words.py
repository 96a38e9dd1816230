"""What other nodes make us say cannot break a write, forge a line, or hang an item; nor can damaged manifests."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from dpn.audit.trail import EventType
from dpn.registry.rules.flags import CancelReason
from dpn.work.outcomes import Done, Fail, Outcome, Retry, Wait
from models.manifests import MANIFEST_VERSION
from models.work import Status
from tests.fixtures.scripted.bench import POLICY, Behaviour, Bench
from tests.services.workers.runner.test_outcomes import answers, raises
from workers.cancellations import TransferCancellation

HOSTILE = 'a\0b \x1b[2J \ud800 \u202e \r\n{"event": "forged"} ' + "x" * 10_000


def saving(note: str) -> Behaviour:
    def run(job: Any) -> Outcome:
        job.add_event(EventType.TRANSFER, "bag", "ok", path=note)
        job.save(note)
        return Wait(1, job.note)

    return run


@pytest.mark.parametrize(
    "behaviour",
    [
        answers(Wait(1, HOSTILE)),
        answers(Retry(HOSTILE)),
        answers(Done(HOSTILE)),
        answers(Fail(HOSTILE, TransferCancellation(CancelReason.BAG_INVALID, HOSTILE))),
        raises(RuntimeError(HOSTILE)),
        saving(HOSTILE),
    ],
    ids=["wait", "retry", "done", "fail", "raise", "save"],
)
def test_hostile_words_are_written_harmless(bench: Bench, behaviour: Behaviour) -> None:
    item = bench.make_item()
    after = bench.run(item, behaviour)
    assert after.status != Status.RUNNING
    assert "forged" in after.note, "the words are kept"
    assert all(character.isprintable() or character == "\n" for character in after.note)
    assert len(after.note) <= 4000
    for notice in bench.notices():
        assert notice.manifest["cancel_reason_detail"].startswith("a\N{REPLACEMENT CHARACTER}b")
        assert len(notice.manifest["cancel_reason_detail"]) <= 255


def test_an_outcome_that_the_database_refuses_is_a_failed_attempt_and_ends_in_the_end(bench: Bench) -> None:
    """A bug of a stage, or words that we did not foresee: the item must not run for ever."""

    def unwritable(job: Any) -> Outcome:
        job.staging_volume = "a"
        job.save("got that far")
        job.staging_volume = "v" * 10_000 + "\0"
        job.add_event(EventType.TRANSFER, "bag", object())  # type: ignore[arg-type]
        return Done("fine")

    item = bench.make_item()
    after = bench.run(item, unwritable)
    assert (after.stage, after.status, after.attempts) == ("copy", Status.PENDING, 1)
    assert "its outcome could not be written" in after.note
    assert after.staging_volume == "a", "what was saved stays"
    for _ in range(POLICY.attempts - 1):
        bench.clock.advance(600)
        after = bench.run(item, unwritable)
    assert after.status == Status.FAILED


DAMAGED: dict[str, Any] = {
    "too new": {"manifest_version": MANIFEST_VERSION + 1, "surprise": True},
    "unknown field": {"manifest_version": MANIFEST_VERSION, "surprise": True},
    "wrong type": {"manifest_version": MANIFEST_VERSION, "staged": "a path"},
    "no number": {"manifest_version": "abc"},
    "no version": {"manifest_version": None},
    "version of the past": {"manifest_version": -1},
    "a list": [],
    "a word": "manifest",
    "nothing": None,
}


@pytest.mark.parametrize("manifest", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_manifest_that_cannot_be_read_waits_for_an_operator_untouched(bench: Bench, manifest: Any) -> None:
    item = bench.make_item(manifest=manifest)
    stored = raw_manifest(bench, item)
    for _ in range(POLICY.attempts + 2):
        after = bench.run(item, raises(AssertionError("the stage must not run")))
        assert (after.status, after.attempts, after.needs_attention) == (Status.PENDING, 0, True)
        bench.clock.advance(600)
    assert raw_manifest(bench, item) == stored
    assert "manifest" in after.note
    assert bench.notices() == []


def raw_manifest(bench: Bench, item: int) -> str:
    with bench.sessions() as session:
        query = text("SELECT CAST(manifest AS TEXT) FROM work_items WHERE id = :id")
        return str(session.execute(query, {"id": item}).scalar_one())
