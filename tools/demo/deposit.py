"""Deposits the sources at a node as its operator would, and follows them until their bags are offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import reading
from dpn.ingest.submission import DepositRefused, submit
from dpn.registry.catalogue import BAGS, TRANSFERS, add_member, find, find_many
from dpn.registry.records import MemberRecord
from dpn.registry.rules import Caller
from dpn.registry.wire import utc_second
from models.manifests import IngestManifest
from models.work import Status, WorkItem
from tools.demo.sources import MEMBER, DemoSource
from tools.network.errors import Unusable
from tools.network.node import RunningNode
from workers.pipelines import PIPELINES


@dataclass(frozen=True)
class DemoBag:
    """A bag that is to be replicated. `sha256` is of the whole tar, `size` its bytes."""

    source: str
    uuid: str
    local_id: str
    size: int
    sha256: str | None
    """None while it is not packaged."""
    tag_manifest_sha256: str | None


@dataclass(frozen=True)
class Request:
    """One transfer: this bag to this node."""

    deposit: DemoBag
    to_node: str
    replication_id: str


@dataclass(frozen=True)
class DepositState:
    """Where the ingest of a source stands. `requests`: the transfers that it has asked for, once all are."""

    source: DemoSource
    item_id: int
    bag: str
    stage: str = "package"
    status: str = Status.PENDING
    note: str = ""
    requests: tuple[Request, ...] = ()

    @property
    def is_final(self) -> bool:
        return Status(self.status).is_final

    @property
    def is_offered(self) -> bool:
        """Whether there is nothing more to wait for before the other nodes do their part."""
        return bool(self.requests) or self.is_final

    def requests_to(self, nodes: Sequence[str]) -> list[Request]:
        """A request for each of `nodes`, in their order; for a bag that was not offered, as it would have been."""
        asked = {request.to_node: request for request in self.requests}
        said = self.source.request
        planned = DemoBag(self.source.given, self.bag, said.local_id, self.source.size, None, None)
        return [asked.get(node) or Request(planned, node, f"{self.bag} to {node}") for node in nodes]


class Ingests:
    """The ingests of all sources at `owner`, looked at as its operator would."""

    def __init__(self, owner: RunningNode, sources: Sequence[DemoSource], *, clock: Clock) -> None:
        """Submits them. Raises Unusable where one is refused."""
        self._owner = owner
        self._ingests: dict[int, DepositState] = {}
        with owner.sessions.begin() as session:
            _enter_member(session, owner.name, utc_second(clock.now()))
            for source in sources:
                try:
                    done = submit(
                        session,
                        source.request,
                        by="the demo",
                        node=owner.name,
                        pipelines=PIPELINES,
                        clock=clock,
                    )
                except DepositRefused as error:
                    raise Unusable(f"{source.given}: {error}") from error
                self._ingests[done.item] = DepositState(source, done.item, done.bag)

    def look(self) -> list[DepositState]:
        """Where every source is now, in the order in which they were given."""
        with reading(self._owner.sessions) as session:
            rows = session.scalars(select(WorkItem).where(WorkItem.id.in_(self._ingests))).all()
            self._ingests |= {item.id: _seen(session, self._ingests[item.id], item) for item in rows}
        return list(self._ingests.values())


def _enter_member(session: Session, us: str, now: datetime) -> None:
    member = MemberRecord(
        member_id=MEMBER, name="A demo", email="demo@example.org", created_at=now, updated_at=now
    )
    add_member(session, member, caller=Caller(us, us))


def _seen(session: Session, before: DepositState, item: WorkItem) -> DepositState:
    manifest = IngestManifest.read(item.manifest)
    requests = before.requests
    if not requests and isinstance(manifest, IngestManifest):
        requests = _requests(session, before.source, manifest)
    return DepositState(before.source, item.id, before.bag, item.stage, item.status, item.note, requests)


def _requests(session: Session, source: DemoSource, manifest: IngestManifest) -> tuple[Request, ...]:
    """The transfers, once all that were planned are in the registry."""
    bag = find(session, BAGS, manifest.deposit.bag)
    staged, judged = manifest.staged, manifest.validation
    planned = manifest.transfers
    known: Mapping[tuple[str, ...], object] = find_many(
        session, TRANSFERS, [(one.replication_id,) for one in planned]
    )
    if bag is None or staged is None or judged is None or not planned or len(known) < len(planned):
        return ()
    deposit = DemoBag(source.given, bag.uuid, bag.local_id, staged.size, judged.sha256, staged.tag_manifest_sha256)
    return tuple(Request(deposit, one.to_node, one.replication_id) for one in planned)
