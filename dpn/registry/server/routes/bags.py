"""/bag, /bag/{uuid}/digest and /digest: the bags of the network and their fixity."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dpn.database import reading
from dpn.registry.catalogue import BAGS, DIGESTS, add_bag, add_digest, find, put_bag
from dpn.registry.records import BagRecord, DigestRecord
from dpn.registry.rules.transfers import SUPPORTED_ALGORITHMS
from dpn.registry.server import queries
from dpn.registry.server.access import CallerDep, LocalCallerDep, RegistryDep, UuidDep
from dpn.registry.server.bodies import OurBodyDep, with_missing_times, with_our_times
from dpn.registry.server.replies import decision_reply, record_reply
from dpn.registry.server.routes.lists import Filters, answer_list

router = APIRouter()

BAG_FILTERS: Filters = {
    "admin_node": queries.namespace,
    "bag_type": queries.bag_type,
    "first_version_uuid": queries.uuid,
    "ingest_node": queries.namespace,
    "member": queries.uuid,
    "replicated_by": queries.namespaces,
    "replicating_nodes": queries.namespaces,
}
DIGEST_FILTERS: Filters = {"bag": queries.uuid, "node": queries.namespace}
DIGEST_OF_A_BAG_FILTERS: Filters = {"node": queries.namespace}


@router.get("/bag")
def list_bags(request: Request, registry: RegistryDep, _caller: CallerDep) -> Response:
    return answer_list(request, registry, BAGS, BAG_FILTERS)


@router.post("/bag")
def create_bag(body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
    bag = BagRecord.from_wire(with_missing_times(body, registry))
    with registry.sessions.begin() as session:
        return decision_reply(add_bag(session, bag, caller=caller), done=201)


@router.get("/bag/{uuid}")
def get_bag(uuid: UuidDep, registry: RegistryDep, _caller: CallerDep) -> Response:
    with reading(registry.sessions) as session:
        return record_reply(find(session, BAGS, uuid))


@router.put("/bag/{uuid}")
def update_bag(uuid: UuidDep, body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
    bag = BagRecord.from_wire(with_our_times(body, registry))
    with registry.sessions.begin() as session:
        return decision_reply(put_bag(session, uuid, bag, caller=caller, now=registry.clock.now()))


@router.get("/digest")
def list_digests(request: Request, registry: RegistryDep, _caller: CallerDep) -> Response:
    return answer_list(request, registry, DIGESTS, DIGEST_FILTERS)


@router.get("/bag/{uuid}/digest")
def list_digests_of_a_bag(uuid: UuidDep, request: Request, registry: RegistryDep, _caller: CallerDep) -> Response:
    return answer_list(request, registry, DIGESTS, DIGEST_OF_A_BAG_FILTERS, bag=uuid)


@router.post("/bag/{uuid}/digest")
def create_digest(uuid: UuidDep, body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
    digest = DigestRecord.from_wire(with_missing_times(body, registry))
    with registry.sessions.begin() as session:
        decision = add_digest(session, uuid, digest, caller=caller, now=registry.clock.now())
        return decision_reply(decision, done=201)


@router.get("/bag/{uuid}/digest/{algorithm}")
def get_digest(uuid: UuidDep, algorithm: str, registry: RegistryDep, _caller: CallerDep) -> Response:
    if algorithm not in SUPPORTED_ALGORITHMS:
        return record_reply(None)
    with reading(registry.sessions) as session:
        return record_reply(find(session, DIGESTS, uuid, algorithm))
