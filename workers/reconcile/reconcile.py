"""Compares every open transfer to us, whatever its age, with its owner's copy and with our work item.

What was lost is queued again, what has ended elsewhere is closed, what contradicts itself is reported. Only what
an owner shows is believed, never that a list lacks something: each open transfer that a list did not show is asked
for by itself; and what had ended here begins anew only after its owner, asked once more, still calls it open.
Running it again, or twice at once, changes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sqlalchemy.exc import SQLAlchemyError

from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import DpnError
from dpn.registry.client import RegistryClient
from dpn.runtime import THREADS, Runtime
from dpn.telemetry.logs import Log
from dpn.work.pipeline import Pipelines
from workers.reconcile.peer_walk import PeerWalk
from workers.reconcile.replications import Replications
from workers.reconcile.restores import Restores
from workers.reconcile.results import Reconciled

__all__ = ["Reconcile", "Reconciled"]

MAX_THREADS = 16


@dataclass(frozen=True)
class Reconcile:
    """See the module's docstring."""

    node: str
    clients: Mapping[str, RegistryClient]
    sessions: Sessions
    pipelines: Pipelines
    clock: Clock
    log: Log
    runtime: Runtime = THREADS

    def run(self, *, only: str | None = None) -> list[Reconciled]:
        """All peers at once, or `only` one. Messages are left as intents: `publish_intents` sends them."""
        peers = [peer for peer in self.clients if only in (None, peer)]
        with self.runtime.pool(min(MAX_THREADS, max(1, len(peers))), "reconcile") as threads:
            return list(threads.map(self._peer, peers))

    def _peer(self, peer: str) -> Reconciled:
        walk = PeerWalk(peer, self.clients[peer], self.node, self.sessions, self.pipelines, self.clock)
        started = self.clock.monotonic()
        try:
            Replications(walk).run()
            Restores(walk).run()
        except (DpnError, SQLAlchemyError) as error:
            walk.result.error = str(error)
        except Exception as error:  # what one peer makes us stumble over is its own affair
            walk.result.error = repr(error)
            self.log.error("reconciliation with a node broke off", peer=peer, exc_info=error)
        walk.result.seconds = round(self.clock.monotonic() - started, 3)
        result = asdict(walk.result)
        say = self.log.error if not walk.result.ok else self.log.warning if walk.result.reported else self.log.info
        say("reconciliation with a node", ok=walk.result.ok, **result)
        return walk.result
