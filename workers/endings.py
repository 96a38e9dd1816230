"""What an operator must not do to an item that has a stored copy, whichever pipeline it belongs to."""

from __future__ import annotations

from dpn.work.endings import Endings
from models.work import WorkItem


class StoringEndings(Endings):
    """Of items that put a bag into our store: one that has its receipt can only be finished."""

    def refuse_cancel(self, item: WorkItem) -> str | None:
        # Read as it stands: a manifest that is damaged elsewhere still says that there is a copy.
        if isinstance(item.manifest, dict) and item.manifest.get("receipt") is not None:
            return "already has a stored copy: it can only be finished, not cancelled"
        return None
