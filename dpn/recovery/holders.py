"""Which nodes may be asked for a bag, the best first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.registry.catalogue import BAGS, FIXITY_CHECKS, find
from dpn.registry.records import BagRecord

LastCheck = tuple[bool, datetime]
"""How a node's last fixity check of its copy ended, and when it was recorded."""


def candidates(
    session: Session, bag: str, *, us: str, peers: Collection[str], prefer: Sequence[str] = ()
) -> list[str]:
    """The peers that hold a copy of the bag as our registry has it, the best first; empty if none is known.

    A node whose last fixity check failed comes after all others, even if it is preferred. The rest: `prefer` in
    its order, then those whose good check is the newest, then those never heard of, by name. The same records
    give the same order.
    """
    record = find(session, BAGS, bag)
    if record is None:
        return []
    holders = holders_of(record) & set(peers) - {us}
    return ranked(holders, last_checks(session, bag, holders), prefer)


def holders_of(bag: BagRecord) -> set[str]:
    """The nodes that should have a copy: those that are said to hold one, its admin node, and who ingested it."""
    return {*bag.replicating_nodes, bag.admin_node, bag.ingest_node}


def last_checks(session: Session, bag: str, nodes: Iterable[str]) -> dict[str, LastCheck]:
    """The last fixity check of the bag by each of these nodes, where there is one."""
    columns = FIXITY_CHECKS.table.c
    newest_first = (columns.created_at.desc(), columns.fixity_check_id.desc())
    place = func.row_number().over(partition_by=columns.node, order_by=newest_first).label("place")
    of_bag = (columns.bag == bag) & columns.node.in_(sorted(nodes))
    checks = select(columns.node, columns.success, columns.created_at, place).where(of_bag).subquery()
    last = select(checks.c.node, checks.c.success, checks.c.created_at).where(checks.c.place == 1)
    return {node: (success, at) for node, success, at in session.execute(last)}


def ranked(nodes: Iterable[str], checks: Mapping[str, LastCheck], prefer: Sequence[str] = ()) -> list[str]:
    """`nodes`, the best first: pure. See `candidates`."""
    wish = {node: place for place, node in reversed(list(enumerate(prefer)))}

    def rank(node: str) -> tuple[bool, int, float, str]:
        good, at = checks.get(node, (True, None))
        age = 0.0 if at is None else -at.timestamp()
        return not good, wish.get(node, len(prefer)), age, node

    return sorted(nodes, key=rank)
