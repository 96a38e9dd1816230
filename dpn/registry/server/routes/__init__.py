"""The operations under /api-v2, one module a family of records."""

from dpn.registry.server.operations import Operation
from dpn.registry.server.routes import bags, checks, nodes, transfers

OPERATIONS: tuple[Operation, ...] = (
    *nodes.OPERATIONS,
    *bags.OPERATIONS,
    *checks.OPERATIONS,
    *transfers.OPERATIONS,
)
