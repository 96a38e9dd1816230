"""Where the records are kept: reading, writing and adopting them, in the caller's transaction.

Every function takes a session and leaves the commit to its caller. None does a query a record.
"""

from dpn.registry.catalogue.adoption import apply_from_peer
from dpn.registry.catalogue.applied import Applied, RefusedRecord
from dpn.registry.catalogue.aside import (
    SetAside,
    UnreadableRow,
    count_set_aside,
    expire,
    set_aside,
    set_aside_of,
    settle,
    take_up,
)
from dpn.registry.catalogue.disowned import DISOWNABLE, RecordInUse, disown, take_back
from dpn.registry.catalogue.kinds import (
    BAGS,
    DIGESTS,
    FIXITY_CHECKS,
    INGESTS,
    KINDS,
    MEMBERS,
    NODES,
    RESTORES,
    SHOWN_TO,
    TRANSFERS,
    Kind,
)
from dpn.registry.catalogue.members import add_member, put_member
from dpn.registry.catalogue.page_memory import PageMemory
from dpn.registry.catalogue.pages import Reader, list_page
from dpn.registry.catalogue.query import Query, RecordPage, batches, find, find_many
from dpn.registry.catalogue.restores import add_restore, put_restore
from dpn.registry.catalogue.statements import add_fixity_check, add_ingest
from dpn.registry.catalogue.states import state_of
from dpn.registry.catalogue.writes import (
    add_bag,
    add_digest,
    add_node,
    add_transfer,
    agree,
    ensure_nodes,
    give_up_with,
    put_bag,
    put_node,
    put_transfer,
)

__all__ = [
    "BAGS",
    "DIGESTS",
    "DISOWNABLE",
    "FIXITY_CHECKS",
    "INGESTS",
    "KINDS",
    "MEMBERS",
    "NODES",
    "RESTORES",
    "SHOWN_TO",
    "TRANSFERS",
    "Applied",
    "Kind",
    "PageMemory",
    "Query",
    "Reader",
    "RecordInUse",
    "RecordPage",
    "RefusedRecord",
    "SetAside",
    "UnreadableRow",
    "add_bag",
    "add_digest",
    "add_fixity_check",
    "add_ingest",
    "add_member",
    "add_node",
    "add_restore",
    "add_transfer",
    "agree",
    "apply_from_peer",
    "batches",
    "count_set_aside",
    "disown",
    "ensure_nodes",
    "expire",
    "find",
    "find_many",
    "give_up_with",
    "list_page",
    "put_bag",
    "put_member",
    "put_node",
    "put_restore",
    "put_transfer",
    "set_aside",
    "set_aside_of",
    "settle",
    "state_of",
    "take_back",
    "take_up",
]
