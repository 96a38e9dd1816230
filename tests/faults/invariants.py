"""What must hold once everything has come to rest, each broken promise a line: docs/architecture.md, I1 to I10."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
from sqlalchemy import select

from dpn.clock import SystemClock
from dpn.errors import DpnError
from dpn.staging.staging import Staging
from dpn.storage.store import MARKER
from dpn.storage.stores import open_store
from models.manifests import ReplicationManifest
from models.registry import ReplicationTransfer
from models.work import AuditEvent, DeadLetter, DiskReservation, DispatchIntent, Status, Task, WorkItem
from tests.faults.world import World
from tools.demo.copies import read_back
from tools.network.backends import StoreKind
from workers.pipelines import PIPELINES


def is_settled(world: World) -> bool:
    """Whether every transfer has become an item, all items have ended, and nothing waits to be announced."""
    items = world.items()
    transfers = [item for item in items if item.task == Task.REPLICATION]
    if len(transfers) < len(world.requests) or not all(Status(item.status).is_final for item in items):
        return False
    with world.south.sessions() as session:
        return session.scalars(select(DispatchIntent.id)).first() is None


def settle(world: World, patience_seconds: float) -> bool:
    """Waits for the end, then cleans up as housekeeping does a day later, and syncs once more."""
    settled = world.cluster.wait_until(lambda: is_settled(world), timeout_seconds=patience_seconds)
    if settled:
        # Who tells of a bag's end removes it right after: that may be under way.
        world.rest(1.0)
        staging = Staging(world.south.sessions, world.south.settings.staging, clock=SystemClock())
        staging.mount()
        staging.release_orphans()
        staging.sweep_orphans(PIPELINES.read_manifest, grace_seconds=0.0)
        store = open_store(world.south.settings.store, clock=SystemClock())
        store.probe()
        store.abort_abandoned_uploads(older_than=timedelta(0), keep=())
        world.south.run("sync")
    return settled


def unfinished(world: World) -> str:
    """What keeps it from being settled, a line each; pytest would cut a list short."""
    items = [item for item in world.items() if not Status(item.status).is_final]
    lines = [f"{item.id} {item.stage} {item.status}, due {item.run_after}: {item.note}" for item in items]
    with world.south.sessions() as session:
        lines += [
            f"{intent.item_id} is still to be announced" for intent in session.scalars(select(DispatchIntent))
        ]
    return "\n".join([f"{len(world.items())} items of {len(world.requests)} transfers", *lines])


def broken_promises(world: World) -> list[str]:
    """Everything that is not as it should be; empty if nothing is."""
    checks = (_items, _registries, _copies, _receipts, _events, _left_behind, _logs)
    return [problem for check in checks for problem in check(world)]


def _replications(world: World) -> dict[str, WorkItem]:
    return {item.identifier: item for item in world.items() if item.task == Task.REPLICATION}


def _stored(world: World) -> set[str]:
    """Transfers that must have been stored."""
    return {request.replication_id for request in world.requests} - world.cancelled


def _items(world: World) -> Iterator[str]:
    items = _replications(world)
    for request in world.requests:
        item = items.get(request.replication_id)
        wanted = Status.CANCELLED if request.replication_id in world.cancelled else Status.SUCCESS
        if item is None:
            yield f"transfer {request.replication_id} never became an item"
        elif item.status != wanted:
            yield f"item {item.id} is {item.status} at {item.stage}, not {wanted}: {item.note}"
        elif item.needs_attention:
            yield f"item {item.id} needs attention: {item.note}"
    for item in world.items():
        if item.task == Task.NOTICE and (item.status != Status.SUCCESS or item.identifier not in world.cancelled):
            yield f"notice {item.id} of {item.identifier}: {item.status}: {item.note}"
    with world.south.sessions() as session:
        for letter in session.scalars(select(DeadLetter)):
            yield f"dead letter on {letter.topic}: {letter.body!r}: {letter.reason}"


def _registries(world: World) -> Iterator[str]:
    for node in (world.north, world.south):
        with node.sessions() as session:
            transfers = {row.replication_id: row for row in session.scalars(select(ReplicationTransfer))}
        for request in world.requests:
            transfer = transfers.get(request.replication_id)
            wanted = (False, True) if request.replication_id in world.cancelled else (True, False)
            if transfer is None:
                yield f"{node.name}: no transfer {request.replication_id}"
            elif (transfer.stored, transfer.cancelled) != wanted:
                flags = f"stored={transfer.stored} cancelled={transfer.cancelled}"
                yield f"{node.name}: transfer {request.replication_id}: {flags}, not {wanted}"


def _copies(world: World) -> Iterator[str]:
    stored = [request for request in world.requests if request.replication_id in _stored(world)]
    for copy in read_back(world.cluster.nodes, stored, world.cluster.backends):
        if not copy.verified:
            yield f"copy of {copy.request.deposit.uuid}: {copy.bytes} bytes, {copy.sha256}, {copy.problem}"
    allowed = {f"{request.deposit.uuid}.tar" for request in world.requests}
    for key, count in Counter(_objects(world)).items():
        if key not in allowed or count != 1:
            yield f"the store holds {count} of {key}"


def _objects(world: World) -> list[str]:
    """The name of every object; in a folder of every file but those that describe one beside them."""
    if world.kinds.store is not StoreKind.S3:
        names = {str(path.relative_to(world.south.place.store)) for path in _files(world.south.place.store)}
        return sorted(name for name in names - {MARKER} if name.removesuffix(".json") not in names - {name})
    bucket, client = _s3(world)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return [key for key in keys if not key.endswith(MARKER)]


def _receipts(world: World) -> Iterator[str]:
    store = open_store(world.south.settings.store, clock=SystemClock())
    for identifier, item in _replications(world).items():
        manifest = ReplicationManifest.read(item.manifest)
        assert isinstance(manifest, ReplicationManifest)
        if identifier not in _stored(world):
            if manifest.receipt is not None:
                yield f"item {item.id} was cancelled and has a receipt"
            continue
        if manifest.receipt is None:
            yield f"item {item.id} has no receipt"
            continue
        try:
            store.confirm(manifest.receipt)
        except DpnError as error:
            yield f"item {item.id}: its receipt proves nothing: {error}"
        if not manifest.stored_acknowledged:
            yield f"item {item.id}: nothing shows that its owner knows"


def _events(world: World) -> Iterator[str]:
    with world.south.sessions() as session:
        events = list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))
    counts = Counter((event.object_id, event.event_type, event.outcome) for event in events)
    for request in world.requests:
        must = request.replication_id in _stored(world)
        copies = counts[request.deposit.uuid, "replication", "success"]
        if copies != must:
            yield f"bag {request.deposit.uuid}: {copies} replication events"
        told = counts[request.deposit.uuid, "peer informed", "success"]
        if told > 1 or told < must:
            yield f"bag {request.deposit.uuid}: {told} events tell that its owner was informed"
        if must and counts[request.replication_id, "stage ended", "done"] != 3:
            ended = counts[request.replication_id, "stage ended", "done"]
            yield f"transfer {request.replication_id}: {ended} stages ended well"
        if counts[request.replication_id, "stage ended", "fail"]:
            yield f"transfer {request.replication_id}: a stage failed"


def _left_behind(world: World) -> Iterator[str]:
    with world.south.sessions() as session:
        for reservation in session.scalars(select(DiskReservation)):
            yield f"item {reservation.item_id} still has {reservation.bytes} bytes reserved"
        for intent in session.scalars(select(DispatchIntent)):
            yield f"item {intent.item_id} is still to be announced on {intent.topic}"
    volume = world.south.place.volume
    for path in _files(volume):
        kept = path.relative_to(volume).parts
        if kept[0] != "quarantine" and kept != (".dpn-volume",):
            yield f"left in staging: {path.relative_to(volume)}"
    if world.kinds.store is StoreKind.S3:
        bucket, client = _s3(world)
        for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            yield f"an unfinished upload of {upload['Key']}"


def _logs(world: World) -> Iterator[str]:
    for node in (world.north, world.south):
        for log in sorted(node.place.logs.glob("*.json")):
            for number, line in enumerate(log.read_bytes().splitlines(), 1):
                try:
                    entry: Any = json.loads(line)
                except ValueError:
                    yield f"{node.name}/{log.name}:{number}: not JSON: {line[:200]!r}"
                    continue
                if entry.get("event") in FAULTS_OF_OURS:
                    yield f"{node.name}/{log.name}:{number}: {line[:3000].decode()}"


FAULTS_OF_OURS = (
    "a run broke off",
    "a request failed",
    "the outcome could not be written",
    "what follows an item's end failed",
)
"""What the software logs where it must have a fault itself (docs/operations.md)."""


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _s3(world: World) -> tuple[str, Any]:
    store = world.south.settings.store
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        aws_access_key_id=store.access_key_id,
        aws_secret_access_key=store.secret(),
        region_name=store.region,
    )
    return store.url.removeprefix("s3://"), client
