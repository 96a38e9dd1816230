"""The staging volumes of this machine, and what the node's database knows of them, behind one object."""

from __future__ import annotations

import logging
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import Sessions, insert_missing, reading
from dpn.errors import DpnError, LeaseLost, Misconfigured, NoSpace
from dpn.files import DISK_FULL, sync_folder
from dpn.staging import disk_use, folders, orphans, quarantine, reservations
from dpn.staging.folders import StagingFolder
from dpn.staging.orphans import StagedEvidence
from dpn.staging.quarantine import Pruned
from dpn.staging.reservations import FINAL
from dpn.staging.settings import StagingSettings
from dpn.staging.volumes import Volume, VolumeUnusable
from models.manifests import StagedFile
from models.work import StagingVolume, Status, WorkItem

BATCH_ITEMS = 500
"""How many items one query asks about."""

_log = logging.getLogger(__name__)

ORPHAN_GRACE_SECONDS = 86_400.0
"""How long a folder that no item needs is left alone after it was last changed."""


@dataclass(frozen=True, slots=True)
class VolumeHealth:
    """What an operator wants to know of a volume. `problem` is why it cannot be used; then all else is zero."""

    name: str
    path: Path
    total_bytes: int = 0
    free_bytes: int = 0
    reserved_bytes: int = 0
    to_come_bytes: int = 0
    """Of the reserved bytes, those that are not on the disk yet."""
    room_bytes: int = 0
    """What may still be reserved."""
    reservations: int = 0
    problem: str | None = None


class Staging:
    """The volumes that this machine mounts.

    Every method raises Misconfigured for a volume that is not in the settings or whose disk is not mounted, and
    OSError if the disk fails. A volume whose disk takes no files keeps no other from being used.
    """

    def __init__(self, sessions: Sessions, settings: StagingSettings, *, clock: Clock) -> None:
        self._sessions = sessions
        self._settings = settings
        self._clock = clock
        self._volumes = {name: Volume(name, path) for name, path in sorted(settings.volumes.items())}
        self._not_set_up = set[str]()
        """New volumes that took no files when this process started: nothing of ours is there, nor a marker."""

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names of the volumes that this machine mounts."""
        return tuple(self._volumes)

    def mount(self) -> None:
        """Once at start, before the worker registers: checks the volumes and makes new ones known.

        A disk that takes no files, or fails, is told in the log and stops nothing: what it has staged may still be
        read, and other volumes are used. Raises Misconfigured for what the settings have wrong: no such folder,
        another disk or another machine's volume in its place.
        """
        known = self._known_to_the_database()
        for volume in self._volumes.values():
            try:
                volume.set_up(known=volume.name in known)
            except (VolumeUnusable, OSError) as error:
                _log.error("staging volume %s takes nothing until its disk is repaired: %s", volume.name, error)
                if volume.name not in known:
                    self._not_set_up.add(volume.name)
        self._make_known(name for name in self._volumes if name not in self._not_set_up)

    def _known_to_the_database(self) -> set[str]:
        with reading(self._sessions) as session:
            names = select(StagingVolume.name).where(StagingVolume.name.in_(self._volumes))
            return set(session.scalars(names))

    def _make_known(self, names: Iterable[str]) -> None:
        now = self._clock.in_database()
        rows = [{"name": name, "reservations_made": 0, "seen_at": now} for name in names]
        with self._sessions.begin() as session:
            insert_missing(session, StagingVolume, rows)

    def _set_up_late(self, volume: Volume) -> None:
        """A new volume that took no files at first, as soon as it does. Raises as `Volume.set_up` does."""
        if volume.name in self._not_set_up:
            volume.set_up(known=volume.name in self._known_to_the_database())
            self._make_known([volume.name])
            self._not_set_up.discard(volume.name)

    @property
    def _set_up(self) -> list[str]:
        """Where something of ours may lie."""
        return [name for name in self._volumes if name not in self._not_set_up]

    # -- room --------------------------------------------------------------------------------------------------

    def choose_volume(
        self, size_bytes: int, *, item_id: int | None = None, refused_on: Collection[str] = ()
    ) -> str:
        """The volume with most room, for the item's sake without what it was promised itself, and none of those
        `refused_on`. Raises NoSpace, with numbers, if none has `size_bytes`."""
        health = self._healths(without=item_id)
        usable = [volume for volume in health if volume.problem is None]
        if not usable:
            raise Misconfigured("; ".join(volume.problem or "" for volume in health))
        left = (volume for volume in usable if volume.name not in refused_on)
        best = max(left, key=lambda volume: volume.room_bytes, default=None)
        if best is None or best.room_bytes < size_bytes:
            rooms = ", ".join(f"{volume.name} has room for {max(0, volume.room_bytes)}" for volume in usable)
            raise NoSpace(
                f"no staging volume has room for {size_bytes} bytes: {rooms} (free, less what is promised and "
                f"staging.floor_bytes = {self._settings.floor_bytes}): free space or add a volume"
            )
        return best.name

    def reserve(self, item_id: int, volume: str, size_bytes: int) -> None:
        """Promises the item room on the volume, in place of any promise it had; at most one caller at a time gets
        the last bytes. Raises NoSpace, with numbers, if they are not there, or beyond the item's node's share."""
        place = self._mounted(volume)
        with self._sessions.begin() as session:
            reservations.reserve(
                session,
                place,
                item_id,
                size_bytes,
                floor_bytes=self._settings.floor_bytes,
                peer_share=self._settings.peer_share,
                clock=self._clock,
            )

    def reserve_room(
        self, item_id: int, size_bytes: int, *, token: int, begun_on: str | None, large_tree: str | None = None
    ) -> str:
        """Promises the item, for its holder `token`, room on the volume that an earlier run began on, else on the
        one with most room; returns which.

        What the item left there counts for it, or is removed: it never waits for its own bytes to go.
        `large_tree` names a folder within its staging folder that is counted now, see `note_tree`. Raises NoSpace,
        with numbers, and as `folder`.
        """
        refusals: dict[str, NoSpace] = {}
        for begun in self._left_on(item_id) if begun_on is None else (begun_on,):
            place = self._known(begun) if begun_on is None else self._mounted(begun)
            if self._problem(place) is not None:
                continue  # begun anew on another volume; the sweep removes what is left on this one
            if folders.is_begun(place, item_id):
                with self.folder(begun, item_id, token) as folder:
                    if large_tree is not None:
                        disk_use.note_tree(folder.path, large_tree)
            try:
                self.reserve(item_id, begun, size_bytes)
            except NoSpace as refused:
                refusals[begun] = refused
            else:
                return begun
        while True:
            try:
                volume = self.choose_volume(size_bytes, item_id=item_id, refused_on=refusals)
            except NoSpace as full:
                raise next(reversed(refusals.values()), full) from None
            try:
                self.reserve(item_id, volume, size_bytes)
            except NoSpace as refused:
                refusals[volume] = refused
            else:
                return volume

    def note_tree(self, folder: StagingFolder, tree: str) -> None:
        """Counts a folder within that may hold very many files. Afterwards what is in it counts as that much, at
        once, whoever asks; until then, and without this, all files are looked at at each reservation."""
        disk_use.note_tree(folder.path, tree)

    def lower(self, item_id: int, size_bytes: int) -> None:
        """The item needs no more than `size_bytes` from now on, all in all: the rest of its promise goes."""
        with self._sessions.begin() as session:
            reservations.lower(session, item_id, size_bytes)

    def keep_what_came(self, item_id: int, volume: str) -> None:
        """The item waits for whom its bytes come from: of its promise only what lies there already is left, until
        it reserves anew."""
        self.lower(item_id, self._known(volume).held_bytes(item_id))

    def release(self, item_id: int, session: Session | None = None) -> None:
        """Takes the item's promise back, in the caller's transaction if it has one."""
        if session is not None:
            reservations.release(session, item_id)
            return
        with self._sessions.begin() as own:
            reservations.release(own, item_id)

    def release_orphans(self) -> int:
        """Takes back what was promised to items that are over or gone; returns how many there were."""
        with self._sessions.begin() as session:
            return reservations.release_orphans(session)

    def health(self) -> list[VolumeHealth]:
        """Each volume as it stands; never raises for a volume that cannot be used."""
        return self._healths()

    # -- staged files ------------------------------------------------------------------------------------------

    @contextmanager
    def folder(self, volume: str, item_id: int, token: int) -> Iterator[StagingFolder]:
        """The folder of the item's holder `token`, which nobody else writes to; see `StagingFolder`.

        Raises LeaseLost if a later holder is there already, LocalTrouble if this lease's own rsync still is.
        """
        with folders.hold_folder(
            self._mounted(volume),
            item_id,
            token,
            whose=self._whose(item_id),
            require_held=partial(self._require_held, item_id, token),
        ) as folder:
            yield folder

    def relative(self, volume: str, path: Path) -> str:
        """How a manifest names the staged bag at `path`. Raises ValueError if it is none."""
        return self._known(volume).relative(path)

    def path_of(self, staged: StagedFile) -> Path:
        """Where the staged bag lies. Raises ValueError if the manifest names anything else."""
        return self._mounted(staged.volume).staged_path(staged.path)

    def holds(self, staged: StagedFile) -> bool:
        """Whether the staged bag is there, with the size that it had; if so, its name survives a power cut."""
        path = self.path_of(staged)
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != staged.size:
            return False
        for folder in path.parents[:3]:  # whoever staged it may have died, or failed, before it did this
            sync_folder(folder)
        return True

    def leave(self, item_id: int, token: int, kept: StagedEvidence | None = None) -> str | None:
        """Removes what is staged of an item that its holder `token` has ended, on every volume here; a whole bag
        to be kept goes to quarantine first: returns where to. Safe to repeat.

        Once the item was taken up again nothing is touched: it cannot be meanwhile.
        """
        where = None
        with self._sessions.begin() as session:
            ended = WorkItem.id == item_id, WorkItem.lease_token == token, WorkItem.status.in_(FINAL)
            if session.scalar(select(WorkItem.id).where(*ended).with_for_update()) is None:
                return None
            if kept is not None and self.holds(kept.staged):
                where = self.quarantine(kept.staged, item_id, kept.report)
            for name in self._set_up:
                folders.give_up_item(self._mounted(name), item_id)
        for name in self._set_up:
            folders.remove_given_up(self._mounted(name), item_id)
        return where

    def sweep_orphans(self, read: orphans.ReadManifest, grace_seconds: float = ORPHAN_GRACE_SECONDS) -> list[int]:
        """Removes staged folders of items that are over, unknown, or staged on another volume by now, if nobody
        uses them and they have not changed for `grace_seconds`; returns the items' ids.

        A whole bag of an item that failed or was cancelled goes to quarantine first; `read` reads its manifest.
        Raises ExceptionGroup, after all others were swept, for those that could not be.
        """
        changed_before = self._clock.now().timestamp() - grace_seconds
        removed: list[int] = []
        failed: list[Exception] = []
        for name in self._set_up:
            with _set_aside(failed):
                volume = self._mounted(name)
                folders.finish_removals(volume)
                for item_id in self._unneeded(volume, orphans.unchanged_since(volume, changed_before), read):
                    with _set_aside(failed):
                        if self._sweep(volume, item_id, read):
                            removed.append(item_id)
        if failed:
            raise ExceptionGroup(f"{len(removed)} items' folders were swept, {len(failed)} could not be", failed)
        return removed

    def _unneeded(self, volume: Volume, item_ids: list[int], read: orphans.ReadManifest) -> Iterator[int]:
        for first in range(0, len(item_ids), BATCH_ITEMS):
            with reading(self._sessions) as session:
                found = orphans.unneeded(session, volume, item_ids[first : first + BATCH_ITEMS], read)
            yield from found

    # -- quarantine --------------------------------------------------------------------------------------------

    def quarantine(self, staged: StagedFile, item_id: int, report: Mapping[str, Any]) -> str:
        """Moves an invalid bag aside with the report beside it; returns where to, relative to its volume.

        Safe to repeat. Raises FileNotFoundError if the bag is neither staged nor in quarantine.
        """
        volume = self._mounted(staged.volume)
        return quarantine.put_aside(volume, staged, item_id, report, now=self._now())

    def prune_quarantine(self, max_days: float | None = None, max_bytes: int | None = None) -> list[Pruned]:
        """Keeps each volume's quarantine within its bounds, by default the settings'; returns what it removed.

        Raises the first error, after all other volumes were seen to.
        """
        now = self._now()
        pruned: list[Pruned] = []
        failed: list[Exception] = []
        for name in self._set_up:
            with _set_aside(failed):
                pruned += quarantine.prune(
                    self._mounted(name),
                    now=now,
                    max_days=self._settings.quarantine_days if max_days is None else max_days,
                    max_bytes=self._settings.quarantine_bytes if max_bytes is None else max_bytes,
                )
        for error in failed:
            raise error
        return pruned

    # ----------------------------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        """By the database's clock: what is kept for days shall not depend on one machine's."""
        with reading(self._sessions) as session:
            return session.execute(select(self._clock.in_database())).scalar_one()

    def _known(self, name: str) -> Volume:
        try:
            return self._volumes[name]
        except KeyError:
            raise Misconfigured(
                f"staging volume {name!a} is not mounted on this machine: add it to staging.volumes here, or let "
                f"the machine that has it do the work"
            ) from None

    def _mounted(self, name: str) -> Volume:
        volume = self._known(name)
        self._set_up_late(volume)
        volume.check()
        return volume

    def _left_on(self, item_id: int) -> list[str]:
        """The volumes that have a folder of the item."""
        return [volume.name for volume in self._volumes.values() if volume.item_folder(item_id).is_dir()]

    def _problem(self, volume: Volume) -> str | None:
        """Why nothing can be staged on the volume now; a full disk is none: it is asked for its room."""
        try:
            self._set_up_late(volume)
            volume.check()
            volume.try_writing()
        except Misconfigured as error:
            return str(error)
        except OSError as error:
            if error.errno in DISK_FULL:
                return None
            return f"staging.volumes.{volume.name}: cannot write to {volume.path} ({error}): repair its disk"
        return None

    def _whose(self, item_id: int) -> str | None:
        """What tells the item from any other that ever had its number; None if there is none of this number."""
        with reading(self._sessions) as session:
            row = session.execute(select(WorkItem.task, WorkItem.identifier).where(WorkItem.id == item_id)).first()
        return None if row is None else f"{row.task} {row.identifier}"

    def _require_held(self, item_id: int, token: int) -> None:
        held = WorkItem.id == item_id, WorkItem.lease_token == token, WorkItem.status == Status.RUNNING
        with reading(self._sessions) as session:
            if session.scalar(select(WorkItem.id).where(*held)) is None:
                raise LeaseLost(f"item {item_id}: a later lease than {token} is at work in its staging folder")

    def _healths(self, without: int | None = None) -> list[VolumeHealth]:
        with reading(self._sessions) as session:
            promised = reservations.promised(session, self.volumes)
        if without is not None:
            for items in promised.values():
                items.pop(without, None)
        return [self._health(volume, promised[volume.name]) for volume in self._volumes.values()]

    def _health(self, volume: Volume, promised_bytes: Mapping[int, int]) -> VolumeHealth:
        if problem := self._problem(volume):
            return VolumeHealth(volume.name, volume.path, problem=problem)
        try:
            to_come_bytes = reservations.to_come(promised_bytes, reservations.held(volume, promised_bytes))
            free_bytes = volume.free_bytes()
        except OSError as error:
            return VolumeHealth(volume.name, volume.path, problem=str(error))
        return VolumeHealth(
            name=volume.name,
            path=volume.path,
            total_bytes=volume.total_bytes(),
            free_bytes=free_bytes,
            reserved_bytes=sum(promised_bytes.values()),
            to_come_bytes=to_come_bytes,
            room_bytes=free_bytes - self._settings.floor_bytes - to_come_bytes,
            reservations=len(promised_bytes),
        )

    def _sweep(self, volume: Volume, item_id: int, read: orphans.ReadManifest) -> bool:
        with self._sessions.begin() as session:
            found = orphans.unneeded(session, volume, [item_id], read, lock=True)
            if item_id not in found:
                return False
            kept = found[item_id]
            if kept is not None and self.holds(kept.staged):
                self.quarantine(kept.staged, item_id, kept.report)
            folders.give_up_abandoned(volume, item_id)
        return folders.remove_given_up(volume, item_id)


@contextmanager
def _set_aside(failed: list[Exception]) -> Iterator[None]:
    """What fails in the block stops nothing else."""
    try:
        yield
    except (DpnError, OSError, ValueError) as error:
        failed.append(error)
