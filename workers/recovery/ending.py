"""What an operator may do to a repair: one that has ended is not tried again beside another of the same copy."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from models.preservation import StoredCopy
from models.work import WorkItem
from workers.endings import StoringEndings


class RecoveryEndings(StoringEndings):
    """See the module's docstring. Who opens a repair changes the copy's row, which is locked for a retry."""

    def lock_for_retry(self, session: Session, item_id: int) -> None:
        bag = select(WorkItem.manifest["bag"].as_string()).where(WorkItem.id == item_id).scalar_subquery()
        session.execute(select(StoredCopy.bag).where(StoredCopy.bag == bag).with_for_update())

    def refuse_retry(self, session: Session, item: WorkItem) -> str | None:
        from dpn.fixity.begin import repair_under_way  # most processes do without

        bag = _repaired_bag(item)
        other = None if bag is None else repair_under_way(session, bag)
        if other is None or other.id == item.id:
            return None
        return f"item {other.id} repairs the same copy by now: if that fails, `dpn item retry` it"

    def take_back(self, session: Session, item: WorkItem, *, clock: Clock) -> None:
        """What is being repaired is known as such again: no check that finds it bad opens another repair."""
        if (bag := _repaired_bag(item)) is not None:
            session.execute(update(StoredCopy).where(StoredCopy.bag == bag).values(check_item=item.id))


def _repaired_bag(item: WorkItem) -> str | None:
    """The bag whose copy the item repairs; None for a drill. The manifest may be damaged."""
    manifest = item.manifest if isinstance(item.manifest, dict) else {}
    bag = manifest.get("bag") if manifest.get("bad") is not None else None
    return bag if isinstance(bag, str) else None
