"""Which deposits still count. A void one, that failed or was cancelled before anything of it was stored, takes
nothing from those that come after it: neither its local id, nor its key, nor its place."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.manifests import IngestManifest
from models.registry import Bag, Member
from models.work import Deposit, Status, Task, WorkItem


@dataclass(frozen=True)
class Holder:
    """A bag that has a local id. `item`: its deposit, if it is not in our registry yet."""

    bag: str
    item: WorkItem | None = None

    def __str__(self) -> str:
        return f"bag {self.bag}" + (f" (item {self.item.id}, {self.item.status})" if self.item else "")

    @property
    def way_out(self) -> str:
        """How the local id would be free again, to be appended to other remedies; empty if it never will."""
        if self.item is None or not may_be_cancelled(self.item):
            return ""
        return f", or if that one is a mistake, `dpn item cancel {self.item.id}` first"


def is_void(item: WorkItem) -> bool:
    """Whether the deposit of this item has ended and nothing of it is stored, nor will be unless it is retried."""
    return item.status in (Status.FAILED, Status.CANCELLED) and _has_no_copy(item)


def may_be_cancelled(item: WorkItem) -> bool:
    """Whether `dpn item cancel` would make the deposit of this item void."""
    return not Status(item.status).is_final and _has_no_copy(item)


def lock_deposits_beside(session: Session, item_id: int) -> None:
    """Until the transaction ends no deposit of the same member's begins, or begins again; nothing for other items.

    To be taken before the item's own row: submission holds it when it looks at items.
    """
    member = select(Deposit.member).where(Deposit.item_id == item_id).scalar_subquery()
    session.execute(select(Member.member_id).where(Member.member_id == member).with_for_update())


def replaced_by(session: Session, item: WorkItem) -> str | None:
    """Where the deposit of this item is void and another has taken what was its: which, and what can be done."""
    if item.task != Task.INGEST or not is_void(item):
        return None
    deposit = session.scalar(select(Deposit).where(Deposit.item_id == item.id))
    if deposit is None:
        return (
            "another bag was deposited as the same version of its family: submit it again, if it is to be another"
        )
    holder = holder_of_local_id(
        session,
        deposit.member,
        deposit.local_id,
        outside_family=deposit.first_version_uuid,
        node=IngestManifest.read(item.manifest).deposit.node,
    )
    if holder is None:
        return None
    return (
        f"the local id of its deposit is that of {holder} by now. Deposit its source with --new-version-of "
        f"{holder.bag}, or under another local id{holder.way_out}"
    )


def holder_of_local_id(
    session: Session, member: str, local_id: str, *, outside_family: str, node: str | None
) -> Holder | None:
    """A bag of another family that has this local id of the member's, None if it is free for this family. Only
    those count that were deposited with us, or that `node`, which is ours, administers.

    Whoever acts on the answer holds the member's row locked: deposits begin, and begin again, only under that.
    """
    registered = select(Bag.uuid).where(
        Bag.member == member,
        Bag.local_id == local_id,
        Bag.first_version_uuid != outside_family,
        Bag.admin_node == node,
    )
    if (bag := session.scalars(registered.limit(1)).first()) is not None:
        return Holder(bag)
    deposited = (
        select(Deposit.bag, WorkItem)
        .join(WorkItem, WorkItem.id == Deposit.item_id)
        .where(
            Deposit.member == member, Deposit.local_id == local_id, Deposit.first_version_uuid != outside_family
        )
        .order_by(WorkItem.id)
    )
    rows = session.execute(deposited).all()
    return next((Holder(bag, item) for bag, item in rows if not is_void(item)), None)


def _has_no_copy(item: WorkItem) -> bool:
    """Of a manifest that is damaged nothing is known: it counts as one with a copy."""
    return isinstance(item.manifest, dict) and item.manifest.get("receipt") is None
