"""How an open item ends whose transfer has ended at its owner, in the words of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpn.clock import Clock
from dpn.registry.records import ReplicationRecord, RestoreRecord
from dpn.work.lifecycle import Change, Policy, Position, decide
from dpn.work.outcomes import Done, Fail, Outcome
from dpn.work.pipeline import Pipelines
from models.work import WorkItem
from workers.peers import Unwanted, require_live, require_wanted

NO_POLICY = Policy(attempts=1, backoff_first_seconds=0, backoff_max_seconds=0, attention_after_seconds=0)
"""For outcomes that end an item: none of it matters there."""


def ending(item: WorkItem, theirs: ReplicationRecord, pipelines: Pipelines, clock: Clock) -> Change:
    """What becomes of an open item now that its owner's record, `theirs`, is stored or cancelled."""
    return _change(item, _outcome(theirs, receipt_of(item)), pipelines, clock)


def ending_restore(item: WorkItem, theirs: RestoreRecord, pipelines: Pipelines, clock: Clock) -> Change:
    """What becomes of an open item now that its requester's record, `theirs`, is finished or cancelled."""
    return _change(item, _outcome_of_restore(theirs, _link_of(item)), pipelines, clock)


def receipt_of(item: WorkItem | None) -> Mapping[str, Any] | None:
    """The receipt in the item's manifest, which may be damaged."""
    receipt = item.manifest.get("receipt") if item is not None and isinstance(item.manifest, dict) else None
    return receipt if isinstance(receipt, dict) else None


def _change(item: WorkItem, outcome: Outcome, pipelines: Pipelines, clock: Clock) -> Change:
    position = Position(item.task, item.stage, item.attempts, item.waiting_since)
    return decide(position, outcome, pipelines=pipelines, policy=NO_POLICY, now=clock.now(), jitter=0.0)


def _outcome(theirs: ReplicationRecord, receipt: Mapping[str, Any] | None) -> Outcome:
    peer = theirs.from_node
    if theirs.stored and receipt is not None:
        return Done(f"stored at {receipt.get('url')}; {peer} knows", ends_item=True)
    if theirs.stored:
        return Fail("its owner believes that we have stored it, but we have no receipt: check the store for it")
    if receipt is not None:
        url = receipt.get("url")
        return Fail(f"{peer} cancelled the transfer after we had stored the bag: the copy stays at {url}")
    try:
        require_live(theirs, None)
    except Unwanted as unwanted:
        return unwanted.outcome
    raise ValueError("a transfer that has not ended ends no item")


def _outcome_of_restore(theirs: RestoreRecord, link: str | None) -> Outcome:
    if theirs.finished and link is not None and theirs.link == link:
        return Done(f"{theirs.to_node} has the bag", ends_item=True)
    try:
        require_wanted(theirs, None, None)
    except Unwanted as unwanted:
        return unwanted.outcome
    raise ValueError("a transfer that has not ended ends no item")


def _link_of(item: WorkItem) -> str | None:
    """Where we put the bag for its requester, if we did; the manifest may be damaged."""
    link = item.manifest.get("link") if isinstance(item.manifest, dict) else None
    return link if isinstance(link, str) else None
