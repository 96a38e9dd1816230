"""What an operator may do to a deposit: what came to nothing is not tried again once another took its place."""

from __future__ import annotations

from sqlalchemy.orm import Session

from models.work import WorkItem
from workers.endings import StoringEndings


class DepositEndings(StoringEndings):
    """See the module's docstring."""

    def lock_for_retry(self, session: Session, item_id: int) -> None:
        from dpn.ingest.standing import lock_deposits_beside  # of the registry, which most processes do not load

        lock_deposits_beside(session, item_id)

    def refuse_retry(self, session: Session, item: WorkItem) -> str | None:
        from dpn.ingest.standing import replaced_by

        return replaced_by(session, item)
