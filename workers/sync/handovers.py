"""Bags that change hands: asks their admin nodes for the word that no list shows.

A bag passes to another admin node when both nodes have said so. The new one lists it among its own. The old one
lists it no longer, and would never be heard: it is asked for the bag, wherever another node says that it has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.database import Sessions, reading
from dpn.errors import DpnError, PeerRefused
from dpn.registry.catalogue import BAGS, Applied, apply_from_peer
from dpn.registry.client import RegistryClient
from models.registry import SetAsideRecord

MOST_ASKED = 100
"""Bags asked for in one round, of all that a peer says have become its own: it must not have us flood another.
They are drawn, so that no number of false claims keeps a true one out for good."""


def ask_former_admins(
    heir: str, clients: Mapping[str, RegistryClient], sessions: Sessions, is_time_over: Callable[[], bool]
) -> Applied:
    """Asks for the bags that `heir` says are its own, those who administer them as far as we know.

    Who does not answer, or not before the time is over, is asked in another round.
    """
    with reading(sessions) as session:
        claims = _claims_of(session, heir)
    applied = Applied()
    silent: set[str] = set()
    for uuid, admin_node in claims:
        if is_time_over():
            break
        if admin_node not in clients or admin_node in silent:
            continue
        try:
            bag = clients[admin_node].get_bag(uuid)
        except PeerRefused:
            continue
        except DpnError:
            silent.add(admin_node)
            continue
        if bag.admin_node == heir:
            with sessions.begin() as session:
                applied += apply_from_peer(session, admin_node, [bag])
    return applied


def _claims_of(session: Session, heir: str) -> list[tuple[str, str]]:
    """Bags of others that the peer calls its own, and whose they are."""
    aside, bags = SetAsideRecord, BAGS.table.c
    statement = select(bags.uuid, bags.admin_node).where(
        aside.peer == heir,
        aside.kind == BAGS.name,
        aside.record_key == bags.uuid,
        aside.record["admin_node"].as_string() == heir,
        bags.admin_node != heir,
    )
    return [
        (row.uuid, row.admin_node) for row in session.execute(statement.order_by(func.random()).limit(MOST_ASKED))
    ]
