"""Parting from a peer: what is open between us, what stays, what ends, and what is left for root to take away."""

from __future__ import annotations

import getpass
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from dpn.access import tokens
from dpn.audit.trail import record
from dpn.node import OpenNode
from dpn.registry.catalogue import agree, give_up_with
from dpn.transfer.ssh_keys import known_host_name
from dpn.work.items import NotAllowed, cancel_item
from dpn.work.outcomes import Stopped
from dpn.work.reconciliation import close
from models.preservation import StoredCopy
from models.registry import Bag, BagReplica, ReplicationTransfer, RestoreTransfer
from models.work import Status, WorkItem
from workers.pipelines import PIPELINES

IDS_SHOWN = 20


@dataclass(frozen=True)
class Ties:
    """What there is between a peer and us: how much of each, nothing that is none."""

    open: Mapping[str, int]
    """Ends only by being done, or given up."""
    kept: Mapping[str, int]
    """Stays as it is."""
    items: tuple[int, ...]
    """The first of the items that are open."""


def ties(session: Session, peer: str, *, us: str, copies: int) -> Ties:
    """What there is between the peer and us, where a bag of ours is to have so many copies."""
    is_open = WorkItem.status.in_((Status.PENDING, Status.RUNNING))
    items = select(WorkItem.id).where(WorkItem.remote_node == peer, is_open).order_by(WorkItem.id)
    given = ReplicationTransfer
    given_open = ~given.stored & ~given.cancelled
    back = RestoreTransfer
    back_open = ~back.finished & ~back.cancelled
    replica, another = BagReplica, aliased(BagReplica)
    others = select(func.count()).where(another.bag == replica.bag, another.node != peer).scalar_subquery()
    held = select(replica.bag).join(Bag, Bag.uuid == replica.bag).where(replica.node == peer, Bag.admin_node == us)
    stored = select(StoredCopy.bag).join(Bag, Bag.uuid == StoredCopy.bag).where(Bag.admin_node == peer)
    to_it, of_it = given.replication_id, back.restore_id

    def counted(queries: Mapping[str, Select[Any]]) -> dict[str, int]:
        numbers = {
            what: session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
            for what, query in queries.items()
        }
        return {what: number for what, number in numbers.items() if number}

    return Ties(
        open=counted(
            {
                "items of ours that speak with it": items,
                "bags that it is to keep for us": select(to_it).where(
                    given.from_node == us, given.to_node == peer, given_open
                ),
                "bags that we are to keep for it": select(to_it).where(
                    given.from_node == peer, given.to_node == us, given_open
                ),
                "bags that we asked it for": select(of_it).where(
                    back.to_node == us, back.from_node == peer, back_open
                ),
                "bags that it asked us for": select(of_it).where(
                    back.to_node == peer, back.from_node == us, back_open
                ),
            }
        ),
        kept=counted(
            {
                "bags of ours that it is said to keep": held,
                f"of these, with fewer than {copies} other copies": held.where(others < copies),
                "bags of its that we keep": stored,
            }
        ),
        items=tuple(session.scalars(items.limit(IDS_SHOWN))),
    )


@dataclass(frozen=True)
class Parting:
    """What has ended."""

    cancelled: int
    """Transfers of ours with it."""
    revoked: int
    """Tokens of its."""
    ended: int
    """Items that spoke with it."""
    still_open: tuple[int, ...]
    """Items that go on while the settings name it: what it must hear, and bags that are stored already."""


def part(session: Session, node: OpenNode, peer: str, *, by: str) -> Parting:
    """Ends our agreements with the peer, the transfers of ours with it that are open, its tokens, and the items
    that speak with it; once the settings name it no more, all of these. Its records stay, and so does each copy.

    Raises Misconfigured.
    """
    now = node.clock.now()
    agree(session, node.namespace, peer, (), now=now)
    detail = f"{node.namespace} no longer works with {peer}"
    cancelled = give_up_with(session, node.namespace, peer, detail=detail, now=now)
    revoked = tokens.revoke_all(session, peer, now=now)
    is_open = (WorkItem.remote_node == peer) & WorkItem.status.in_((Status.PENDING, Status.RUNNING))
    items = session.scalars(select(WorkItem).where(is_open).order_by(WorkItem.id).with_for_update()).all()
    if peer in node.settings.peers:
        still_open = tuple(item.id for item in items if not _cancelled(session, item.id, detail, by, node))
        return Parting(cancelled, revoked, len(items) - len(still_open), still_open)
    outcome = Stopped(f"{detail}, which hears nothing of this any more; what is stored stays")
    record(session, [close(session, item, outcome, PIPELINES, node.clock) for item in items], agent=by, at=now)
    return Parting(cancelled, revoked, len(items), ())


def _cancelled(session: Session, item_id: int, reason: str, by: str, node: OpenNode) -> bool:
    """Cancels the item, of which the peer will hear; false if that must not be."""
    try:
        cancel_item(session, item_id, reason=reason, operator=by, pipelines=PIPELINES, clock=node.clock)
    except NotAllowed:
        return False
    return True


def left(node: OpenNode, peer: str) -> Iterator[str]:
    """What of the peer is still on this machine and not ours to take away, a line each."""
    settings = node.settings
    if (access := settings.peers.get(peer)) is not None:
        yield f"remove [peers.{peer}] and what is below it from {node.config}"
        yield "systemctl try-restart 'dpn-worker@*'"
        if access.token_file is not None and access.token_file.exists():
            yield f"rm {access.token_file}"
        if access.rsync.mode == "ssh" and (known_hosts := settings.transfer.known_hosts_file) is not None:
            for host in access.rsync.hosts:
                yield f"ssh-keygen -R '{known_host_name(host, access.rsync.port)}' -f {known_hosts}"
    account = f"{getpass.getuser()}.{peer}"
    if any(one.pw_name == account for one in pwd.getpwall()):
        yield f"userdel --remove {account}"
    for outbound in settings.ingest.outbound.values():
        if (folder := outbound.folder / peer).is_dir():
            yield f"rmdir {folder}    # once dpn_cleanup has withdrawn what lies there"
