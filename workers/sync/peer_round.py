"""One peer's part of a round of dpn_sync: what is read from it, list by list, and how far that has come.

A mark moves only when its walk has come to its end and all of it is either in the registry or set aside: whatever
dies, the next round repeats work and misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import DATABASE_AWAY, Sessions, insert_missing, reading
from dpn.errors import DpnError, Misconfigured
from dpn.registry.catalogue import (
    KINDS,
    NODES,
    Applied,
    Kind,
    UnreadableRow,
    apply_from_peer,
    count_set_aside,
    expire,
    set_aside,
    settle,
    take_up,
)
from dpn.registry.client import IncompleteList, NoAnswer, RegistryClient, RejectedRecord
from dpn.registry.client.batches import Rows, records_of, unusable_of
from dpn.registry.records import Record
from dpn.telemetry.logs import Log
from models.registry import SyncMark
from workers.sync.handovers import ask_former_admins
from workers.sync.lists import PeerList, lists_of
from workers.sync.results import SET_ASIDE, PeerResult, TypeResult

OVERLAP = timedelta(minutes=10)
"""How far before its mark a walk begins: stamps have whole seconds, and what is stamped first may be seen last."""


MAX_CLAIMS_LOGGED = 20


class OutOfTime(DpnError):
    """Reading the peer takes longer than a round over all may: sync it by itself, with --node."""


class OverQuota(DpnError):
    """The peer shows more that is new than a round over all takes of it: sync it by itself, if that is right."""


@dataclass(frozen=True)
class Quota:
    """How much a round takes of records of one peer that were not here, adopted or set aside."""

    records: int
    bytes: int
    """On the wire, about: as if all records of the peer were of one size."""


@dataclass(frozen=True)
class Mark:
    """How far a list has been read."""

    high_water: datetime | None = None
    list_state: str | None = None

    @property
    def start(self) -> datetime | None:
        """Where the next walk begins; none for the beginning."""
        try:
            return None if self.high_water is None else self.high_water - OVERLAP
        except OverflowError:
            return None


class PeerRound:
    """See the module's docstring; `run` in a thread of its own, nothing else beside it."""

    def __init__(
        self,
        peer: str,
        client: RegistryClient,
        sessions: Sessions,
        clock: Clock,
        log: Log,
        full: bool,
        until: float | None,
        quota: Quota | None,
    ) -> None:
        self.result = PeerResult(peer)
        self._peer = peer
        self._client = client
        self._sessions = sessions
        self._clock = clock
        self._log = log
        self._full = full
        self._until = until
        self._quota = quota
        self._bytes_before = client.bytes_read
        self._marks: dict[str, Mark] = {}
        self._has_overflowed = False

    def run(self) -> PeerResult:
        started = self._clock.monotonic()
        steps: list[tuple[str, Callable[[], None]]] = [("node", self._begin)]
        steps += [(each.name, partial(self._read, each)) for each in lists_of(self._peer, self._client)]
        all(self.step(name, work) for name, work in steps)
        self.step(SET_ASIDE, self.take_up_again)
        self.result.seconds = round(self._clock.monotonic() - started, 3)
        return self.result

    @property
    def waits_for_others(self) -> bool:
        """Whether some of what is set aside speaks of bags that are not here."""
        return SET_ASIDE in self.result.types and "404" in self.result.of(SET_ASIDE).refused_by

    def step(self, name: str, work: Callable[[], None]) -> bool:
        """Does one step; its failure is told and stops no other. False: the others would fare no better."""
        try:
            work()
        except (NoAnswer, Misconfigured, OutOfTime, OverQuota, *DATABASE_AWAY) as error:
            self.result.error = str(error)
            return False
        except (DpnError, SQLAlchemyError) as error:
            self.result.of(name).error = str(error)
        except Exception as error:  # noqa: BLE001  (what one peer makes us stumble over is its own affair)
            self.result.of(name).error = repr(error)
            self._log.error("sync of a node broke off", peer=self._peer, type=name, exc_info=error)
        return True

    def take_up_again(self) -> None:
        """Tries again what was set aside, earlier or just now: what it refers to may have come meanwhile."""
        with reading(self._sessions) as session:
            if not count_set_aside(session).get(self._peer):
                self.result.set_aside = 0
                return
        before = self.result.of(SET_ASIDE)
        self.result.types[SET_ASIDE] = again = TypeResult(added=before.added, updated=before.updated)
        for kind in KINDS:
            with self._sessions() as session:
                for records in take_up(session, self._peer, kind):
                    again.count(self._apply(session, kind, records, (), seen=False))
                    again.fetched += len(records)
                    session.commit()
        with self._sessions.begin() as session:
            expired = expire(session, self._peer, self._clock.now())
            self.result.set_aside = count_set_aside(session).get(self._peer, 0)
        if expired:
            self._log.warning("set aside for too long: forgotten", peer=self._peer, records=expired)

    def take_over_bags(self, clients: Mapping[str, RegistryClient]) -> None:
        """Bags that others administered until now, and that they say are this peer's, too."""
        applied = ask_former_admins(self._peer, clients, self._sessions, lambda: self._is_time_over)
        if applied.updated:
            self.result.of(SET_ASIDE).count(applied)
            self.take_up_again()

    def _begin(self) -> None:
        """The marks; then the peer's own record: the rules take of it what it may say about itself."""
        columns = (SyncMark.record_type, SyncMark.high_water, SyncMark.list_state)
        with reading(self._sessions) as session:
            rows = session.execute(select(*columns).where(SyncMark.peer == self._peer))
            self._marks = {name: Mark(high_water, state) for name, high_water, state in rows}
        self._take(NODES, [self._client.get_node(self._peer)], self.result.of("node"))

    def _read(self, peer_list: PeerList) -> None:
        """Walks one list to its end, batch by batch, each in a transaction, then moves the mark."""
        result = self.result.of(peer_list.name)
        if missing := [name for name in peer_list.needs if name not in self._marks]:
            result.error = f"not read before {', '.join(missing)} could be"
            return
        self._require_time()
        mark, now = self._marks.get(peer_list.name, Mark()), self._clock.now()
        state = self._client.list_state(peer_list.kind.name, **peer_list.filters)
        if state is not None and state == mark.list_state and not self._full:
            result.nothing_new = True
            self._move(peer_list, mark)
            return
        # By its own stamps, but never ahead of us or of its own clock: one record stamped in 2199, or before its
        # clock was put right, must not hide what follows.
        now = min(now, self._client.time_there or now)
        start = None if self._full or peer_list.is_read_whole else mark.start
        try:
            newest = self._walk(peer_list, start, mark.high_water, now)
            # Some may have been entered late, with stamps of long before. Servers that do not vouch for their
            # lists are not asked: they count what was not asked for, too.
            if start is not None and state is not None and self._lacks_some(peer_list):
                newest = self._walk(peer_list, None, newest, now)
        except IncompleteList:  # all that shows has been read: what needs it need not wait for a right count
            self._marks.setdefault(peer_list.name, mark)
            raise
        self._move(peer_list, Mark(newest, state))

    def _walk(
        self, peer_list: PeerList, start: datetime | None, newest: datetime | None, now: datetime
    ) -> datetime | None:
        """Takes what has changed since `start`; returns the newest stamp, of these and `newest`, until `now`."""
        result = self.result.of(peer_list.name)
        for rows in peer_list.batches(start, self._require_time):
            self._take(peer_list.kind, rows, result)
            self._require_quota()
            stamps = [min(record.stamp, now) for record in records_of(rows)]
            newest = max([*stamps, *([newest] if newest else [])], default=None)
        return newest

    def _lacks_some(self, peer_list: PeerList) -> bool:
        if not peer_list.filters:
            return False
        theirs = self._client.list_count(peer_list.kind.name, **peer_list.filters)
        with reading(self._sessions) as session:
            return peer_list.known_of(session, self._peer) < theirs

    def _take(self, kind: Kind[Any], rows: Rows, result: TypeResult) -> None:
        records, unusable = records_of(rows), unusable_of(rows)
        with self._sessions.begin() as session:
            applied = self._apply(session, kind, records, unusable)
        result.fetched += len(rows)
        result.count(applied)
        result.count_unusable(unusable)

    def _apply(
        self,
        session: Session,
        kind: Kind[Any],
        records: Sequence[Record],
        unusable: Sequence[RejectedRecord],
        *,
        seen: bool = True,
    ) -> Applied:
        """Adopts what can be, sets the others aside, forgets what had been set aside of those adopted."""
        # In one order for all: two peers that show the same members must not wait for each other.
        applied = apply_from_peer(session, self._peer, sorted(records, key=lambda record: record.key))
        unreadable = [UnreadableRow(kind.name, row.reason, row.raw) for row in unusable if not row.unasked]
        dropped = set_aside(session, self._peer, [*applied.refused, *unreadable], self._clock.now(), seen=seen)
        refused = {one.key for one in applied.refused}
        settle(session, self._peer, kind, [record.key for record in records if record.key not in refused])
        if dropped:
            self._forget_marks(session, dropped)
        if seen:
            self._tell_of_rivals(kind, applied)
        return applied

    def _tell_of_rivals(self, kind: Kind[Any], applied: Applied) -> None:
        claims = [one for one in applied.refused if one.rival and one.status == HTTPStatus.CONFLICT]
        if claims:
            self._log.error(
                "two nodes claim one record",
                peer=self._peer,
                type=kind.name,
                records=len(claims),
                first={"/".join(one.key): one.rival for one in claims[:MAX_CLAIMS_LOGGED]},
            )

    def _forget_marks(self, session: Session, dropped: int) -> None:
        """Some of what is set aside had to go for newer: the next round reads all again, and loses nothing."""
        self._has_overflowed = True
        session.execute(delete(SyncMark).where(SyncMark.peer == self._peer))
        self._log.warning("too much is set aside: read anew in the next round", peer=self._peer, dropped=dropped)

    def _move(self, peer_list: PeerList, mark: Mark) -> None:
        self._marks[peer_list.name] = mark
        if self._has_overflowed:
            return
        key = {"peer": self._peer, "record_type": peer_list.name}
        with self._sessions.begin() as session:
            insert_missing(session, SyncMark, [key])
            row = session.get_one(SyncMark, tuple(key.values()), with_for_update=True)
            row.high_water, row.list_state = mark.high_water, mark.list_state
            row.succeeded_at = self._clock.now()

    def _require_quota(self) -> None:
        if self._quota is None:
            return
        lists = [one for name, one in self.result.types.items() if name != SET_ASIDE]
        new, fetched = sum(one.added + one.refused for one in lists), sum(one.fetched for one in lists)
        size = (self._client.bytes_read - self._bytes_before) * new // max(fetched, 1)
        if new <= self._quota.records and size <= self._quota.bytes:
            return
        self._log.error("a peer shows more new records than one round takes", peer=self._peer, new=new, bytes=size)
        raise OverQuota(
            f"{self._peer} shows more that is new than one round takes: {new} records, {size >> 20} MiB. The rest "
            f"is the next round's: if that is too much, remove its [peers] table; if it is right, "
            f"`dpn sync --node {self._peer}` reads it whole"
        )

    @property
    def _is_time_over(self) -> bool:
        return self._until is not None and self._clock.monotonic() > self._until

    def _require_time(self) -> None:
        if self._is_time_over:
            raise OutOfTime(
                f"reading {self._peer} takes longer than a round over all nodes may: "
                f"read it once by itself, with `dpn sync --node {self._peer}`"
            )
