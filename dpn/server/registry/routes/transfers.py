"""/replicate and /restore: which node is asked to keep a copy of a bag, or to give it back, and how far it is."""

from __future__ import annotations

from dpn.registry.catalogue import (
    RESTORES,
    TRANSFERS,
    add_restore,
    add_transfer,
    put_restore,
    put_transfer,
)
from dpn.server.registry import queries
from dpn.server.registry.declarations import Creates, Declared, Lists, Shows, Updates

COMMON_FILTERS: queries.Filters = {
    "bag": queries.UUID,
    "cancel_reason": queries.WORDS,
    "cancelled": queries.FLAG,
    "from_node": queries.NAMESPACE,
    "to_node": queries.NAMESPACE,
}
REPLICATION_FILTERS: queries.Filters = {
    **COMMON_FILTERS,
    "store_requested": queries.FLAG,
    "stored": queries.FLAG,
}
RESTORE_FILTERS: queries.Filters = {**COMMON_FILTERS, "accepted": queries.FLAG, "finished": queries.FLAG}

DECLARED: tuple[Declared, ...] = (
    Lists("/replicate", TRANSFERS, "Replication transfers", REPLICATION_FILTERS),
    Creates(
        "/replicate",
        TRANSFERS,
        "Ask a node to keep a copy of a bag",
        write=lambda job, transfer: add_transfer(job.session, transfer, caller=job.caller),
    ),
    Shows("/replicate/{uuid}", TRANSFERS, "One replication transfer"),
    Updates(
        "/replicate/{uuid}",
        TRANSFERS,
        "Move a replication transfer on; its to_node may",
        write=lambda job, transfer: put_transfer(
            job.session, job.key, transfer, caller=job.caller, now=job.now, copies=job.copies
        ),
        by_peers=True,
    ),
    Lists("/restore", RESTORES, "Restore transfers", RESTORE_FILTERS),
    Creates(
        "/restore",
        RESTORES,
        "Ask a node to give a bag back",
        write=lambda job, transfer: add_restore(job.session, transfer, caller=job.caller),
    ),
    Shows("/restore/{uuid}", RESTORES, "One restore transfer"),
    Updates(
        "/restore/{uuid}",
        RESTORES,
        "Move a restore transfer on; its from_node may",
        write=lambda job, transfer: put_restore(job.session, job.key, transfer, caller=job.caller, now=job.now),
        by_peers=True,
    ),
)
