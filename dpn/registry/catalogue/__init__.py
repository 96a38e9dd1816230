"""Where the records are kept: reading, writing and adopting them, in the caller's transaction.

Every function takes a session and leaves the commit to its caller. None does a query a record.
"""

from dpn.registry.catalogue.adopting import Applied, RefusedRecord, apply_from_peer
from dpn.registry.catalogue.kinds import (
    BAGS,
    DIGESTS,
    FIXITY_CHECKS,
    INGESTS,
    KINDS,
    MEMBERS,
    NODES,
    RESTORES,
    TRANSFERS,
    Kind,
)
from dpn.registry.catalogue.reading import Listing, Query, batches, find, find_many, list_page
from dpn.registry.catalogue.states import state_of
from dpn.registry.catalogue.writing import (
    add_bag,
    add_digest,
    add_node,
    add_transfer,
    ensure_nodes,
    put_bag,
    put_node,
    put_transfer,
)

__all__ = [
    "BAGS",
    "DIGESTS",
    "FIXITY_CHECKS",
    "INGESTS",
    "KINDS",
    "MEMBERS",
    "NODES",
    "RESTORES",
    "TRANSFERS",
    "Applied",
    "Kind",
    "Listing",
    "Query",
    "RefusedRecord",
    "add_bag",
    "add_digest",
    "add_node",
    "add_transfer",
    "apply_from_peer",
    "batches",
    "ensure_nodes",
    "find",
    "find_many",
    "list_page",
    "put_bag",
    "put_node",
    "put_transfer",
    "state_of",
]
