"""/fixity_check and /ingest: what was found when copies were read, and when bags had copies enough."""

from __future__ import annotations

from dpn.registry.catalogue import FIXITY_CHECKS, INGESTS, add_fixity_check, add_ingest
from dpn.server.registry import queries
from dpn.server.registry.declarations import Creates, Declared, Lists

FIXITY_CHECK_FILTERS: queries.Filters = {
    "bag": queries.UUID,
    "latest": queries.LATEST,
    "node": queries.NAMESPACE,
    "success": queries.FLAG,
}
INGEST_FILTERS: queries.Filters = {"bag": queries.UUID, "ingested": queries.FLAG, "latest": queries.LATEST}

DECLARED: tuple[Declared, ...] = (
    Lists("/fixity_check", FIXITY_CHECKS, "The checks of the nodes' copies", FIXITY_CHECK_FILTERS),
    Creates(
        "/fixity_check",
        FIXITY_CHECKS,
        "Record a check of a copy",
        write=lambda job, check: add_fixity_check(job.session, check, caller=job.caller),
    ),
    Lists("/ingest", INGESTS, "When bags reached their number of copies, and when they lost it", INGEST_FILTERS),
    Creates(
        "/ingest",
        INGESTS,
        "Record that a bag reached or lost its number of copies",
        write=lambda job, ingest: add_ingest(job.session, ingest, caller=job.caller),
    ),
)
