"""Answers each operation as it was declared: whether the caller may ask is settled before anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dpn.database import reading
from dpn.registry.catalogue import Reader, find, list_page, state_of
from dpn.registry.catalogue.query import Listing
from dpn.registry.rules import Caller
from dpn.server.access import CallerDep, LocalCallerDep, Registry, RegistryDep
from dpn.server.bodies import BodyDep, OurBodyDep, with_missing_times, with_our_times
from dpn.server.registry.operations import (
    API,
    PATH_PARTS,
    Creates,
    Lists,
    Operation,
    Shows,
    Updates,
    Writing,
)
from dpn.server.registry.queries import read_list_request
from dpn.server.replies import decision_reply, list_reply, record_reply

READING = ["GET", "HEAD"]

Endpoint = Callable[..., Response]


def serve(app: FastAPI, operations: Iterable[Operation]) -> None:
    """Adds a route for each operation."""
    for operation in operations:
        endpoint, methods = _endpoint(operation)
        app.add_api_route(API + operation.path, endpoint, methods=methods)


def _endpoint(operation: Operation) -> tuple[Endpoint, list[str]]:
    match operation:
        case Lists():
            return _listing(operation), READING
        case Shows():
            return _showing(operation), READING
        case Creates():
            return _creating(operation), ["POST"]
        case Updates(by_peers=True):
            return _updating_by_peers(operation), ["PUT"]
        case Updates():
            return _updating(operation), ["PUT"]


def _listing(operation: Lists[Any]) -> Endpoint:
    kind = operation.kind

    def answer(request: Request, registry: RegistryDep, caller: CallerDep) -> Response:
        key = _key(request)
        fixed = {operation.fixed: key[0]} if operation.fixed else {}
        asked = read_list_request(request.query_params, kind, operation.filters, fixed)
        with reading(registry.sessions) as session:
            if operation.within is not None and find(session, operation.within, *key) is None:
                return record_reply(None)
            # Before the rows: what changes in between shows as a state that is already over.
            state = state_of(session, kind)
            if asked.query is None:
                listing: Listing[Any] = Listing(0, 0 if "size" in kind.table.c else None, [])
            else:
                reader = Reader(caller.namespace, state, registry.pages)
                listing = list_page(
                    session, kind, asked.query, number=asked.number, size=asked.size, reader=reader
                )
        return list_reply(request, registry, asked, listing, state)

    return answer


def _showing(operation: Shows[Any]) -> Endpoint:
    def answer(request: Request, registry: RegistryDep, _caller: CallerDep) -> Response:
        key = _key(request)
        with reading(registry.sessions) as session:
            return record_reply(find(session, operation.kind, *key))

    return answer


def _creating(operation: Creates[Any]) -> Endpoint:
    def answer(request: Request, body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
        record = operation.kind.record.from_wire(with_missing_times(body, registry))
        return _written(operation, request, registry, caller, record, done=201)

    return answer


def _updating(operation: Updates[Any]) -> Endpoint:
    def answer(request: Request, body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
        record = operation.kind.record.from_wire(with_our_times(body, registry))
        return _written(operation, request, registry, caller, record)

    return answer


def _updating_by_peers(operation: Updates[Any]) -> Endpoint:
    def answer(request: Request, body: BodyDep, registry: RegistryDep, caller: CallerDep) -> Response:
        record = operation.kind.record.from_wire(with_our_times(body, registry))
        return _written(operation, request, registry, caller, record)

    return answer


def _written(
    operation: Creates[Any] | Updates[Any],
    request: Request,
    registry: Registry,
    caller: Caller,
    record: Any,
    *,
    done: int = 200,
) -> Response:
    key, copies = "".join(_key(request)), registry.settings.ingest.copies
    with registry.sessions.begin() as session:
        job = Writing(session, caller, registry.clock.now(), copies, key)
        return decision_reply(operation.write(job, record), done=done)


def _key(request: Request) -> tuple[str, ...]:
    """The values in the path, in its order; 404 for what can name nothing."""
    try:
        return tuple(PATH_PARTS[name].read(text) for name, text in request.path_params.items())
    except ValueError as error:
        raise HTTPException(404) from error
