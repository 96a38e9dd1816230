"""Which folders on a volume belong to items that do not need them there any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.staging.volumes import Volume, numbered_folders
from models.manifests import ItemManifest, ManifestUnreadable, StagedFile
from models.work import Status, WorkItem


@dataclass(frozen=True, slots=True)
class StagedEvidence:
    """A staged bag that an operator may want to look at, and what to tell of it."""

    staged: StagedFile
    report: dict[str, Any]


def unchanged_since(volume: Volume, timestamp: float) -> list[int]:
    """Ids of the items in whose folder nothing changed since then (seconds since 1970)."""
    return sorted(
        item_id for item_id, folder in numbered_folders(volume.items).items() if _changed_at(folder) < timestamp
    )


ReadManifest = Callable[[str, Any], ItemManifest]
"""What an item of a task carries. Raises ManifestUnreadable; KeyError for a task that is not ours."""


def unneeded(
    session: Session, volume: Volume, item_ids: Sequence[int], read: ReadManifest, *, lock: bool = False
) -> dict[int, StagedEvidence | None]:
    """Those of the items that are over, unknown, or staged on another volume; with the bag to keep, if any.
    With `lock` none of them is taken up again before the session's transaction ends.

    An item whose manifest cannot be read is needed: only who can read it may say what to lose.
    """
    found: dict[int, StagedEvidence | None] = dict.fromkeys(item_ids)
    asked = select(WorkItem).where(WorkItem.id.in_(item_ids))
    for item in session.scalars(asked.with_for_update() if lock else asked):
        status = Status(item.status)
        if not status.is_final:
            if item.staging_volume in (None, volume.name):
                del found[item.id]
        elif status is not Status.SUCCESS:
            try:
                found[item.id] = _kept_bag(item, volume, read)
            except (ManifestUnreadable, KeyError):
                del found[item.id]
    return found


def _kept_bag(item: WorkItem, volume: Volume, read: ReadManifest) -> StagedEvidence | None:
    manifest = read(item.task, item.manifest)
    staged = manifest.staged_file if manifest.is_evidence else None
    if staged is None or staged.volume != volume.name:
        return None
    return StagedEvidence(staged, {"item": item.id, "status": item.status, "note": item.note})


def _changed_at(folder: Path) -> float:
    times = [0.0]
    for parent, names, files in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in (*names, *files))):
            with suppress(FileNotFoundError):  # somebody removes it just now
                times.append(path.lstat().st_mtime)
    return max(times)
