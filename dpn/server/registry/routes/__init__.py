"""The operations under /api-v2, one module a family of records."""

from dpn.server.registry.operations import Operation
from dpn.server.registry.routes import bags, checks, nodes, transfers

OPERATIONS: tuple[Operation, ...] = (
    *nodes.OPERATIONS,
    *bags.OPERATIONS,
    *checks.OPERATIONS,
    *transfers.OPERATIONS,
)
