"""/bag, /bag/{uuid}/digest and /digest: the bags of the network and their fixity."""

from __future__ import annotations

from dpn.registry.catalogue import BAGS, DIGESTS, add_bag, add_digest, put_bag
from dpn.server.registry import queries
from dpn.server.registry.declarations import Creates, Declared, Lists, Shows, Updates

BAG_FILTERS: queries.Filters = {
    "admin_node": queries.NAMESPACE,
    "bag_type": queries.BAG_TYPE,
    "first_version_uuid": queries.UUID,
    "ingest_node": queries.NAMESPACE,
    "member": queries.UUID,
    "replicated_by": queries.NAMESPACES,
    "replicating_nodes": queries.NAMESPACES,
}
"""`replicated_by` is the specification's name, `replicating_nodes` the Rails server's."""

DIGEST_FILTERS: queries.Filters = {"bag": queries.UUID, "node": queries.NAMESPACE}

DECLARED: tuple[Declared, ...] = (
    Lists("/bag", BAGS, "The bags of the network", BAG_FILTERS),
    Creates(
        "/bag",
        BAGS,
        "Record a bag",
        write=lambda job, bag: add_bag(job.session, bag, caller=job.caller, copies=job.copies),
    ),
    Shows("/bag/{uuid}", BAGS, "One bag"),
    Updates(
        "/bag/{uuid}",
        BAGS,
        "Change what may change of a bag's entry",
        write=lambda job, bag: put_bag(
            job.session, job.key, bag, caller=job.caller, now=job.now, copies=job.copies
        ),
    ),
    Lists("/digest", DIGESTS, "The bags' digests", DIGEST_FILTERS),
    Lists("/bag/{uuid}/digest", DIGESTS, "One bag's digests", DIGEST_FILTERS, fixed="bag"),
    Creates(
        "/bag/{uuid}/digest",
        DIGESTS,
        "Record a bag's digest",
        write=lambda job, digest: add_digest(job.session, job.key, digest, caller=job.caller, now=job.now),
    ),
    Shows("/bag/{uuid}/digest/{algorithm}", DIGESTS, "A bag's digest by one algorithm"),
)
