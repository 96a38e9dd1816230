"""Bags that were found invalid, put aside with the report that says why, so that an operator can look.

Bounded in days and in bytes: a disk that fills up with bad bags would stop the good ones. When the bytes are too
many the oldest bags go first, the newest too if it alone is too large; their reports stay until their days are
over, so that what was wrong can still be told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from dpn.files import replace_file, sync_folder
from dpn.staging.volumes import Volume, numbered_folders, remove_tree
from models.manifests import StagedFile

REPORT = "report.json"
OVERDUE = ".overdue"
SECOND_LOOK = timedelta(days=1)
"""What is too old goes if it still is after so long: a clock that is ahead for a moment empties nothing."""

MAX_REPORT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pruned:
    """A bag that was removed from quarantine, and which bound it was over."""

    volume: str
    item_id: int
    bytes: int
    quarantined_at: datetime
    bound: Literal["days", "bytes"]


@dataclass(frozen=True, slots=True)
class _Kept:
    item_id: int
    folder: Path
    quarantined_at: datetime
    bytes: int


def put_aside(
    volume: Volume, staged: StagedFile, item_id: int, report: Mapping[str, Any], *, now: datetime
) -> str:
    """Moves the staged bag to quarantine, the report beside it; returns where to, relative to the volume.

    Safe to repeat after a crash at any moment; a bag that was put aside for this item before is replaced. Both
    survive a power cut. Raises FileNotFoundError if the bag is in neither place, OSError.
    """
    source = volume.staged_path(staged.path)
    folder = volume.quarantine_folder(item_id)
    target = folder / source.name
    if source.exists() or not target.exists():
        source.stat()  # before anything is made
        folder.mkdir(mode=0o700, exist_ok=True)
        document = {
            "quarantined_at": now.isoformat(),
            "item_id": item_id,
            "staged": staged.model_dump(mode="json"),
            "report": dict(report),
        }
        with replace_file(folder / REPORT, permissions=0o600) as file:
            file.write(json.dumps(document, indent=1).encode())
        source.rename(target)
    for changed in (folder, volume.quarantine, source.parent):  # again, if who moved it died before this
        with suppress(FileNotFoundError):
            sync_folder(changed)
    return _relative(volume, target)


def prune(volume: Volume, *, now: datetime, max_days: float, max_bytes: int) -> list[Pruned]:
    """Removes what is over a bound from the volume's quarantine, oldest first; returns what it removed."""
    kept = sorted(_survey(volume), key=lambda entry: (entry.quarantined_at, entry.item_id))
    removed, rest = [], []
    for entry in kept:
        mark = entry.folder.with_name(f"{entry.item_id}{OVERDUE}")
        if entry.quarantined_at >= now - timedelta(days=max_days):
            mark.unlink(missing_ok=True)
        elif _was_overdue(mark, now):
            remove_tree(entry.folder)
            mark.unlink(missing_ok=True)
            removed.append(_pruned(volume, entry, "days"))
            continue
        if entry.bytes:
            rest.append(entry)
    surplus_bytes = sum(entry.bytes for entry in rest) - max_bytes
    for entry in rest:
        if surplus_bytes <= 0:
            break
        for bag in _bags(entry.folder):
            bag.unlink(missing_ok=True)
        surplus_bytes -= entry.bytes
        removed.append(_pruned(volume, entry, "bytes"))
    return removed


def _was_overdue(mark: Path, now: datetime) -> bool:
    """Whether an earlier look, long enough ago, found it too old as well; if not, this one is noted."""
    with suppress(FileNotFoundError, ValueError):
        if timedelta() <= (passed := now - datetime.fromisoformat(mark.read_text("ascii"))):
            return passed >= SECOND_LOOK
    with replace_file(mark, permissions=0o600) as file:
        file.write(now.isoformat().encode())
    return False


def _survey(volume: Volume) -> list[_Kept]:
    kept = []
    for item_id, folder in numbered_folders(volume.quarantine).items():
        with suppress(FileNotFoundError):  # another process prunes, too
            size = sum(bag.stat().st_size for bag in _bags(folder))
            kept.append(_Kept(item_id, folder, _quarantined_at(folder), size))
    return kept


def _bags(folder: Path) -> list[Path]:
    """What somebody put there by hand in a folder of its own is none."""
    return [path for path in folder.iterdir() if path.name != REPORT and not path.is_dir()]


def _quarantined_at(folder: Path) -> datetime:
    """As the report says, else when the folder last changed."""
    try:
        with (folder / REPORT).open("rb") as file:
            told = json.loads(file.read(MAX_REPORT_BYTES))
        found = datetime.fromisoformat(told["quarantined_at"])
        if found.tzinfo is not None:
            return found
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # a crash or a person left it so: its age is known anyway
    return datetime.fromtimestamp(folder.stat().st_mtime, tz=UTC)


def _pruned(volume: Volume, entry: _Kept, bound: Literal["days", "bytes"]) -> Pruned:
    return Pruned(volume.name, entry.item_id, entry.bytes, entry.quarantined_at, bound)


def _relative(volume: Volume, path: Path) -> str:
    return path.relative_to(volume.path).as_posix()
