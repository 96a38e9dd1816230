"""Copies asked out of cold storage by an operator's command. That is billed, so it is in the trail and counts for
the budget before the store is asked; only what the store has surely not taken counts for nothing.
"""

from __future__ import annotations

from typing import Any

from dpn.audit.trail import Event, EventType, record
from dpn.cancellation import Cancellation
from dpn.cli.node import operator
from dpn.errors import Misconfigured, StoreMissing
from dpn.fixity.thaw_budget import ColdBudget
from dpn.node import OpenNode
from dpn.storage.availability import RestoreRequested
from dpn.storage.store import Store


def request_thaw(
    node: OpenNode,
    store: Store,
    key: str,
    *,
    bag: str,
    size: int,
    version_id: str | None = None,
    url: str | None = None,
    cancellation: Cancellation,
) -> RestoreRequested:
    """Has the cold object made readable, by the tier and for the days of `[fixity]`; no budget holds that back.

    Raises what `Store.request_restore` does.
    """
    settings = node.settings.fixity
    tier, days = settings.retrieval_tier, settings.keep_restored_days
    told = {"store": store.name, "key": key, "url": url, "size": size, "tier": tier, "days": days}
    budget = ColdBudget(node.sessions, settings.max_cold_bytes_per_month, node.clock)
    noted = budget.note(bag=bag, size=size, tier=tier)
    _tell(node, bag, "pending", **told)
    try:
        asked = store.request_restore(key, tier=tier, days=days, version_id=version_id, cancellation=cancellation)
    except (StoreMissing, Misconfigured):
        budget.forget(noted)
        raise
    if asked.outcome not in ("accepted", "faster"):
        budget.forget(noted)
    _tell(node, bag, asked.outcome, **told, storage_class=asked.storage_class)
    return asked


def _tell(node: OpenNode, bag: str, outcome: str, **detail: Any) -> None:
    with node.sessions.begin() as session:
        event = Event(EventType.RESTORE_REQUESTED, bag, outcome, detail)
        record(session, [event], agent=operator(), at=node.clock.now())
