"""Going through what one peer and we have of its transfers: what reconciling any kind of them has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.errors import DpnError, PeerRefused
from dpn.registry.catalogue import RefusedRecord, set_aside
from dpn.registry.client import RegistryClient
from dpn.registry.client.batches import PAGES_AHEAD, ahead, in_batches, unusable_of
from dpn.work.pipeline import Pipelines
from workers.reconcile.results import Reconciled

BATCH = 500
SECONDS_A_PEER = 1800.0
"""How long one peer is asked: what is left is asked for next time."""

T = TypeVar("T")


@dataclass
class PeerWalk:
    """One round with one peer, in a thread of its own. `node` is ours."""

    peer: str
    client: RegistryClient
    node: str
    sessions: Sessions
    pipelines: Pipelines
    clock: Clock
    result: Reconciled = field(init=False)
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self.result = Reconciled(self.peer)
        self._until = self.clock.monotonic() + SECONDS_A_PEER

    @property
    def agent(self) -> str:
        return f"dpn_sync of {self.node}"

    def listed(self, pages: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """The rows of a list of the peer's, in batches; those that are not what was asked for are counted."""
        for rows in in_batches(ahead(pages, PAGES_AHEAD), BATCH):
            self.result.unusable += len(unusable_of(rows))
            self.require_time()
            yield rows

    def pages(self, key: ColumnElement[str] | InstrumentedAttribute[str], *where: Any) -> Iterator[list[str]]:
        """The ids that our database has, in batches."""
        last = ""
        while True:
            with reading(self.sessions) as session:
                statement = select(key).where(*where, key > last).order_by(key).limit(BATCH)
                page = list(session.scalars(statement))
            if page:
                yield page
            if len(page) < BATCH:
                return
            last = page[-1]

    def asked(self, get: Callable[[str], T], id_: str) -> T | None:
        """One record as the peer has it now; None if it does not know it."""
        self.require_time()
        try:
            return get(id_)
        except PeerRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def set_aside(self, session: Session, refused: Sequence[RefusedRecord]) -> None:
        set_aside(session, self.peer, refused, self.clock.now())
        self.result.set_aside += len(refused)

    def require_time(self) -> None:
        """Raises DpnError once the peer has had its time."""
        if self.clock.monotonic() > self._until:
            raise DpnError(
                f"asking {self.peer} takes more than {SECONDS_A_PEER:g} seconds: the rest is next time's"
            )
