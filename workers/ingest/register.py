"""Enters a bag of ours and its digest into our registry, once all that it refers to is there.

Any of it may be repeated: what an earlier run has entered is found, and is as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.audit.trail import EventType
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.registry.catalogue import BAGS, DIGESTS, Kind, add_bag, add_digest, find, find_many
from dpn.registry.records import FIXITY_ALGORITHM, BagRecord, DigestRecord, Record
from dpn.registry.rules import Caller, Decision, Refused
from dpn.registry.wire import utc_second
from dpn.work.outcomes import Fail, Wait
from models.manifests import DepositFacts, IngestManifest, Receipt, StagedFile
from models.work import Deposit, Status, Task, WorkItem
from workers.peers import Unwanted
from workers.stage import Job

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Registering:
    """See the module's docstring. `node` is ours; `copies` are wanted of each bag."""

    node: str
    sessions: Sessions
    copies: int
    clock: Clock
    poll_seconds: float

    def register(self, job: Job[IngestManifest], staged: StagedFile, receipt: Receipt) -> None:
        """Enters the job's bag. Raises Unwanted: it has to wait for another bag, or our registry has, or wants,
        something else than this bag."""
        self._await_related(job.manifest.deposit)
        self._enter(job, staged, receipt)

    def _await_related(self, deposit: DepositFacts) -> None:
        """Raises Unwanted while a rights or interpretive bag, or the first version, deposited just before, is not
        registered yet; calling for attention if it will not be unless somebody sees to it."""
        with reading(self.sessions) as session:
            first = session.scalars(select(Deposit.bag).where(Deposit.bag == deposit.first_version_uuid)).all()
            uuids = {*deposit.rights, *deposit.interpretive, *first} - {deposit.bag}
            related = [(uuid,) for uuid in uuids]
            missing = sorted(key[0] for key in set(related) - find_many(session, BAGS, related).keys())
            ended = _ended(session, missing) if missing else []
        if not missing:
            return
        reason = f"waits for {', '.join(missing)}, which it refers to"
        if ended:
            reason += f": {', '.join(ended)}; fix what its note says, then `dpn item retry` it"
        raise Unwanted(Wait(self.poll_seconds, reason, needs_attention=bool(ended)))

    def _enter(self, job: Job[IngestManifest], staged: StagedFile, receipt: Receipt) -> None:
        deposit = job.manifest.deposit
        now = utc_second(self.clock.now())
        bag = _bag_record(deposit, self.node, receipt.size, now)
        digest = DigestRecord(
            bag=deposit.bag,
            algorithm=FIXITY_ALGORITHM,
            node=self.node,
            value=staged.tag_manifest_sha256,
            created_at=now,
        )
        job.fence()
        with self.sessions.begin() as session:
            caller = Caller(self.node, self.node)
            added = add_bag(session, bag, caller=caller, copies=self.copies)
            require_entered(session, added, BAGS, bag, ignore=("created_at", "updated_at", "replicating_nodes"))
            added_digest = add_digest(session, bag.uuid, digest, caller=caller, now=now)
            require_entered(session, added_digest, DIGESTS, digest, ignore=("created_at",))
        job.manifest.registered = True
        local = {"local_id": deposit.local_id, "member": deposit.member}
        job.add_event(EventType.IDENTIFIER_ASSIGNMENT, deposit.bag, "success", **local, version=deposit.version)
        job.add_event(
            EventType.MESSAGE_DIGEST_CALCULATION,
            deposit.bag,
            "success",
            algorithm=FIXITY_ALGORITHM,
            of="tag manifest",
            value=digest.value,
        )
        job.add_event(EventType.INGESTION, deposit.bag, "success", url=receipt.url, source=deposit.source)
        job.save("in our registry; choosing nodes")


def require_entered(
    session: Session, decision: Decision[R], kind: Kind[R], wanted: R, *, ignore: Sequence[str]
) -> None:
    """Raises Unwanted unless the record is there now, by us or by an earlier run of ours."""
    if not isinstance(decision, Refused):
        return
    if decision.status == HTTPStatus.CONFLICT:
        present = find(session, kind, *wanted.key)
        if present is not None and dict(present) | dict.fromkeys(ignore) == dict(wanted) | dict.fromkeys(ignore):
            return
        raise Unwanted(
            Fail(f"our registry has another {kind.name} {'/'.join(wanted.key)} than the one of this deposit")
        )
    raise Unwanted(Fail(f"our registry refuses the {kind.name}: {'; '.join(decision.messages)}"))


def _ended(session: Session, bags: list[str]) -> list[str]:
    """Says which of the bags' deposits failed or were cancelled."""
    items = select(WorkItem.id, WorkItem.identifier, WorkItem.status).where(
        WorkItem.task == Task.INGEST,
        WorkItem.identifier.in_(bags),
        WorkItem.status.in_((Status.FAILED, Status.CANCELLED)),
    )
    return [
        f"item {item_id} (bag {bag}) {'failed' if status == Status.FAILED else 'was cancelled'}"
        for item_id, bag, status in session.execute(items.order_by(WorkItem.id))
    ]


def _bag_record(deposit: DepositFacts, node: str, size: int, now: datetime) -> BagRecord:
    return BagRecord.from_wire(
        {
            "uuid": deposit.bag,
            "local_id": deposit.local_id,
            "member": deposit.member,
            "size": size,
            "first_version_uuid": deposit.first_version_uuid,
            "version": deposit.version,
            "bag_type": deposit.bag_type[:1],
            "rights": deposit.rights,
            "interpretive": deposit.interpretive,
            "ingest_node": node,
            "admin_node": node,
            "replicating_nodes": [node],
            "created_at": now,
            "updated_at": now,
        }
    )
