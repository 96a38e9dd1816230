"""dpn_sync: pulls the other nodes' records into our registry; misses nothing, believes each only about its own.

All peers at once, each by itself: one that is down delays nobody. How far we have read is kept for each peer and
kind of record, by the peer's own stamps; every walk begins a little before that, and what is read twice changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from dpn.clock import Clock
from dpn.database import Sessions
from dpn.registry.client import RegistryClient
from dpn.runtime import THREADS, Runtime
from dpn.telemetry.logs import Log
from workers.sync.peer_round import PeerRound, Quota
from workers.sync.results import SET_ASIDE, PeerResult, TypeResult

__all__ = ["PeerResult", "Sync", "TypeResult"]

SECONDS_A_PEER = 180.0
"""How long a round over several peers reads one, and then to the end of a call (two minutes at most): a slow one
must not keep the next round, five minutes after this one, from the others."""

FULL_SECONDS_A_PEER = 4 * 3600.0
"""The same where everything is read again."""

QUOTA = Quota(records=500_000, bytes=512 * 1024 * 1024)
"""What such a round takes of new records of one peer: a network of 100,000 bags comes whole with the first."""

MAX_THREADS = 16
"""As many connections as the database is asked for at most by default."""


@dataclass(frozen=True)
class Sync:
    """See the module's docstring."""

    clients: Mapping[str, RegistryClient]
    sessions: Sessions
    clock: Clock
    log: Log
    runtime: Runtime = THREADS

    def run(self, *, only: str | None = None, full: bool = False) -> list[PeerResult]:
        """One round over all peers, or `only` one; `full` reads everything again, whatever the marks say."""
        peers = [peer for peer in self.clients if only in (None, peer)]
        seconds = FULL_SECONDS_A_PEER if full else SECONDS_A_PEER
        until = None if only else self.clock.monotonic() + seconds
        quota = None if only else QUOTA
        with self.runtime.pool(min(MAX_THREADS, max(1, len(peers))), "sync") as threads:
            rounds = [
                PeerRound(peer, self.clients[peer], self.sessions, self.clock, self.log, full, until, quota)
                for peer in peers
            ]
            results = list(threads.map(lambda one: one.run(), rounds))
        # What a peer told us of others' bags could wait for those others, who were read at the same time.
        for one in rounds:
            if one.result.set_aside:
                one.step(SET_ASIDE, partial(one.take_over_bags, self.clients))
            if len(rounds) > 1 and one.waits_for_others:
                one.step(SET_ASIDE, one.take_up_again)
        for result in results:
            self._report(result)
        return results

    def _report(self, result: PeerResult) -> None:
        report = self.log.info if result.ok else self.log.error
        types = {name: {k: v for k, v in asdict(one).items() if v} for name, one in result.types.items()}
        report(
            "sync of a node",
            peer=result.peer,
            ok=result.ok,
            error=result.error,
            seconds=result.seconds,
            set_aside=result.set_aside,
            types=types,
        )
        for name, one in result.types.items():
            if one.refused and name != SET_ASIDE:
                self.log.warning(
                    "records refused",
                    peer=result.peer,
                    type=name,
                    refused=one.refused,
                    refused_by=one.refused_by,
                    reasons=one.refusals,
                )
