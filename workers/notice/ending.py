"""A notice ends when its peer has heard it, and in no other way that an operator could choose."""

from __future__ import annotations

from dpn.work.endings import Endings
from models.work import WorkItem


class NoticeEndings(Endings):
    """See the module's docstring. It has nobody left to tell: it is the telling."""

    def refuse_cancel(self, item: WorkItem) -> str | None:
        return f"is what we owe {item.remote_node}: it ends when {item.remote_node} knows"
