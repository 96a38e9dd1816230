"""A worker that dies between any two steps of an ingest leaves a deposit that ends as if nothing had happened:
the same one bag, one digest, the same transfers, nothing staged, nothing reserved, nothing offered twice.

Steps are every call to the store, the staging volume, the outbound folder and packaging, and every commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

import workers.ingest.package
import workers.ingest.record
from dpn.database import reading
from dpn.registry.catalogue import BAGS, DIGESTS, INGESTS
from models.work import AuditEvent, DiskReservation
from tests.fixtures.mortality import Killed, Life, Mortal, mortal, require_the_same_end
from tests.services.workers.ingest.depositing import LEASE_SECONDS, PEERS, Depositor, make_depositor
from workers.pipelines import PIPELINES

MANY_SECONDS = 1e9
"""The clock of these tests is years behind that of the disk: whatever lies there counts as old."""

TOLD_ONCE = {
    ("identifier assignment", "success"): 1,
    ("ingestion", "success"): 1,
    ("replication", "requested"): 2,  # of each of the nodes that were asked
    ("replication", "success"): 2,  # our own copy, and that all exist
}
"""What the trail tells of a deposit, and how often: no more and no less, whenever a worker dies."""


@contextmanager
def mortal_worker(north: Depositor, life: Life, patch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = (north.staging, north.store)
    package, outbound = workers.ingest.package.package, workers.ingest.record.Outbound

    def after_commit(_session: Any) -> None:
        life.moment("commit")

    event.listen(north.sessions, "after_commit", after_commit)
    patch.setattr(workers.ingest.package, "package", mortal(package, "package", life))
    patch.setattr(workers.ingest.record, "Outbound", lambda settings: Mortal(outbound(settings), "outbound", life))
    north.staging = Mortal(north.staging, "staging", life)  # type: ignore[assignment]
    north.store = Mortal(north.store, "store", life)  # type: ignore[assignment]
    try:
        yield
    finally:
        event.remove(north.sessions, "after_commit", after_commit)
        patch.setattr(workers.ingest.package, "package", package)
        patch.setattr(workers.ingest.record, "Outbound", outbound)
        north.staging, north.store = whole


def ingest(north: Depositor, source: Path, life: Life, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The story of one deposit, its worker dying once on the way; answers all that is left in the end."""
    item = north.submit(source)
    with mortal_worker(north, life, patch):
        for _ in range(2):
            try:
                _to_the_end(north, item)
                break
            except Killed:
                north.clock.advance(LEASE_SECONDS + 1)
    _to_the_end(north, item)
    north.staging.release_orphans()
    north.staging.sweep_orphans(PIPELINES.read_manifest, grace_seconds=-MANY_SECONDS)
    north.clean_up()
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
    volume = north.settings.staging.volumes["main"]
    store = Path(north.settings.store.url.removeprefix("file://"))
    ended = north.item(item)
    with reading(north.sessions) as session:
        happened = Counter(session.execute(select(AuditEvent.event_type, AuditEvent.outcome)).tuples())
        reservations = session.scalar(select(func.count()).select_from(DiskReservation))
    return {
        "item": (ended.status, ended.stage, ended.needs_attention),
        "bags": len(north.records(BAGS)),
        "digests": len(north.records(DIGESTS)),
        "ingests": len(north.records(INGESTS)),
        "transfers": sorted(transfer.stored for transfer in north.transfers()),
        "planned": len(north.manifest(item).transfers),
        "told": {kind: count for kind, count in happened.items() if kind in TOLD_ONCE},
        "reservations": reservations,
        "stored": len(list(store.rglob("*.tar"))),
        "staged": [path for path in (volume / "items").rglob("*") if path.is_file()],
        "quarantined": list((volume / "quarantine").rglob("*.tar")),
        "offered": north.offered(),
        "left in outbound": [path for path in (volume.parent / "outbound").rglob("*") if path.is_file()],
        "source": sorted(path.name for path in source.rglob("*")),
    }


def test_a_worker_that_dies_at_any_moment_changes_nothing_about_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(bytes(range(256)) * 40)

    def story(number: int, life: Life) -> dict[str, Any]:
        north = make_depositor(tmp_path / f"north-{number}")
        left = ingest(north, source, life, monkeypatch)
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
            with mortal_cleanup(north, life):
                north.clean_up()
        except Killed:
            north.clean_up()
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


@contextmanager
def mortal_cleanup(north: Depositor, life: Life) -> Iterator[None]:
    def after_commit(_session: Any) -> None:
        life.moment("commit")

    whole, north.outbound = north.outbound, Mortal(north.outbound, "outbound", life)  # type: ignore[assignment]
    event.listen(north.sessions, "after_commit", after_commit)
    try:
        yield
    finally:
        event.remove(north.sessions, "after_commit", after_commit)
        north.outbound = whole
