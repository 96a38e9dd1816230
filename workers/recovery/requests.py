"""What the stages of a recovery share: our requests to other nodes, and passing over a node that gives nothing.

A request is a restore transfer in our own registry, so it never waits for another node to be spoken with.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.recovery.errors import RequestRefused
from dpn.recovery.holders import candidates
from dpn.recovery.requests import count_open_requests, finish, give_up, open_request, request_of
from dpn.recovery.settings import RecoverySettings
from dpn.registry.records import RestoreRecord
from dpn.work.notes import printable
from dpn.work.outcomes import StartOver
from models.manifests import AskedNode, RecoveryManifest
from workers.stage import Job

DAY_SECONDS = 86_400.0
MOST_ASKED_AT_ONCE = 10
"""Of one node: one that is asked for more than it serves at a time answers the rest later than it may."""

LATE_DAYS = 2.0
"""A node that takes longer than this for its next step is late: another one is asked beside it. As long as a cold
store takes at most (Amazon S3 User Guide, "Archive retrieval options")."""

MAX_REASON_CHARACTERS = 500
"""Of what is kept of another node's words, or rsync's."""


@dataclass(frozen=True)
class Requests:
    """Each call is a transaction of its own, and safe to repeat. `node` is ours, `peers` those of the settings."""

    node: str
    peers: frozenset[str]
    settings: RecoverySettings
    sessions: Sessions
    clock: Clock

    @property
    def patience_seconds(self) -> float:
        """How long a node may take for its next step."""
        return self.settings.answer_days * DAY_SECONDS

    def holders(self, bag: str) -> list[str]:
        """The peers that should have a copy, the best first."""
        with reading(self.sessions) as session:
            return candidates(session, bag, us=self.node, peers=self.peers, prefer=self.settings.prefer)

    def has_room(self, node: str) -> bool:
        """Whether the node may be asked for one more bag; two workers at once may ask for one too many."""
        most = MOST_ASKED_AT_ONCE
        with reading(self.sessions) as session:
            return count_open_requests(session, node, us=self.node, most=most) < most

    def record(self, asked: AskedNode) -> RestoreRecord | None:
        """How the request stands in our registry."""
        with reading(self.sessions) as session:
            return request_of(session, asked.restore_id)

    def open(self, bag: str, asked: AskedNode) -> RestoreRecord:
        """Raises RequestRefused."""
        with self.sessions.begin() as session:
            return open_request(
                session,
                bag=bag,
                from_node=asked.node,
                us=self.node,
                restore_id=asked.restore_id,
                now=self.clock.now(),
            )

    def withdraw(self, asked: AskedNode, why: str) -> None:
        """Tells the node that we want nothing any more; one that is over, or was never made, stays as it is."""
        record = self.record(asked)
        if record is not None and not record.is_final:
            with self.sessions.begin() as session:
                give_up(
                    session,
                    asked.restore_id,
                    us=self.node,
                    reason_detail=printable(why),
                    now=self.clock.now(),
                )

    def finish(self, asked: AskedNode) -> str | None:
        """Tells the node that we have the bag; returns why it cannot be told, if so: we have it all the same."""
        try:
            with self.sessions.begin() as session:
                finish(session, asked.restore_id, us=self.node, now=self.clock.now())
        except RequestRefused as error:
            return str(error)
        return None

    def is_overdue(self, record: RestoreRecord) -> bool:
        """Whether nothing has happened to the request for longer than a node may take."""
        return self._unchanged_seconds(record) >= self.patience_seconds

    def is_late(self, record: RestoreRecord) -> bool:
        """Whether another node is to be asked, too: this one may still give the bag."""
        return self._unchanged_seconds(record) >= LATE_DAYS * DAY_SECONDS

    def _unchanged_seconds(self, record: RestoreRecord) -> float:
        return (self.clock.now() - record.updated_at).total_seconds()

    def pass_over(self, job: Job[RecoveryManifest], why: str) -> StartOver:
        """Asks the node that is asked at present no more, and the next one instead."""
        if (asked := job.manifest.asking) is not None:
            self.note_end(job, asked, why)
        return StartOver("ask", why)

    def note_end(self, job: Job[RecoveryManifest], asked: AskedNode, why: str) -> None:
        """Notes that nothing comes of what this node was asked for, which it hears."""
        manifest = job.manifest
        why = printable(why, MAX_REASON_CHARACTERS)
        job.fence()
        self.withdraw(asked, why)
        ended = asked.model_copy(update={"ended": why})
        manifest.asked = [ended if one.restore_id == asked.restore_id else one for one in manifest.asked]
        job.add_event(
            EventType.COPY_REQUESTED,
            manifest.bag,
            "failure",
            peer=asked.node,
            restore_id=asked.restore_id,
            why=why,
        )
        job.save(f"nothing came from {asked.node}: {why}")
