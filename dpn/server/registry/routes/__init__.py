"""The operations under /api-v2, one module a family of records."""

from dpn.server.registry.declarations import Declared
from dpn.server.registry.routes import bags, checks, nodes, transfers

DECLARED: tuple[Declared, ...] = (
    *nodes.DECLARED,
    *bags.DECLARED,
    *checks.DECLARED,
    *transfers.DECLARED,
)
