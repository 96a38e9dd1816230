"""How well copies are proven, ours and other nodes': counted by the database, a row a node and member."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select, true
from sqlalchemy.orm import Session

from models.preservation import DrilledBag, StoredCopy
from models.registry import Bag, BagReplica, FixityCheck, Member
from models.work import Status, WorkItem


@dataclass(frozen=True)
class Coverage:
    """A node's copies of a member's bags: all, and those of which more can be said."""

    node: str
    member: str | None
    name: str | None
    copies: int
    bytes: int
    checked: int
    """Found good within the days asked about, and not bad since."""
    overdue: int
    failed: int
    """Whose last check found them bad."""
    never: int
    proven: int
    """Not found bad since it was. Ours: read back, or by checksums that its store is trusted to compute. Another
    node's: brought back by a drill of ours."""
    claimed: int
    """Neither proven nor found bad: whoever keeps them says that they are there."""


def of_ours(session: Session, node: str, *, now: datetime, days: float, trusted_checksums: bool) -> list[Coverage]:
    """Our copies, by member: as we know them, and as our records in the registry say where those are newer."""
    last = _last_checks(node)
    good_at = _later(case((StoredCopy.outcome == "good", StoredCopy.checked_at)), last.c.good_at)
    bad_at = _later(case((StoredCopy.outcome == "bad", StoredCopy.checked_at)), last.c.bad_at)
    read_back = StoredCopy.receipt["confirmed_by"].as_string() == "read-back"
    # Receipts make rows long: they are looked into only where the store is not trusted.
    is_proven = true() if trusted_checksums else or_(good_at.is_not(None), read_back)
    statement = (
        select(
            Bag.member,
            Member.name,
            func.count(),
            func.sum(StoredCopy.size),
            _count(and_(good_at >= now - timedelta(days=days), ~_is_bad(good_at, bad_at))),
            _count(StoredCopy.due_at < now),
            _count(_is_bad(good_at, bad_at)),
            _count(and_(good_at.is_(None), bad_at.is_(None))),
            _count(and_(~_is_bad(good_at, bad_at), is_proven)),
        )
        .select_from(StoredCopy)
        .outerjoin(Bag, Bag.uuid == StoredCopy.bag)
        .outerjoin(Member, Member.member_id == Bag.member)
        .outerjoin(last, last.c.bag == StoredCopy.bag)
        .group_by(Bag.member, Member.name)
        .order_by(Member.name, Bag.member)
    )
    return [_coverage(node, *row) for row in session.execute(statement)]


def of_others(session: Session, node: str, *, now: datetime, days: float) -> list[Coverage]:
    """Other nodes' copies, by node and member, as their records in our registry say.

    Overdue: no good check within `days` that we know of, and the bag is known for longer than that.
    """
    last, since = _last_checks(None), now - timedelta(days=days)
    drilled = (
        select(DrilledBag.source, DrilledBag.bag)
        .join(WorkItem, WorkItem.id == DrilledBag.item_id)
        .where(WorkItem.status == Status.SUCCESS)
        .distinct()
        .subquery()
    )
    good_at, bad_at = last.c.good_at, last.c.bad_at
    statement = (
        select(
            BagReplica.node,
            Bag.member,
            Member.name,
            func.count(),
            func.sum(Bag.size),
            _count(and_(good_at >= since, ~_is_bad(good_at, bad_at))),
            _count(and_(Bag.created_at < since, or_(good_at.is_(None), good_at < since))),
            _count(_is_bad(good_at, bad_at)),
            _count(and_(good_at.is_(None), bad_at.is_(None))),
            _count(and_(drilled.c.bag.is_not(None), ~_is_bad(good_at, bad_at))),
        )
        .select_from(BagReplica)
        .join(Bag, Bag.uuid == BagReplica.bag)
        .outerjoin(Member, Member.member_id == Bag.member)
        .outerjoin(last, and_(last.c.bag == BagReplica.bag, last.c.node == BagReplica.node))
        .outerjoin(drilled, and_(drilled.c.bag == BagReplica.bag, drilled.c.source == "peer:" + BagReplica.node))
        .where(BagReplica.node != node)
        .group_by(BagReplica.node, Bag.member, Member.name)
        .order_by(BagReplica.node, Member.name, Bag.member)
    )
    return [_coverage(*row) for row in session.execute(statement)]


def not_known_here(session: Session, node: str) -> int:
    """How many bags the registry says we keep, of which we know no copy."""
    known = select(StoredCopy.bag).where(StoredCopy.bag == BagReplica.bag).exists()
    return session.execute(select(func.count()).where(BagReplica.node == node, ~known)).scalar_one()


def _last_checks(node: str | None) -> Subquery:
    """When each copy was last found good, and bad."""
    at = FixityCheck.fixity_at
    statement = select(
        FixityCheck.bag,
        FixityCheck.node,
        func.max(case((FixityCheck.success.is_(True), at))).label("good_at"),
        func.max(case((FixityCheck.success.is_(False), at))).label("bad_at"),
    ).group_by(FixityCheck.bag, FixityCheck.node)
    return (statement if node is None else statement.where(FixityCheck.node == node)).subquery()


def _is_bad(good_at: ColumnElement[Any], bad_at: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the last check found the copy bad."""
    return and_(bad_at.is_not(None), or_(good_at.is_(None), bad_at > good_at))


def _later(a: ColumnElement[Any], b: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((or_(a.is_(None), b > a), b), else_=a)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _coverage(node: str, member: str | None, name: str | None, *counts: Any) -> Coverage:
    copies, size, checked, overdue, failed, never, proven = (int(count) for count in counts)
    claimed = copies - proven - failed
    return Coverage(node, member, name, copies, size, checked, overdue, failed, never, proven, claimed)
