"""record: enters the stored bag into our registry, asks other nodes to keep copies, and waits until they do.

Which nodes, and under which ids, is saved before anything is done about it: however often this runs there are one
bag, one digest and the same transfers. A node that declines is replaced by another, until the wanted copies exist
or nobody is left to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.errors import Misconfigured
from dpn.ingest.placement import Site, choose_nodes
from dpn.ingest.settings import IngestSettings
from dpn.outbound.folder import Outbound
from dpn.registry.catalogue import BAGS, NODES, TRANSFERS, add_transfer, find, find_many
from dpn.registry.records import FIXITY_ALGORITHM, PROTOCOL, NodeRecord, ReplicationRecord, why_cancelled
from dpn.registry.rules import Caller, Refused
from dpn.registry.wire import utc_second
from dpn.runtime import THREADS
from dpn.staging.staging import Staging
from dpn.work.leases import holder
from dpn.work.outcomes import Done, Outcome, StartOver, Wait
from models.manifests import IngestManifest, PlannedTransfer, StagedFile
from workers.ingest.asked import Transfers, is_declined, is_stored, stored_at, transfers_of
from workers.ingest.register import Registering, require_entered
from workers.peers import Unwanted
from workers.stage import Job


@dataclass(frozen=True)
class IngestRecordStage:
    """See the module's docstring. `node` is ours, `peers` are the nodes that our settings name."""

    node: str
    peers: frozenset[str]
    sessions: Sessions
    staging: Staging
    settings: IngestSettings
    clock: Clock
    poll_seconds: float
    new_id: Callable[[], str] = THREADS.new_id
    name: str = "record"

    def run(self, job: Job[IngestManifest]) -> Outcome:
        manifest = job.manifest
        try:
            if not manifest.registered:
                if manifest.staged is None or manifest.receipt is None:
                    raise _gone(manifest)
                self._registering.register(job, manifest.staged, manifest.receipt)
            # Looked at first: once they have stored it, nobody must be offered it again.
            if (done := self._done(job)) is not None:
                return done
            self._ask_nodes(job)
            return self._waiting(job)
        except Unwanted as unwanted:
            return unwanted.outcome

    @property
    def _registering(self) -> Registering:
        return Registering(self.node, self.sessions, self.settings.copies, self.clock, self.poll_seconds)

    # -- other nodes ---------------------------------------------------------------------------------------------

    def _ask_nodes(self, job: Job[IngestManifest]) -> None:
        """Makes sure that as many transfers as are wanted have been asked for and not declined, and that the bag
        lies where those that are open say: a disk may have been lost. Raises Unwanted: package it again."""
        self._choose(job)
        known = self._transfers(job.manifest)
        for planned in job.manifest.transfers:
            asked = known.get(planned.replication_id)
            if asked is None:
                self._ask(job, planned)
            elif not asked.is_final:
                self._offer(job, planned)

    def _choose(self, job: Job[IngestManifest]) -> None:
        """Plans transfers to further nodes, in place of those that declined, and saves the plan."""
        manifest = job.manifest
        known = self._transfers(manifest)
        going = [planned for planned in manifest.transfers if not is_declined(known, planned)]
        missing = self.settings.replicate_to_count - len(going)
        if missing <= 0:
            return
        bag = manifest.deposit.bag
        with reading(self.sessions) as session:
            nodes = self._nodes(session)
            recorded = find(session, BAGS, bag)
        holders = {self.node, *(recorded.replicating_nodes if recorded else ()), *(one.to_node for one in going)}
        declined = {one.to_node for one in manifest.transfers if one.retries == manifest.retries} - holders
        ours = nodes[self.node]
        chosen = choose_nodes(
            [_place(nodes[name]) for name in ours.replicate_to if name in nodes and name in self.peers],
            missing,
            holders=[_place(nodes[name]) for name in sorted(holders) if name in nodes],
            excluded={*self.settings.exclude.get(manifest.deposit.member, ()), *declined},
            seed=f"{self.settings.placement_seed}\0{bag}",
        )
        if not chosen:
            return
        outbound, now = self._outbound(self._held(job).volume), utc_second(self.clock.now())
        manifest.transfers = [
            *manifest.transfers,
            *(
                PlannedTransfer(
                    replication_id=self.new_id(),
                    to_node=name,
                    link=outbound.link(name, bag),
                    created_at=now,
                    retries=manifest.retries,
                )
                for name in chosen
            ),
        ]
        job.save(f"asking {', '.join(chosen)} to keep a copy")

    def _offer(self, job: Job[IngestManifest], planned: PlannedTransfer) -> None:
        """Puts the bag where the transfer's link leads, unless it lies there."""
        bag, node = job.manifest.deposit.bag, planned.to_node
        promised = self._promised(job.manifest, planned)
        if promised is not None and promised.offers(bag, node):
            return
        staged = self._held(job)
        outbound = promised or self._outbound(staged.volume)
        if not outbound.offers(bag, node):
            outbound.offer(self.staging.path_of(staged), bag, node)

    def _held(self, job: Job[IngestManifest]) -> StagedFile:
        """The staged bag, for who has to be offered it. Raises Unwanted if it is gone."""
        staged = job.manifest.staged
        if staged is None or not self.staging.holds(staged):
            raise _gone(job.manifest)
        return staged

    def _promised(self, manifest: IngestManifest, planned: PlannedTransfer) -> Outbound | None:
        """The outbound folder that the transfer's link leads to. Packaged again, the bag may be on another volume
        than when the node was told where."""
        staged, bag = manifest.staged, manifest.deposit.bag
        here_first = sorted(self.settings.outbound, key=lambda name: staged is None or name != staged.volume)
        every = (Outbound(self.settings.outbound[name]) for name in here_first)
        return next((one for one in every if one.link(planned.to_node, bag) == planned.link), None)

    def _ask(self, job: Job[IngestManifest], planned: PlannedTransfer) -> None:
        """Offers the bag first and enters the transfer then: whoever reads it finds the bag."""
        bag = job.manifest.deposit.bag
        self._offer(job, planned)
        transfer = ReplicationRecord(
            replication_id=planned.replication_id,
            bag=bag,
            from_node=self.node,
            to_node=planned.to_node,
            fixity_algorithm=FIXITY_ALGORITHM,
            protocol=PROTOCOL,
            link=planned.link,
            created_at=planned.created_at,
            updated_at=utc_second(self.clock.now()),
        )
        detail = {"to_node": planned.to_node, "transfer": planned.replication_id}
        asked = Event(EventType.REPLICATION, bag, "requested", detail, job.claim.item_id)
        job.fence()
        with self.sessions.begin() as session:
            worker = holder(session, job.claim.item_id, job.claim.token)
            added = add_transfer(session, transfer, caller=Caller(self.node, self.node))
            progress = ("updated_at", "fixity_value", "store_requested", "stored", "cancelled", "cancel_reason")
            require_entered(session, added, TRANSFERS, transfer, ignore=(*progress, "cancel_reason_detail"))
            if not isinstance(added, Refused):  # else it was there already, and so is its event
                record(session, [asked], agent=worker, at=self.clock.now())
        job.save(f"asked {planned.to_node} to keep a copy")

    # -- how far it is -------------------------------------------------------------------------------------------

    def _done(self, job: Job[IngestManifest]) -> Done | None:
        """The end, if the wanted copies exist."""
        known, wanted = self._transfers(job.manifest), self.settings.replicate_to_count
        stored = stored_at(known, job.manifest)
        if len(stored) < wanted:
            return None
        job.add_event(EventType.REPLICATION, job.manifest.deposit.bag, "success", nodes=stored)
        return Done(f"{wanted + 1} copies: ours, proven; claimed by {', '.join(stored) or 'no other node'}")

    def _waiting(self, job: Job[IngestManifest]) -> Wait:
        known, planned = self._transfers(job.manifest), job.manifest.transfers
        wanted = self.settings.replicate_to_count
        stored = [one for one in planned if is_stored(known, one)]
        waiting = [one.to_node for one in planned if not (is_stored(known, one) or is_declined(known, one))]
        told = f"{len(stored) + 1} of {wanted + 1} copies exist"
        if waiting:
            told += f"; waiting for {', '.join(waiting)}"
        if len(stored) + len(waiting) >= wanted:
            return Wait(self.poll_seconds, told)
        why = "; ".join(filter(None, (_refusal(known, one) for one in planned)))
        return Wait(
            self.poll_seconds,
            f"{told}; no node is left to ask{f' ({why})' if why else ''}: `dpn item retry` asks those again that "
            "declined; or agree with another one (replicate_to of our node record, a [peers] table), or lower "
            "ingest.replicate_to_count",
            needs_attention=True,
        )

    def _transfers(self, manifest: IngestManifest) -> Transfers:
        return transfers_of(self.sessions, manifest)

    def _nodes(self, session: Session) -> dict[str, NodeRecord]:
        names = [(name,) for name in {self.node, *self.peers}]
        nodes = {key[0]: record for key, record in find_many(session, NODES, names).items()}
        if self.node not in nodes:
            raise Misconfigured(f"our registry has no record of {self.node}: run dpn_sync, or start `dpn serve`")
        return nodes

    def _outbound(self, volume: str) -> Outbound:
        try:
            return Outbound(self.settings.outbound[volume])
        except KeyError:
            raise Misconfigured(
                f"there is no [ingest.outbound.{volume}] in the settings: nobody could fetch what is packaged on "
                f"staging volume {volume}"
            ) from None


def _gone(manifest: IngestManifest) -> Unwanted:
    """The staged bag is needed, and it is not there."""
    manifest.forget_staged()
    return Unwanted(StartOver("package", "the packaged bag is gone"))


def _place(node: NodeRecord) -> Site:
    return Site(node.namespace, node.storage.region, node.storage.type)


def _refusal(known: Transfers, planned: PlannedTransfer) -> str | None:
    record = known.get(planned.replication_id)
    if record is None or not record.cancelled:
        return None
    return f"{planned.to_node} declined ({why_cancelled(record)})"
