"""What an operator may do to a deposit: what came to nothing is not tried again once another took its place."""

from __future__ import annotations

from sqlalchemy.orm import Session

from dpn.ingest.standing import lock_deposits_beside, replaced_by
from models.work import WorkItem
from workers.endings import StoringEndings


class DepositEndings(StoringEndings):
    """See the module's docstring."""

    def lock_for_retry(self, session: Session, item_id: int) -> None:
        lock_deposits_beside(session, item_id)

    def refuse_retry(self, session: Session, item: WorkItem) -> str | None:
        return replaced_by(session, item)
