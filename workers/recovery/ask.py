"""ask: asks the nodes that keep a copy of the bag for it, the next one as soon as all before are late, until one
offers it.

A node that has many requests of ours to answer is not asked for more until it has: its time runs from our request,
and it serves so many at once. Meanwhile others are asked. A node that declines, or takes longer for its next step
than `recovery.answer_days`, is told that we want nothing any more. Waiting is no attempt and takes up no worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.recovery.errors import RequestRefused
from dpn.registry.records import RestoreRecord, why_cancelled
from dpn.runtime import THREADS
from dpn.work.outcomes import Done, Fail, Outcome, Wait
from models.manifests import AskedNode, RecoveryManifest
from workers.recovery.requests import Requests
from workers.stage import Job


@dataclass(frozen=True)
class AskStage:
    """See the module's docstring."""

    requests: Requests
    poll_seconds: float
    new_id: Callable[[], str] = THREADS.new_id
    name: str = "ask"

    def run(self, job: Job[RecoveryManifest]) -> Outcome:
        manifest = job.manifest
        manifest.forget_staged()
        while True:
            waited_for: list[tuple[AskedNode, RestoreRecord]] = []
            for asked in manifest.hopes:
                try:
                    record = self.requests.record(asked) or self.requests.open(manifest.bag, asked)
                except RequestRefused as error:
                    self.requests.note_end(job, asked, str(error))
                    continue
                if (ended := self._ended(record)) is not None:
                    self.requests.note_end(job, asked, ended)
                elif record.link is not None:
                    manifest.turn_to(asked)
                    return Done(f"{asked.node} offers the bag")
                else:
                    waited_for.append((asked, record))
            if not all(self.requests.is_late(record) for _, record in waited_for):
                return self._wait(waited_for)
            more = self._choose(job)
            if not isinstance(more, AskedNode):
                return self._wait(waited_for) if waited_for else more or _nobody_left(manifest)

    def _choose(self, job: Job[RecoveryManifest]) -> AskedNode | Wait | None:
        """The next node to ask, noted with the id of its request before that is made; None if all were asked."""
        manifest = job.manifest
        tried = {one.node for one in (*manifest.tried, *manifest.hopes)}
        if manifest.only_node is not None:
            holders = [manifest.only_node] if manifest.only_node in self.requests.peers else []
        else:
            holders = self.requests.holders(manifest.bag)
        left = [node for node in holders if node not in tried]
        if not left:
            return None
        chosen = next((node for node in left if self.requests.has_room(node)), None)
        if chosen is None:
            return self._wait_for_room(left)
        asked = AskedNode(
            node=chosen,
            restore_id=self.new_id(),
            asked_at=self.requests.clock.now(),
            round=manifest.retries,
        )
        manifest.asked = [*manifest.asked, asked]
        job.add_event(
            EventType.COPY_REQUESTED, manifest.bag, "pending", peer=asked.node, restore_id=asked.restore_id
        )
        job.save(f"asking {asked.node} for the bag")
        return asked

    def _wait_for_room(self, busy: Sequence[str]) -> Wait:
        reason = f"waits until {' or '.join(busy)} has answered other requests of ours"
        return Wait(self.poll_seconds, reason, patience_seconds=self.requests.patience_seconds)

    def _ended(self, record: RestoreRecord) -> str | None:
        """Why nothing will come of the request any more; None if it may."""
        if record.cancelled:
            return f"declined ({why_cancelled(record)})"
        if record.finished:
            return "our request was finished by somebody else"
        if record.link is None and self.requests.is_overdue(record):
            days = self.requests.settings.answer_days
            since = f"{record.updated_at:%Y-%m-%d %H:%M} UTC"
            said = f"it accepted on {since}, and then nothing" if record.accepted else f"asked on {since}"
            return f"no answer in {days:g} days: {said}"
        return None

    def _wait(self, waited_for: Sequence[tuple[AskedNode, RestoreRecord]]) -> Wait:
        reason = "; ".join(_standing(asked, record) for asked, record in waited_for)
        return Wait(self.poll_seconds, reason, patience_seconds=self.requests.patience_seconds)


def _standing(asked: AskedNode, record: RestoreRecord) -> str:
    node, at = asked.node, f"{asked.asked_at:%Y-%m-%d %H:%M} UTC"
    if record.accepted:
        return f"asked {node} for the bag on {at}; {node} has accepted and prepares it"
    return f"asked {node} for the bag on {at}; {node} has not answered yet"


def _nobody_left(manifest: RecoveryManifest) -> Fail:
    bag = manifest.bag
    if manifest.tried:
        said = "; ".join(f"{one.node}: {one.ended}" for one in manifest.tried)
        reason = f"no node gave us a good copy of bag {bag}: {said}"
    elif manifest.only_node is not None:
        reason = f"no [peers.{manifest.only_node}] in the settings: it cannot be asked for bag {bag}"
    else:
        reason = f"our registry names no peer that keeps a copy of bag {bag}: run `dpn sync`"
    if manifest.purpose == "drill":
        return Fail(reason)
    return Fail(f"{reason}. Our copy stays as it is, bad. `dpn item retry` asks all of them again")
