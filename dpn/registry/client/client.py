"""What we ask of another node's registry, with every answer held against what was asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import requests

from dpn.clock import Clock, SystemClock
from dpn.errors import PeerRefused
from dpn.registry import strict_json
from dpn.registry.client.calls import MAX_ANSWER_BYTES, PeerCalls
from dpn.registry.client.lists import PeerLists
from dpn.registry.client.rows import RejectedRecord
from dpn.registry.client.session import peer_session
from dpn.registry.records import (
    BagRecord,
    DigestRecord,
    FixityCheckRecord,
    IngestRecord,
    InvalidRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    RestoreRecord,
)
from dpn.registry.settings import RegistryAccess
from dpn.registry.wire import parse_namespace, parse_short_name, parse_uuid

R = TypeVar("R", bound=Record)

HTTP_NOT_FOUND = 404
FIXED_BY_ITS_OWNER = ("from_node", "to_node", "bag")


class RegistryClient:
    """The registry of the node `peer`. Any number of threads may use it at once.

    Every call may raise PeerUnavailable (service `peer:<name>`: down, slow, or talking nonsense), PeerRefused (its
    registry says no, 404 included) and Misconfigured (our token or CA file is not right).

    Calls go over `session`, by default over one whose sockets keep them within the time that `settings` give and
    within `max_answer_bytes`; `pause` waits so many seconds before what only reads is asked once more.
    """

    def __init__(
        self,
        peer: str,
        settings: RegistryAccess,
        *,
        clock: Clock | None = None,
        session: requests.Session | None = None,
        pause: Callable[[float], None] = time.sleep,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.peer = peer
        self._calls = PeerCalls(
            peer,
            settings,
            clock=clock or SystemClock(),
            session=session or peer_session(settings),
            pause=pause,
            max_answer_bytes=max_answer_bytes,
        )
        self._lists = PeerLists(self._calls)

    @property
    def time_there(self) -> datetime | None:
        """What the peer's clock showed when it last answered a GET; None where it does not tell."""
        return self._calls.time_there

    @property
    def bytes_read(self) -> int:
        """How many bytes the peer's answers have had so far."""
        return self._calls.bytes_read

    def get_node(self, namespace: str) -> NodeRecord:
        """A node as the peer knows it."""
        key = parse_namespace(namespace)
        return self._record(self._calls.get(f"node/{key}/").value, NodeRecord, {"namespace": key})

    def get_member(self, member_id: str) -> MemberRecord:
        key = parse_uuid(member_id)
        return self._record(self._calls.get(f"member/{key}/").value, MemberRecord, {"member_id": key})

    def get_bag(self, uuid: str) -> BagRecord:
        key = parse_uuid(uuid)
        return self._record(self._calls.get(f"bag/{key}/").value, BagRecord, {"uuid": key})

    def get_digest(self, bag: str, algorithm: str) -> DigestRecord | None:
        """The digest of the bag's tag manifest, or None if the peer has none."""
        key, algorithm = parse_uuid(bag), parse_short_name(algorithm)
        try:
            value = self._calls.get(f"bag/{key}/digest/{algorithm}/").value
        except PeerRefused as error:
            if error.status == HTTP_NOT_FOUND:
                return None
            raise
        return self._record(value, DigestRecord, {"bag": key, "algorithm": algorithm})

    def get_transfer(self, replication_id: str) -> ReplicationRecord:
        key = parse_uuid(replication_id)
        return self._record(self._calls.get(f"replicate/{key}/").value, ReplicationRecord, {"replication_id": key})

    def put_transfer(self, record: ReplicationRecord) -> ReplicationRecord:
        """Sends the whole record; returns it as it is at the peer now, verdict included.

        Sent once. After PeerUnavailable it may have arrived or not: get the transfer before sending again.
        """
        taken = self._calls.put(f"replicate/{record.replication_id}/", record.to_wire())
        return self._record(taken, ReplicationRecord, _fixed(record))

    def get_restore(self, restore_id: str) -> RestoreRecord:
        key = parse_uuid(restore_id)
        return self._record(self._calls.get(f"restore/{key}/").value, RestoreRecord, {"restore_id": key})

    def put_restore(self, record: RestoreRecord) -> RestoreRecord:
        """Sends the whole record; returns it as it is at the peer now.

        Sent once. After PeerUnavailable it may have arrived or not: get the transfer before sending again.
        """
        taken = self._calls.put(f"restore/{record.restore_id}/", record.to_wire())
        return self._record(taken, RestoreRecord, _fixed(record))

    def list_nodes(self) -> Iterator[list[NodeRecord | RejectedRecord]]:
        """Page by page, every node that the peer knows, in its words. PeerRefused where it has no such list."""
        return self._lists.read("node", NodeRecord, {}, None, None)

    def list_members(
        self, *, after: datetime | None = None, before: datetime | None = None
    ) -> Iterator[list[MemberRecord | RejectedRecord]]:
        """Page by page, those changed last first. Peers that know no times here are read whole."""
        return self._lists.read("member", MemberRecord, {}, after, before)

    def list_bags(
        self,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        admin_node: str | None = None,
        ingest_node: str | None = None,
        bag_type: str | None = None,
    ) -> Iterator[list[BagRecord | RejectedRecord]]:
        """Page by page, those changed last first. `after` and `before` include their own second."""
        filters = {"admin_node": admin_node, "ingest_node": ingest_node, "bag_type": bag_type}
        return self._lists.read("bag", BagRecord, filters, after, before)

    def list_digests(
        self,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        bag: str | None = None,
        node: str | None = None,
    ) -> Iterator[list[DigestRecord | RejectedRecord]]:
        """Page by page, the newest first. Where the peer does not know `node`, others' digests are left out."""
        return self._lists.read("digest", DigestRecord, {"bag": bag, "node": node}, after, before)

    def list_ingests(
        self,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        bag: str | None = None,
        ingested: bool | None = None,
    ) -> Iterator[list[IngestRecord | RejectedRecord]]:
        """Page by page, usually the newest first."""
        return self._lists.read("ingest", IngestRecord, {"bag": bag, "ingested": ingested}, after, before)

    def list_fixity_checks(
        self,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        bag: str | None = None,
        node: str | None = None,
        success: bool | None = None,
    ) -> Iterator[list[FixityCheckRecord | RejectedRecord]]:
        """Page by page, usually the newest first."""
        filters = {"bag": bag, "node": node, "success": success}
        return self._lists.read("fixity_check", FixityCheckRecord, filters, after, before)

    def list_transfers(
        self,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        from_node: str | None = None,
        to_node: str | None = None,
        bag: str | None = None,
        store_requested: bool | None = None,
        stored: bool | None = None,
        cancelled: bool | None = None,
    ) -> Iterator[list[ReplicationRecord | RejectedRecord]]:
        """Page by page, those changed last first."""
        filters = {
            "from_node": from_node,
            "to_node": to_node,
            "bag": bag,
            "store_requested": store_requested,
            "stored": stored,
            "cancelled": cancelled,
        }
        return self._lists.read("replicate", ReplicationRecord, filters, after, before)

    def list_restores(
        self,
        *,
        after: datetime | None = None,
        before: datetime | None = None,
        from_node: str | None = None,
        to_node: str | None = None,
        bag: str | None = None,
        accepted: bool | None = None,
        finished: bool | None = None,
        cancelled: bool | None = None,
    ) -> Iterator[list[RestoreRecord | RejectedRecord]]:
        """Page by page, those changed last first."""
        filters = {
            "from_node": from_node,
            "to_node": to_node,
            "bag": bag,
            "accepted": accepted,
            "finished": finished,
            "cancelled": cancelled,
        }
        return self._lists.read("restore", RestoreRecord, filters, after, before)

    def list_state(self, kind: str, **filters: str | bool | None) -> str | None:
        """What the state of the list of `kind` records (`bag`, `replicate` …) with these filters is known by.

        Where the peer says it twice alike, no record of the list has changed between the two times. None where it
        does not say: then the list has to be read.
        """
        return self._lists.state(kind, filters)

    def list_count(self, kind: str, **filters: str | bool | None) -> int:
        """How many records the peer says that this list has."""
        return self._lists.count(kind, filters)

    def close(self) -> None:
        """Closes the connections. The client may be used again."""
        self._calls.close()

    def _record(self, value: Any, record_type: type[R], expected: dict[str, Any]) -> R:
        """The record in an answer, if it is the one that was asked for."""
        if flaw := strict_json.flaw_of(value):
            raise self._calls.nonsense(f"a record with {flaw}")
        try:
            record = record_type.from_wire(value)
        except InvalidRecord as error:
            raise self._calls.nonsense(f"a record that is none: {error}") from error
        for name, wanted in expected.items():
            if getattr(record, name) != wanted:
                raise self._calls.nonsense(f"another record than was asked for: {name} is not {wanted}")
        return record


def _fixed(transfer: ReplicationRecord | RestoreRecord) -> dict[str, Any]:
    """What an answer must repeat: who the transfer is between, and of what."""
    return {name: getattr(transfer, name) for name in (*transfer.KEY, *FIXED_BY_ITS_OWNER)}
