"""Speaking with the owner of a transfer (a replication's from_node, a restore's to_node): every call behind the
peer's breaker, every answer held against what we accepted. A change of what must not change stops the item instead
of being followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dpn.errors import DpnError, Misconfigured, PeerRefused, TransientError
from dpn.registry.records import BagRecord, DigestRecord, ReplicationRecord, RestoreRecord, why_cancelled
from dpn.registry.rules.flags import CancelReason
from dpn.work.breakers import Breakers
from dpn.work.outcomes import Fail, Outcome, Stopped
from models.manifests import RestoreFacts, TransferFacts
from workers.cancellations import TransferCancellation

T = TypeVar("T")

HTTP_FORBIDDEN = 403
HTTP_NOT_FOUND = 404

PINNED = ("replication_id", "from_node", "to_node", "bag", "link", "fixity_algorithm")
"""What neither side may change once the transfer exists (DPN REST API v2: immutable)."""


class PeerClient(Protocol):
    """What we ask of an owner's registry; `dpn.registry.client.RegistryClient` is one."""

    def get_transfer(self, replication_id: str) -> ReplicationRecord: ...
    def put_transfer(self, record: ReplicationRecord) -> ReplicationRecord: ...
    def get_restore(self, restore_id: str) -> RestoreRecord: ...
    def put_restore(self, record: RestoreRecord) -> RestoreRecord: ...
    def get_bag(self, uuid: str) -> BagRecord: ...
    def get_digest(self, bag: str, algorithm: str) -> DigestRecord | None: ...


class Unwanted(DpnError):
    """The transfer cannot go on; `outcome` says how the item ends."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


@dataclass(frozen=True)
class Peers:
    """The registries of all peers that we know, by namespace."""

    clients: Mapping[str, PeerClient]
    breakers: Breakers

    def of(self, peer: str | None) -> Peer:
        """Raises Misconfigured for a peer that our settings do not name."""
        if peer is None or peer not in self.clients:
            raise Misconfigured(f"no [peers.{peer}] in the settings: add it, or cancel the item")
        return Peer(peer, self.clients[peer], self.breakers)


@dataclass(frozen=True)
class Peer:
    """One of them."""

    peer: str
    client: PeerClient
    breakers: Breakers

    def transfer(self, replication_id: str) -> ReplicationRecord:
        """The transfer as its owner has it now. Raises Unwanted if the owner does not know it."""
        with self._asked(transfer_id=replication_id):
            return self.client.get_transfer(replication_id)

    def restore(self, restore_id: str) -> RestoreRecord:
        """The restore transfer as its owner has it now. Raises Unwanted if the owner does not know it."""
        with self._asked(transfer_id=restore_id):
            return self.client.get_restore(restore_id)

    def put(self, record: ReplicationRecord) -> ReplicationRecord:
        """Writes our part of the transfer; returns the record with the owner's verdict in it.

        Raises TransientError if the owner refuses: it may have moved on meanwhile, so get it and think again.
        """
        with self._asked(refused=f"{self.peer} did not take our update of the transfer: "):
            return self.client.put_transfer(record)

    def put_restore(self, record: RestoreRecord) -> RestoreRecord:
        """As `put`, for a restore transfer."""
        with self._asked(refused=f"{self.peer} did not take our update of the transfer: "):
            return self.client.put_restore(record)

    def bag(self, uuid: str) -> BagRecord:
        """Raises TransientError if the owner does not show it: it may be restoring its registry."""
        with self._asked():
            return self.client.get_bag(uuid)

    def digest(self, bag: str, algorithm: str) -> DigestRecord | None:
        """The owner's digest of the bag's tag manifest, or None. Raises TransientError as `bag` does."""
        with self._asked():
            return self.client.get_digest(bag, algorithm)

    @contextmanager
    def _asked(self, *, transfer_id: str | None = None, refused: str = "") -> Iterator[None]:
        """Wraps a call of the client: behind the peer's breaker; a refusal becomes what it means to an item.

        A refusal says nothing against the transfer: no reason to give it up at once, unless it is unknown there.
        """
        try:
            with self.breakers.guard(f"peer:{self.peer}"):
                yield
        except PeerRefused as error:
            if error.status == HTTP_FORBIDDEN:
                text = f"{self.peer} forbids it to us (HTTP 403: {error.message}): ask its operators to let us"
                raise Misconfigured(text) from error
            if error.status == HTTP_NOT_FOUND and transfer_id is not None:
                raise Unwanted(Fail(f"{self.peer} does not know transfer {transfer_id} any more")) from error
            raise TransientError(f"{refused}{error}") from error


def require_live(record: ReplicationRecord, facts: TransferFacts | None) -> None:
    """Raises Unwanted if the owner refused the fixity, cancelled the transfer or changed what was accepted."""
    if facts is not None:
        _require_same(record, {name: getattr(facts, name) for name in PINNED})
    if record.cancelled:
        why = why_cancelled(record)
        if record.cancel_reason == CancelReason.FIXITY_REJECT:
            raise Unwanted(Fail(f"{record.from_node} refused the bag's fixity: {why}"))
        raise Unwanted(Stopped(f"{record.from_node} or an operator cancelled the transfer ({why})"))


def require_wanted(record: RestoreRecord, facts: RestoreFacts | None, link: str | None) -> None:
    """Raises Unwanted if the requester has the bag, cancelled, or changed what was accepted. `link`: ours."""
    if facts is not None:
        _require_same(record, facts.model_dump() | ({} if record.link is None else {"link": link}))
    if record.cancelled:
        why = why_cancelled(record)
        raise Unwanted(Stopped(f"{record.to_node} or an operator cancelled the restore ({why})"))
    if record.finished:
        raise Unwanted(Stopped(f"{record.to_node} says that it has the bag: it is not delivered again"))


def _require_same(record: ReplicationRecord | RestoreRecord, expected: Mapping[str, Any]) -> None:
    changed = [name for name, value in expected.items() if getattr(record, name) != value]
    if changed:
        what = ", ".join(f"{name} from {expected[name]!r} to {getattr(record, name)!r}" for name in changed)
        reason = f"the transfer was changed after we accepted it: {what}"
        raise Unwanted(Fail(reason, TransferCancellation(CancelReason.REJECT, reason)))
