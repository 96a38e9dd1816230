"""/node and /member: who keeps bags, and whose."""

from __future__ import annotations

from dpn.registry.catalogue import BAGS, MEMBERS, NODES, add_member, add_node, put_member, put_node
from dpn.server.registry import queries
from dpn.server.registry.declarations import Creates, Declared, Lists, Shows, Updates
from dpn.server.registry.routes.bags import BAG_FILTERS

MEMBER_FILTERS: queries.Filters = {"name": queries.WORDS, "email": queries.WORDS}

DECLARED: tuple[Declared, ...] = (
    Lists("/node", NODES, "The nodes of the network, as this one knows them"),
    Creates(
        "/node", NODES, "Record a node", write=lambda job, node: add_node(job.session, node, caller=job.caller)
    ),
    Shows("/node/{namespace}", NODES, "One node"),
    Updates(
        "/node/{namespace}",
        NODES,
        "Change a node's entry",
        write=lambda job, node: put_node(job.session, job.key, node, caller=job.caller, now=job.now),
    ),
    Lists("/member", MEMBERS, "The institutions whose content the network keeps", MEMBER_FILTERS),
    Creates(
        "/member",
        MEMBERS,
        "Record a member",
        write=lambda job, member: add_member(job.session, member, caller=job.caller),
    ),
    Shows("/member/{uuid}", MEMBERS, "One member"),
    Updates(
        "/member/{uuid}",
        MEMBERS,
        "Change a member's name or email",
        write=lambda job, member: put_member(job.session, job.key, member, caller=job.caller, now=job.now),
    ),
    Lists("/member/{uuid}/bags", BAGS, "A member's bags", BAG_FILTERS, fixed="member", within=MEMBERS),
)
