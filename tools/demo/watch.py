"""What each node is doing with each bag, read from the nodes' own work items as their operators would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dpn.database import reading
from dpn.work.queries import ItemFilter, list_items
from models.manifests import ReplicationManifest
from models.work import Status, Task, WorkItem
from tools.demo.deposit import Request
from tools.network.node import RunningNode

UNKNOWN = "asked"
"""The stage of a transfer that its node has not heard of yet."""


@dataclass(frozen=True)
class BagProgress:
    """Where one bag is at one node. `arrived_bytes` counts what lies on its staging volume or in its store."""

    request: Request
    stage: str = UNKNOWN
    status: str = ""
    note: str = "waits until dpn_sync and dpn_queue have run"
    arrived_bytes: int = 0
    item_id: int | None = None
    needs_attention: bool = False

    @property
    def is_final(self) -> bool:
        return self.status != "" and Status(self.status).is_final

    @property
    def succeeded(self) -> bool:
        return self.status == Status.SUCCESS


class Watch:
    """Looks at the work items of all nodes; a database that does not answer shows what was seen last."""

    def __init__(self, nodes: Mapping[str, RunningNode], requests: Sequence[Request]) -> None:
        self._nodes = nodes
        self._positions = {request.replication_id: BagProgress(request) for request in requests}

    def look(self) -> list[BagProgress]:
        """Where every bag is now, in the order of the requests."""
        for node in self._nodes.values():
            try:
                self._look_at(node)
            except SQLAlchemyError:
                continue  # it comes back, or the time runs out: the position stays what it was
        return list(self._positions.values())

    def _look_at(self, node: RunningNode) -> None:
        with reading(node.sessions) as session:
            for item in list_items(session, ItemFilter(task=Task.REPLICATION)):
                known = self._positions.get(item.identifier)
                if known is not None and known.request.to_node == node.name and not known.is_final:
                    self._positions[item.identifier] = _position(known.request, item, node)


def count_outcomes(positions: Iterable[BagProgress]) -> Counter[str]:
    """How many items ended how. What has not ended is `unfinished`; cancelled by an operator counts as failed."""
    counts = Counter({"success": 0, "failed": 0})
    for position in positions:
        if not position.is_final:
            counts["unfinished"] += 1
        else:
            counts["success" if position.succeeded else "failed"] += 1
    return counts


def _position(request: Request, item: WorkItem, node: RunningNode) -> BagProgress:
    manifest = ReplicationManifest.read(item.manifest)
    arrived = 0
    if isinstance(manifest, ReplicationManifest):
        arrived = _arrived_bytes(request, manifest, node)
    return BagProgress(
        request, item.stage, item.status, item.note, arrived, item_id=item.id, needs_attention=item.needs_attention
    )


def _arrived_bytes(request: Request, manifest: ReplicationManifest, node: RunningNode) -> int:
    if manifest.receipt is not None:
        return manifest.receipt.size
    if manifest.staged is not None:
        return manifest.staged.size
    try:
        return max(path.stat().st_size for path in node.place.volume.rglob(f"{request.deposit.uuid}.tar"))
    except (OSError, ValueError):
        return 0  # nothing is there yet, or it moved while we looked
