"""Which work items there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.errors import PermanentError
from models.work import WorkItem

PAGE = 500


class NoSuchItem(PermanentError):
    """There is no work item with that id: `dpn items` lists what there is."""


@dataclass(frozen=True)
class ItemFilter:
    """Which items to list; what is None does not matter."""

    task: str | None = None
    stage: str | None = None
    status: str | None = None
    needs_attention: bool | None = None


def find_item(session: Session, item_id: int, *, lock: bool = False) -> WorkItem:
    """Raises NoSuchItem."""
    item = session.get(WorkItem, item_id, with_for_update=lock or None)
    if item is None:
        raise NoSuchItem(f"no work item {item_id}: `dpn items` lists what there is")
    return item


def list_items(session: Session, wanted: ItemFilter) -> Iterator[WorkItem]:
    """All matching items by id, read a page at a time."""
    after = 0
    while True:
        statement = select(WorkItem).where(WorkItem.id > after).order_by(WorkItem.id).limit(PAGE)
        for column in ("task", "stage", "status", "needs_attention"):
            value = getattr(wanted, column)
            if value is not None:
                statement = statement.where(getattr(WorkItem, column) == value)
        page = session.scalars(statement).all()
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id
        session.expunge_all()
