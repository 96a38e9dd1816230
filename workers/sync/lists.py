"""What is read from a peer, in the order in which records refer to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.registry.catalogue import BAGS, DIGESTS, FIXITY_CHECKS, INGESTS, MEMBERS, RESTORES, TRANSFERS, Kind
from dpn.registry.client import RegistryClient
from dpn.registry.client.batches import PAGES_AHEAD, Rows, ahead, in_batches
from models.registry import SetAsideRecord

BATCH = 1_000
"""Records a transaction: so many cost little more than one."""


@dataclass(frozen=True)
class PeerList:
    """One list of a peer's. Before those that it `needs` were read to their ends once, it is not worth reading."""

    name: str
    kind: Kind[Any]
    pages: Callable[..., Iterator[Rows]]
    filters: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    is_read_whole: bool = False
    """From the beginning, whenever anything changed: its stamps are of many clocks, and do not say what is new."""

    def batches(self, after: datetime | None, after_each_page: Callable[[], None]) -> Iterator[Rows]:
        """What has changed since `after`, in batches; the peer is asked for more while one is worked on, until
        `after_each_page` raises."""
        return in_batches(ahead(self._pages(after, after_each_page), PAGES_AHEAD), BATCH)

    def _pages(self, after: datetime | None, after_each_page: Callable[[], None]) -> Iterator[Rows]:
        for rows in self.pages(after=after, **self.filters):
            yield rows
            after_each_page()

    def known_of(self, session: Session, peer: str) -> int:
        """How many of its records are here, or set aside. Only for lists that are the peer's alone."""
        conditions = [self.kind.condition(name, value) for name, value in self.filters.items()]
        aside = (SetAsideRecord.peer == peer) & (SetAsideRecord.kind == self.kind.name)
        here = session.scalar(select(func.count()).select_from(self.kind.table).where(*conditions))
        return (here or 0) + (session.scalar(select(func.count()).select_from(SetAsideRecord).where(aside)) or 0)


def lists_of(peer: str, client: RegistryClient) -> tuple[PeerList, ...]:
    """All that is the peer's to say, what is referred to first."""
    bags = tuple(f"bag {letter}" for letter in "IRD")
    return (
        PeerList("member", MEMBERS, client.list_members, is_read_whole=True),
        *(PeerList(f"bag {x}", BAGS, client.list_bags, {"admin_node": peer, "bag_type": x}) for x in "IRD"),
        PeerList("digest", DIGESTS, client.list_digests, {"node": peer}, bags),
        PeerList("ingest", INGESTS, client.list_ingests, {}, bags),
        PeerList("fixity_check", FIXITY_CHECKS, client.list_fixity_checks, {"node": peer}, bags),
        PeerList("replicate", TRANSFERS, client.list_transfers, {"from_node": peer}, bags),
        PeerList("restore", RESTORES, client.list_restores, {"to_node": peer}, bags),
    )
