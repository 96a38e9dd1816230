"""dpn_sync: pulls the other nodes' records into our registry; misses nothing, believes each only about its own.

All peers at once, each by itself: one that is down delays nobody. How far we have read is kept for each peer and
kind of record, by the peer's own stamps; every walk begins a little before that, and what is read twice changes
nothing. A mark moves only when its walk has come to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError

from dpn.clock import Clock
from dpn.database import Sessions, insert_missing, reading
from dpn.errors import DpnError, PeerRefused
from dpn.registry.catalogue import Applied, RefusedRecord, apply_from_peer
from dpn.registry.client import RegistryClient, RejectedRecord
from dpn.registry.records import DigestRecord, Record
from dpn.telemetry.logs import Log
from models.registry import SyncMark

OVERLAP = timedelta(minutes=10)
"""How far before its mark a walk begins: stamps have whole seconds, and a peer's clock may step back a little."""

BELIEVABLE_AHEAD = timedelta(days=1)
"""How far a peer's clock may be ahead: one record stamped in 2099 must not hide all that follow it."""

HOLD_FOR = timedelta(days=7)
"""How long a record whose bag is not here is read again with every run; after that, `--full` finds it."""

MAX_THREADS = 8
MAX_REFUSALS_KEPT = 20


@dataclass
class TypeResult:
    """What became of one kind of record of one peer."""

    fetched: int = 0
    added: int = 0
    updated: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)
    """The first few reasons."""


@dataclass
class PeerResult:
    """What one run read from one peer. `error` is why the rest could not be read."""

    peer: str
    types: dict[str, TypeResult] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class Walk:
    """How one kind of record is read from a peer, given the stamp to start from."""

    name: str
    pages: Callable[[datetime | None], Iterable[Sequence[Record | object]]]


@dataclass(frozen=True)
class Sync:
    """See the module's docstring."""

    clients: Mapping[str, RegistryClient]
    sessions: Sessions
    clock: Clock
    log: Log

    def run(self, *, only: str | None = None, full: bool = False) -> list[PeerResult]:
        """One round over all peers, or `only` one; `full` reads everything again, whatever the marks say."""
        peers = [peer for peer in self.clients if only in (None, peer)]
        with ThreadPoolExecutor(min(MAX_THREADS, max(1, len(peers)))) as threads:
            return list(threads.map(lambda peer: self._sync_peer(peer, full), peers))

    def _sync_peer(self, peer: str, full: bool) -> PeerResult:
        result = PeerResult(peer)
        started = self.clock.monotonic()
        try:
            self._sync_node(peer, result)
            for walk in walks(peer, self.clients[peer]):
                self._sync_type(peer, walk, result.types.setdefault(walk.name, TypeResult()), full)
        except (DpnError, SQLAlchemyError) as error:
            result.error = str(error)
        except Exception as error:  # whatever one peer makes us stumble over is its own affair
            result.error = repr(error)
            self.log.error("sync of a node broke off", peer=peer, exc_info=error)
        result.seconds = round(self.clock.monotonic() - started, 3)
        report = self.log.info if result.ok else self.log.error
        report(
            "sync of a node",
            peer=peer,
            ok=result.ok,
            error=result.error,
            seconds=result.seconds,
            types={name: vars(of_type) for name, of_type in result.types.items()},
        )
        return result

    def _sync_node(self, peer: str, result: PeerResult) -> None:
        """The peer's own record: only what it may say about itself, which the registry's rules decide."""
        of_node = result.types.setdefault("node", TypeResult())
        try:
            record = self.clients[peer].get_node(peer)
        except PeerRefused as error:  # no reason to do without all its other records
            _refuse(of_node, str(error))
            return
        with self.sessions.begin() as session:
            _count(of_node, 1, apply_from_peer(session, peer, [record]))

    def _sync_type(self, peer: str, walk: Walk, result: TypeResult, full: bool) -> None:
        """Walks one kind of record to its end, page by page, each page in a transaction, then moves the mark."""
        mark = self._mark(peer, walk.name)
        high_water, hold_at = mark, None
        for page in walk.pages(None if full or mark is None else mark - OVERLAP):
            records = [row for row in page if isinstance(row, Record)]
            with self.sessions.begin() as session:
                applied = apply_from_peer(session, peer, records)
            _count(result, len(page), applied)
            for unread in (row for row in page if not isinstance(row, Record)):
                _refuse(result, str(unread))
            stamps = [min(record.stamp, self.clock.now() + BELIEVABLE_AHEAD) for record in records]
            high_water = max([*stamps, *([high_water] if high_water else [])], default=None)
            again = _stamps_to_see_again(records, applied.refused, since=self.clock.now() - HOLD_FOR)
            hold_at = min([*again, *([hold_at] if hold_at else [])], default=None)
        self._move_mark(peer, walk.name, min(filter(None, (high_water, hold_at)), default=None))

    def _mark(self, peer: str, record_type: str) -> datetime | None:
        with reading(self.sessions) as session:
            mark = session.get(SyncMark, (peer, record_type))
            return mark.high_water if mark else None

    def _move_mark(self, peer: str, record_type: str, high_water: datetime | None) -> None:
        with self.sessions.begin() as session:
            insert_missing(session, SyncMark, [{"peer": peer, "record_type": record_type}])
            mark = session.get_one(SyncMark, (peer, record_type), with_for_update=True)
            mark.high_water = high_water
            mark.succeeded_at = self.clock.now()


def walks(peer: str, client: RegistryClient) -> Iterator[Walk]:
    """What is read from a peer, in the order in which records refer to each other; only what is the peer's own."""

    def bags_of(bag_type: str) -> Walk:
        return Walk(
            f"bag {bag_type}", lambda after: client.list_bags(after=after, admin_node=peer, bag_type=bag_type)
        )

    yield from (bags_of("I"), bags_of("R"), bags_of("D"))
    yield Walk("digest", lambda after: _of_node(peer, client.list_digests(after=after)))
    yield Walk("replicate", lambda after: client.list_transfers(after=after, from_node=peer))


def _of_node(
    peer: str, pages: Iterable[list[DigestRecord | RejectedRecord]]
) -> Iterator[list[DigestRecord | RejectedRecord]]:
    """Without the digests that others computed: the API has no filter for that, and they tell us themselves."""
    for page in pages:
        yield [row for row in page if not isinstance(row, DigestRecord) or row.node == peer]


def _stamps_to_see_again(
    records: Sequence[Record], refused: Sequence[RefusedRecord], *, since: datetime
) -> list[datetime]:
    """The stamps of those that refer to what is not here yet: they are read again next time, but not for ever."""
    missing = {refusal.key for refusal in refused if refusal.status == HTTPStatus.NOT_FOUND}
    return [record.stamp for record in records if record.key in missing and record.stamp >= since]


def _count(result: TypeResult, fetched: int, applied: Applied) -> None:
    result.fetched += fetched
    result.added += applied.added
    result.updated += applied.updated
    for refusal in applied.refused:
        _refuse(result, f"{refusal.kind} {'/'.join(refusal.key)}: {'; '.join(refusal.messages)}")


def _refuse(result: TypeResult, reason: str) -> None:
    result.refused += 1
    if len(result.refusals) < MAX_REFUSALS_KEPT:
        result.refusals.append(reason)
