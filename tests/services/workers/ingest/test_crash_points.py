"""A worker that dies between any two steps of an ingest leaves a deposit that ends as if nothing had happened:
the same one bag, one digest, the same transfers, nothing staged, nothing reserved, nothing offered twice.

Steps are every call to the store, the staging volume, the outbound folder and packaging, and every commit.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select

import workers.ingest.package
import workers.ingest.record
from dpn.database import reading
from dpn.registry.catalogue import BAGS, DIGESTS, INGESTS
from models.work import AuditEvent
from tests.fixtures.mortality import OUTBOUND, Killed, Life, dies_once, mortal_commits, require_the_same_end
from tests.services.workers.ingest.depositing import PEERS, Depositor, make_depositor

STEPS = ((workers.ingest.package, "package", "package"), *OUTBOUND)

TOLD_ONCE = {
    ("identifier assignment", "success"): 1,
    ("ingestion", "success"): 1,
    ("replication", "requested"): 2,  # of each of the nodes that were asked
    ("replication", "success"): 2,  # our own copy, and that all exist
}
"""What the trail tells of a deposit, and how often: no more and no less, whenever a worker dies."""


def ingest(north: Depositor, source: Path, life: Life) -> dict[str, Any]:
    """The story of one deposit, its worker dying once on the way; returns all that is left in the end."""
    item = north.submit(source)
    dies_once(north, life, lambda: _to_the_end(north, item), STEPS)
    north.clean_up()
    north.take_away_offers()
    return _what_is_left(north, item, source)


def _to_the_end(north: Depositor, item: int) -> None:
    for _ in range(12):
        if north.item(item).completed_at is not None:
            return
        north.run_due()
        north.peers_store(*PEERS)
        north.clock.advance(301)
    raise AssertionError(f"it does not end: {north.item(item).note}")


def _what_is_left(north: Depositor, item: int, source: Path) -> dict[str, Any]:
    store = Path(north.settings.store.url.removeprefix("file://"))
    ended = north.item(item)
    with reading(north.sessions) as session:
        happened = Counter(session.execute(select(AuditEvent.event_type, AuditEvent.outcome)).tuples())
    return {
        "item": (ended.status, ended.stage, ended.needs_attention),
        "bags": len(north.records(BAGS)),
        "digests": len(north.records(DIGESTS)),
        "ingests": len(north.records(INGESTS)),
        "transfers": sorted(transfer.stored for transfer in north.transfers()),
        "planned": len(north.manifest(item).transfers),
        "told": {kind: count for kind, count in happened.items() if kind in TOLD_ONCE},
        "reservations": north.reservations(),
        "stored": len(list(store.rglob("*.tar"))),
        "staged": north.staged(),
        "quarantined": north.quarantined(),
        "offered": north.offered(),
        "left in outbound": [path for path in (north.volume.parent / "outbound").rglob("*") if path.is_file()],
        "source": sorted(path.name for path in source.rglob("*")),
    }


def test_a_worker_that_dies_at_any_moment_changes_nothing_about_the_end(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(bytes(range(256)) * 40)

    def story(number: int, life: Life) -> dict[str, Any]:
        north = make_depositor(tmp_path / f"north-{number}")
        left = ingest(north, source, life)
        north.sessions.kw["bind"].dispose()
        return left

    undisturbed = Life()
    expected = story(0, undisturbed)
    assert expected["item"] == ("success", "record", False)
    assert (expected["bags"], expected["digests"], expected["ingests"]) == (1, 1, 1)
    assert expected["told"] == TOLD_ONCE
    assert expected["transfers"] == [True, True]
    assert (expected["staged"], expected["offered"], expected["left in outbound"]) == ([], [], [])
    require_the_same_end(story, expected, undisturbed.moments)


def test_a_cleanup_that_dies_at_any_moment_tells_of_each_withdrawal_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(b"a")

    def story(number: int, life: Life) -> dict[str, Any]:
        north = make_depositor(tmp_path / f"north-{number}")
        item = north.submit(source)
        _to_the_end(north, item)
        assert len(north.offered()) == 3
        try:
            with mortal_commits(north.sessions, life, OUTBOUND):
                north.take_away_offers()
        except Killed:
            north.take_away_offers()
        with reading(north.sessions) as session:
            told = session.scalars(select(AuditEvent).where(AuditEvent.event_type == "deletion")).all()
        north.sessions.kw["bind"].dispose()
        outbound = north.settings.ingest.outbound["main"].folder
        return {
            "agents": [event.agent for event in told],
            "offered to": len({event.detail["offered_to"] for event in told}),
            "withdrawals": len({event.detail["withdrawal"] for event in told}),
            "left": [path for path in outbound.rglob("*") if not path.is_dir()],
        }

    undisturbed = Life()
    expected = story(0, undisturbed)
    assert expected["agents"] == ["dpn_cleanup of north"] * 3
    assert (expected["offered to"], expected["withdrawals"], expected["left"]) == (3, 3, [])
    require_the_same_end(story, expected, undisturbed.moments)
