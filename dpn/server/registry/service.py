"""The registry as a service: what other nodes and this one ask of it, under /api-v2."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from dpn.clock import Clock
from dpn.database import Sessions
from dpn.registry.catalogue import PageMemory
from dpn.registry.rules import Caller
from dpn.registry.settings import NodeSettings
from dpn.server.access import SECURITY, NodeTokens
from dpn.server.app import database_check
from dpn.server.openapi import answer
from dpn.server.registry.openapi import ABOUT, LIST_PARAMETERS, REFUSALS, schemas_of
from dpn.server.registry.operations import Registry, operation_of
from dpn.server.registry.routes import DECLARED
from dpn.server.replies import json_reply
from dpn.server.service import ApiDescription, HttpService, Operation, Part
from dpn.server.settings import ServerSettings

ROOT = "/api-v2"

VERSIONS: Part = {
    "type": "object",
    "required": ["app_version", "api_version"],
    "properties": {"app_version": {"type": "string"}, "api_version": {"const": "2"}},
}


def registry_service(
    *,
    sessions: Sessions,
    clock: Clock,
    node: NodeSettings,
    copies: int,
    withhold_digests: bool,
    server: ServerSettings,
) -> HttpService:
    """The registry of this node, where a bag is to have so many copies. With `withhold_digests` another node is
    shown our digest of a bag once it has sent its own. The database must have its schema."""
    registry = Registry(sessions, clock, node.address(), copies, PageMemory(clock.monotonic), withhold_digests)
    tokens = NodeTokens(sessions, node.namespace, clock)
    versions = {"app_version": version("dpn"), "api_version": "2"}
    what_runs: Operation[Caller] = Operation(
        "GET",
        "/version",
        "What runs here",
        guard=tokens.any_node,
        answer=lambda _: json_reply(versions),
        answers={"200": answer("The versions.", VERSIONS)},
    )
    description = ApiDescription(
        "DPN registry",
        ABOUT,
        paths=("/openapi.json", f"{ROOT}/openapi.json"),
        security=SECURITY,
        url=node.address() + ROOT,
        schemas=_schemas(),
        refusals=REFUSALS,
        parameters=LIST_PARAMETERS,
    )
    return HttpService(
        ROOT,
        [*(operation_of(declared, registry, tokens) for declared in DECLARED), what_runs],
        description,
        server.max_body_bytes,
        checks={"database": database_check(sessions)},
        either_slash=True,
    )


@cache
def _schemas() -> Mapping[str, Part]:
    """The same for every node, and a tenth of a second's work."""
    return schemas_of(DECLARED)
