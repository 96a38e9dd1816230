"""What we ask of another node's registry, with every answer held against what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeVar

from dpn.clock import Clock, SystemClock
from dpn.errors import PeerRefused
from dpn.registry import strict_json
from dpn.registry.client.calls import MAX_ANSWER_BYTES, PeerCalls
from dpn.registry.client.pages import (
    PAGE_SIZE,
    EndlessList,
    RowsOfAPage,
    read_page,
    walk,
)
from dpn.registry.client.rows import RejectedRecord, Wanted, read_row
from dpn.registry.records import (
    BagRecord,
    DigestRecord,
    InvalidRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
)
from dpn.registry.wire import format_instant, parse_instant, parse_namespace, parse_uuid
from dpn.settings import PeerSettings

R = TypeVar("R", bound=Record)

HTTP_NOT_FOUND = 404
FIXED_BY_ITS_OWNER = ("from_node", "to_node", "bag")


class RegistryClient:
    """The registry of the node `peer`. Any number of threads may use it at once.

    Every call may raise PeerUnavailable (service `peer:<name>`: down, slow, or talking nonsense), PeerRefused (its
    registry says no, 404 included) and Misconfigured (our token or CA file is not right).
    """

    def __init__(
        self,
        peer: str,
        settings: PeerSettings,
        *,
        clock: Clock | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.peer = peer
        self._calls = PeerCalls(peer, settings, clock=clock or SystemClock(), max_answer_bytes=max_answer_bytes)

    def get_node(self, namespace: str) -> NodeRecord:
        """A node as the peer knows it."""
        key = parse_namespace(namespace)
        return self._record(self._calls.get(f"node/{key}/"), NodeRecord, {"namespace": key})

    def get_bag(self, uuid: str) -> BagRecord:
        key = parse_uuid(uuid)
        return self._record(self._calls.get(f"bag/{key}/"), BagRecord, {"uuid": key})

    def get_digest(self, bag: str, algorithm: str) -> DigestRecord | None:
        """The digest of the bag's tag manifest; none if the peer has none."""
        key = parse_uuid(bag)
        try:
            value = self._calls.get(f"bag/{key}/digest/{algorithm}/")
        except PeerRefused as error:
            if error.status == HTTP_NOT_FOUND:
                return None
            raise
        return self._record(value, DigestRecord, {"bag": key, "algorithm": algorithm})

    def get_transfer(self, replication_id: str) -> ReplicationRecord:
        key = parse_uuid(replication_id)
        return self._record(self._calls.get(f"replicate/{key}/"), ReplicationRecord, {"replication_id": key})

    def put_transfer(self, record: ReplicationRecord) -> ReplicationRecord:
        """Sends the whole record; answers it as it is at the peer now, verdict included.

        Sent once. After PeerUnavailable it may have arrived or not: get the transfer before sending again.
        """
        same = {name: getattr(record, name) for name in ("replication_id", *FIXED_BY_ITS_OWNER)}
        value = self._calls.put(f"replicate/{record.replication_id}/", record.to_wire())
        return self._record(value, ReplicationRecord, same)

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
        return self._list("bag", BagRecord, filters, after, before)

    def list_digests(
        self, *, after: datetime | None = None, before: datetime | None = None, bag: str | None = None
    ) -> Iterator[list[DigestRecord | RejectedRecord]]:
        """Page by page, the newest first."""
        return self._list("digest", DigestRecord, {"bag": bag}, after, before)

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
        return self._list("replicate", ReplicationRecord, filters, after, before)

    def close(self) -> None:
        """Closes the connections. The client may be used again."""
        self._calls.close()

    def _list(
        self,
        path: str,
        record_type: type[R],
        filters: dict[str, Any],
        after: datetime | None,
        before: datetime | None,
    ) -> Iterator[list[R | RejectedRecord]]:
        wanted: Wanted[R] = Wanted(
            {name: value for name, value in filters.items() if value is not None},
            parse_instant(after) if after else None,
            parse_instant(before) if before else None,
        )
        parameters = _parameters(wanted) | {"order_by": record_type.STAMP, "page_size": str(PAGE_SIZE)}

        def fetch(number: int) -> RowsOfAPage:
            value = self._calls.get(f"{path}/", parameters | {"page": str(number)})
            try:
                return read_page(value)
            except ValueError as error:
                raise self._calls.nonsense(str(error)) from error

        try:
            for rows in walk(fetch):
                yield [read_row(row, record_type, wanted, peer=self.peer, kind=path) for row in rows]
        except EndlessList as error:
            raise self._calls.nonsense(f"its list of {path} records does not end: {error}") from error

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


def _parameters(wanted: Wanted[Any]) -> dict[str, str]:
    parameters = {name: _text(value) for name, value in wanted.values.items()}
    for name, instant in (("after", wanted.after), ("before", wanted.before)):
        if instant is not None:
            parameters[name] = format_instant(instant)
    return parameters


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()
