"""How an open item ends whose transfer has ended at its owner, in the words of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpn.registry.records import ReplicationRecord
from dpn.work.outcomes import Fail, Outcome
from models.work import WorkItem
from workers.peers import Unwanted, require_live


def ended_at_owner(item: WorkItem, theirs: ReplicationRecord) -> Outcome:
    """What becomes of an open item now that its owner's record, `theirs`, is stored or cancelled."""
    peer, receipt = theirs.from_node, receipt_of(item)
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


def ends_by_itself(item: WorkItem, theirs: ReplicationRecord) -> bool:
    """Whether an open item need not be closed: it has stored the bag, its owner knows, and the stage that was
    interrupted after it had told the owner ends it with all that it notes then."""
    return theirs.stored and receipt_of(item) is not None


def receipt_of(item: WorkItem | None) -> Mapping[str, Any] | None:
    """The receipt in the item's manifest, which may be damaged."""
    receipt = item.manifest.get("receipt") if item is not None and isinstance(item.manifest, dict) else None
    return receipt if isinstance(receipt, dict) else None
