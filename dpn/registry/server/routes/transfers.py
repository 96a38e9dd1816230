"""/replicate: which node is asked to keep a copy of which bag, and how far that has come."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dpn.database import reading
from dpn.registry.catalogue import TRANSFERS, add_transfer, find, put_transfer
from dpn.registry.records import ReplicationRecord
from dpn.registry.server import queries
from dpn.registry.server.access import CallerDep, LocalCallerDep, RegistryDep, UuidDep
from dpn.registry.server.bodies import BodyDep, OurBodyDep, with_missing_times, with_our_times
from dpn.registry.server.replies import decision_reply, record_reply
from dpn.registry.server.routes.lists import Filters, answer_list

router = APIRouter(prefix="/replicate")

FILTERS: Filters = {
    "bag": queries.uuid,
    "cancel_reason": queries.words,
    "cancelled": queries.flag,
    "from_node": queries.namespace,
    "store_requested": queries.flag,
    "stored": queries.flag,
    "to_node": queries.namespace,
}


@router.get("")
def list_transfers(request: Request, registry: RegistryDep, _caller: CallerDep) -> Response:
    return answer_list(request, registry, TRANSFERS, FILTERS)


@router.post("")
def create_transfer(body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
    transfer = ReplicationRecord.from_wire(with_missing_times(body, registry))
    with registry.sessions.begin() as session:
        return decision_reply(add_transfer(session, transfer, caller=caller), done=201)


@router.get("/{uuid}")
def get_transfer(uuid: UuidDep, registry: RegistryDep, _caller: CallerDep) -> Response:
    with reading(registry.sessions) as session:
        return record_reply(find(session, TRANSFERS, uuid))


@router.put("/{uuid}")
def update_transfer(uuid: UuidDep, body: BodyDep, registry: RegistryDep, caller: CallerDep) -> Response:
    """The only call that another node may write with: its `to_node` moves the transfer on."""
    transfer = ReplicationRecord.from_wire(with_our_times(body, registry))
    with registry.sessions.begin() as session:
        return decision_reply(put_transfer(session, uuid, transfer, caller=caller, now=registry.clock.now()))
