"""Room promised to items: no volume is promised more than it has, also when many workers ask at once.

What counts is what is promised and not yet on the disk, for what is on the disk is missing from the free space
already. The rows survive restarts and end with their item.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from sqlalchemy import CursorResult, delete, exists, select, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.errors import Misconfigured, NoSpace
from dpn.staging.volumes import Volume
from models.work import DiskReservation, StagingVolume, Status, WorkItem

FINAL = tuple(status.value for status in Status if status.is_final)


def reserve(
    session: Session,
    volume: Volume,
    item_id: int,
    size_bytes: int,
    *,
    floor_bytes: int,
    peer_share: float,
    clock: Clock,
) -> None:
    """Promises the item `size_bytes` on the volume, in place of what it was promised before.

    Holds the volume's row until the session commits, so that of two that ask at once the second sees the first.
    Raises NoSpace, with numbers, if they do not fit, or if all items of the same other node would have more than
    `peer_share` of what can be staged there.
    """
    _lock(session, volume)
    others = promised(session, (volume.name,))[volume.name]
    own_bytes = others.pop(item_id, 0)
    # What lies there is measured before what is free: a bag that grows in between counts twice, never not at all.
    there = held(volume, (item_id, *others))
    free_bytes = volume.free_bytes() - floor_bytes
    room_bytes = free_bytes - to_come(others, there)
    # Less than none if it left more there than it needs: what it will remove is room, too.
    needed_bytes = size_bytes - there[item_id]
    if needed_bytes > room_bytes:
        raise NoSpace(
            f"staging volume {volume.name} ({volume.path}): item {item_id} needs {max(0, needed_bytes)} more "
            f"bytes, {max(0, room_bytes)} are neither promised to others nor kept free (staging.floor_bytes is "
            f"{floor_bytes}): free space on it, enlarge it or add a volume"
        )
    peer = session.scalar(select(WorkItem.remote_node).where(WorkItem.id == item_id))
    if peer is not None and size_bytes > own_bytes:
        of_peer = select(WorkItem.id).where(WorkItem.id.in_(others), WorkItem.remote_node == peer)
        peer_bytes = sum(max(others[other], there[other]) for other in session.scalars(of_peer))
        most_bytes = int(peer_share * (free_bytes + sum(there.values())))
        if peer_bytes + size_bytes > most_bytes:
            raise NoSpace(
                f"staging volume {volume.name} ({volume.path}): item {item_id} needs {size_bytes} bytes, and "
                f"what is {peer}'s may take {most_bytes} there, {peer_bytes} of which are promised: it waits for "
                f"those; for larger bags raise staging.peer_share ({peer_share:g}), enlarge the volume or add one"
            )
    session.merge(DiskReservation(item_id=item_id, volume=volume.name, bytes=size_bytes, created_at=clock.now()))
    session.flush()


def lower(session: Session, item_id: int, size_bytes: int) -> None:
    """The item needs no more than `size_bytes` from now on; nothing happens if it was promised no more."""
    session.execute(
        update(DiskReservation)
        .where(DiskReservation.item_id == item_id, DiskReservation.bytes > size_bytes)
        .values(bytes=size_bytes)
    )


def release(session: Session, item_id: int) -> None:
    """Takes the item's promise back; nothing happens if it has none."""
    session.execute(delete(DiskReservation).where(DiskReservation.item_id == item_id))


def release_orphans(session: Session) -> int:
    """Takes back what was promised to items that are over or gone; returns how many there were."""
    lives = exists().where(WorkItem.id == DiskReservation.item_id, WorkItem.status.not_in(FINAL))
    result = session.execute(delete(DiskReservation).where(~lives))
    return cast("CursorResult[Any]", result).rowcount


def promised(session: Session, volumes: Collection[str]) -> dict[str, dict[int, int]]:
    """For each of the volumes: item id → bytes promised to it."""
    found: dict[str, dict[int, int]] = {name: {} for name in volumes}
    rows = session.execute(
        select(DiskReservation.volume, DiskReservation.item_id, DiskReservation.bytes).where(
            DiskReservation.volume.in_(volumes)
        )
    )
    for row in rows:
        found[row.volume][row.item_id] = row.bytes
    return found


def held(volume: Volume, item_ids: Iterable[int]) -> dict[int, int]:
    """For each of the items: item id → bytes that lie on the volume."""
    return {item_id: volume.held_bytes(item_id) for item_id in item_ids}


def to_come(promised_bytes: Mapping[int, int], held_bytes: Mapping[int, int]) -> int:
    """Bytes that are promised and not on the disk yet."""
    return sum(max(0, size - held_bytes[item_id]) for item_id, size in promised_bytes.items())


def _lock(session: Session, volume: Volume) -> None:
    result = session.execute(
        update(StagingVolume)
        .where(StagingVolume.name == volume.name)
        .values(reservations_made=StagingVolume.reservations_made + 1)
    )
    if cast("CursorResult[Any]", result).rowcount != 1:
        raise Misconfigured(f"staging volume {volume.name} is not in the database: start the worker anew")
