"""Remembers every copy that we keep, and how its checks ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from dpn.database import Sessions, insert_missing
from models.manifests import CopyFacts, Receipt
from models.preservation import FixityPace, StoredCopy
from models.work import Task, WorkItem

LONGEST_READING = timedelta(days=30)
"""Until it is noted. What lies further ahead was noted while a clock was wrong, and hides nothing."""

BAD_AGAIN_DAYS = 30.0
"""A copy that was found bad is looked at again so soon: it may have been repaired where it lies."""

TAKEN_IN_A_RUN = 1000
ROWS_AT_ONCE = 50
"""Manifests of large bags are long: no more of them are in memory."""

PACE_ROW = 1


@dataclass(frozen=True)
class Copies:
    """Where stages that store a bag say so."""

    sessions: Sessions
    every_days: float

    def remember(self, receipt: Receipt, *, bag: str, tag_manifest_sha256: str, item_id: int) -> None:
        """See `remember`; in a transaction of its own."""
        with self.sessions.begin() as session:
            remember(
                session,
                receipt,
                bag=bag,
                tag_manifest_sha256=tag_manifest_sha256,
                item_id=item_id,
                every_days=self.every_days,
            )


def remember(
    session: Session,
    receipt: Receipt,
    *,
    bag: str,
    tag_manifest_sha256: str,
    item_id: int | None,
    every_days: float,
) -> None:
    """Enters the copy that the receipt proves. Done again for the same copy, it changes nothing.

    A copy that takes the place of another one, or of one that was found bad, is a new copy: not checked yet. So is
    another object under the same key (another version or entity tag) that was proven after the one known.
    """
    row = _row(receipt, bag, tag_manifest_sha256, item_id, receipt.confirmed_at + timedelta(days=every_days))
    if insert_missing(session, StoredCopy, [row]):
        return
    known = session.get_one(StoredCopy, bag, with_for_update=True)
    is_same = (known.store, known.key, known.sha256) == (receipt.store, receipt.key, receipt.sha256)
    repaired = known.outcome == "bad" and known.checked_at is not None and receipt.confirmed_at > known.checked_at
    if is_same and not repaired and not _is_newer_object(known, receipt):
        return
    for name, value in row.items():
        setattr(known, name, value)
    known.checked_at = None


def checked(session: Session, read: CopyFacts, *, good: bool, at: datetime, every_days: float) -> bool:
    """Notes the end of a check whose reading of `read` began `at`, and when the next one is due.

    Returns whether it was noted. What a later reading has found stands, and nothing is said of a copy that has
    taken the place of the one that was read, or of a bag that we keep no copy of.
    """
    days = every_days if good else min(every_days, BAD_AGAIN_DAYS)
    noted = session.scalar(
        update(StoredCopy)
        .where(
            StoredCopy.bag == read.bag,
            StoredCopy.store == read.store,
            StoredCopy.key == read.key,
            StoredCopy.sha256 == read.sha256,
            # Of what lies there since then, with or without versions in the store, another receipt was entered.
            StoredCopy.stored_at == read.receipt.confirmed_at,
            StoredCopy.receipt["version_id"].as_string().is_not_distinct_from(read.receipt.version_id),
            or_(
                StoredCopy.checked_at.is_(None),
                StoredCopy.checked_at <= at,
                StoredCopy.checked_at > at + LONGEST_READING,
            ),
        )
        .values(outcome="good" if good else "bad", checked_at=at, due_at=at + timedelta(days=days))
        .returning(StoredCopy.bag)
    )
    return noted is not None


def lock_pace(session: Session) -> FixityPace:
    """The row that paces checks, ours until the transaction ends."""
    insert_missing(session, FixityPace, [{"id": PACE_ROW, "credit": 0.0, "paced_at": None, "items_taken_in": 0}])
    return session.get_one(FixityPace, PACE_ROW, with_for_update=True, populate_existing=True)


def take_in(session: Session, *, every_days: float, now: datetime, most: int = TAKEN_IN_A_RUN) -> int:
    """Enters copies of items that were stored before copies were remembered; the next so many items in each run.

    Their first check is due within the promised time from now, however long ago they were stored: what comes to be
    known at once shall not be overdue at once. Answers how many copies were new.
    """
    pace = lock_pace(session)
    ids = session.scalars(
        select(WorkItem.id).where(WorkItem.id > pace.items_taken_in).order_by(WorkItem.id).limit(most)
    ).all()
    due_at, entered = now + timedelta(days=every_days), 0
    for start in range(0, len(ids), ROWS_AT_ONCE):
        entered += _take_in(session, ids[start : start + ROWS_AT_ONCE], due_at)
    if ids:
        pace.items_taken_in = ids[-1]
    return entered


def _is_newer_object(known: StoredCopy, receipt: Receipt) -> bool:
    before = (known.receipt.get("version_id"), known.receipt.get("etag"))
    return before != (receipt.version_id, receipt.etag) and receipt.confirmed_at > known.stored_at


def _take_in(session: Session, ids: Sequence[int], due_at: datetime) -> int:
    statement = select(WorkItem.id, WorkItem.manifest).where(
        WorkItem.id.in_(ids), WorkItem.task.in_((Task.REPLICATION, Task.INGEST))
    )
    rows = {}
    for item_id, manifest in session.execute(statement):
        row = _row_of_item(item_id, manifest, due_at)
        if row is not None:
            rows[row["bag"]] = row  # of two items with the same bag, the later one
    return insert_missing(session, StoredCopy, list(rows.values()))


def _row_of_item(item_id: int, manifest: Any, due_at: datetime) -> dict[str, Any] | None:
    """The copy that an item's manifest tells of; None where it tells of none, or is damaged."""
    if not isinstance(manifest, Mapping) or not isinstance(manifest.get("receipt"), Mapping):
        return None
    facts, judged = manifest.get("transfer") or manifest.get("deposit"), manifest.get("validation")
    if not isinstance(facts, Mapping) or not isinstance(judged, Mapping):
        return None
    bag, digest = facts.get("bag"), judged.get("tag_manifest_sha256")
    if not isinstance(bag, str) or not isinstance(digest, str):
        return None
    try:
        return _row(Receipt.model_validate(manifest["receipt"]), bag, digest, item_id, due_at)
    except ValidationError:
        return None


def _row(
    receipt: Receipt, bag: str, tag_manifest_sha256: str, item_id: int | None, due_at: datetime
) -> dict[str, Any]:
    return {
        "bag": bag,
        "item_id": item_id,
        "store": receipt.store,
        "key": receipt.key,
        "url": receipt.url,
        "size": receipt.size,
        "sha256": receipt.sha256,
        "tag_manifest_sha256": tag_manifest_sha256,
        "receipt": receipt.model_dump(mode="json"),
        "stored_at": receipt.confirmed_at,
        "outcome": "unchecked",
        "due_at": due_at,
    }
