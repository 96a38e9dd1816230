"""How an open item ends whose request has ended at the node that asked, in the words of the stages."""

from __future__ import annotations

from dpn.registry.records import RestoreRecord
from dpn.work.outcomes import Done, Outcome
from models.work import WorkItem
from workers.peers import Unwanted, require_wanted


def ended_at_requester(item: WorkItem, theirs: RestoreRecord) -> Outcome:
    """What becomes of an open item now that its requester's record, `theirs`, is finished or cancelled."""
    link = _link_of(item)
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
