"""/node: the members of the network, as we know them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dpn.database import reading
from dpn.registry.catalogue import NODES, add_node, find, put_node
from dpn.registry.records import NodeRecord
from dpn.registry.server.access import CallerDep, LocalCallerDep, NamespaceDep, RegistryDep
from dpn.registry.server.bodies import OurBodyDep, with_missing_times, with_our_times
from dpn.registry.server.replies import decision_reply, record_reply
from dpn.registry.server.routes.lists import answer_list

router = APIRouter(prefix="/node")


@router.get("")
def list_nodes(request: Request, registry: RegistryDep, _caller: CallerDep) -> Response:
    return answer_list(request, registry, NODES, {})


@router.post("")
def create_node(body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
    node = NodeRecord.from_wire(with_missing_times(body, registry))
    with registry.sessions.begin() as session:
        return decision_reply(add_node(session, node, caller=caller), done=201)


@router.get("/{namespace}")
def get_node(namespace: NamespaceDep, registry: RegistryDep, _caller: CallerDep) -> Response:
    with reading(registry.sessions) as session:
        return record_reply(find(session, NODES, namespace))


@router.put("/{namespace}")
def update_node(
    namespace: NamespaceDep, body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep
) -> Response:
    node = NodeRecord.from_wire(with_our_times(body, registry))
    with registry.sessions.begin() as session:
        return decision_reply(put_node(session, namespace, node, caller=caller, now=registry.clock.now()))
