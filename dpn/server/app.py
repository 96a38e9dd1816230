"""Puts a server together of its services: routes, errors in one form, the log line of each request, health."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from dpn.database import Sessions, reading, writes
from dpn.server.bodies import NothingDrained, json_object_in, read_body
from dpn.server.openapi import describe
from dpn.server.replies import Refusal, json_reply, refusal_reply
from dpn.server.request_log import OneLineARequest
from dpn.server.service import Call, Check, HttpService, Operation

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

BUSY_SECONDS = 5
"""When a client may ask again after the database was away or all its connections were taken."""


def create_app(*services: HttpService) -> FastAPI:
    """A server of these services. Where two serve the same path, the first does.

    FastAPI, so that a service may bring routes of that kind; what it generates of itself is left out: redirects of
    slashes, and a description that would know nothing of ours.
    """
    checks = {name: check for service in services for name, check in service.checks.items()}
    routes: list[BaseRoute] = [Route("/healthz", lambda _: _health(checks))]
    for service in services:
        routes += _routes(service)
    return FastAPI(
        routes=routes,
        openapi_url=None,
        redirect_slashes=False,
        middleware=[Middleware(NothingDrained), Middleware(OneLineARequest)],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _not_served,
            IntegrityError: _overtaken,
            OperationalError: _busy,
            PoolTimeout: _busy,
        },
    )


def database_check(sessions: Sessions) -> Check:
    """Whether the database answers, and takes writes."""

    def check() -> str | None:
        try:
            with reading(sessions) as session:
                return None if writes(session) else "the database takes no writes"
        except (DBAPIError, PoolTimeout):
            return "the database does not answer"

    return check


def _health(checks: dict[str, Check]) -> Response:
    wrong = [problem for check in checks.values() if (problem := check())]
    return json_reply({"status": "; ".join(wrong) or "ok"}, 503 if wrong else 200)


def _routes(service: HttpService) -> Iterator[BaseRoute]:
    document = describe(service)
    for path in service.description.paths:
        yield Route(path, lambda _: json_reply(document))
    for operation in service.operations:
        path = service.root + operation.path
        for spelled in (path, f"{path}/") if service.either_slash else (path,):
            yield Route(spelled, _endpoint(operation, service.max_body_bytes), methods=[operation.method])
    yield from service.routes


def _endpoint(operation: Operation[Any], max_body_bytes: int) -> Any:
    """Whether the caller may ask is settled before anything else; who may not is not read from."""

    async def endpoint(request: Request) -> Response:
        caller = await run_in_threadpool(operation.guard.admit, request)
        sent = None if operation.body is None else await read_body(request, max_body_bytes)
        try:
            path = {name: operation.parts[name].read(part) for name, part in request.path_params.items()}
        except ValueError:
            return refusal_reply(404)

        def answered() -> Response:
            body = {} if sent is None else json_object_in(sent)
            return operation.answer(Call(request, caller, path, body))

        return await run_in_threadpool(answered)

    return endpoint


async def _refused(_request: Request, refusal: Refusal) -> Response:
    return refusal.reply()


async def _not_served(request: Request, error: HTTPException) -> Response:
    """No such path, no such method, or what a service's own route raises."""
    if error.status_code == 404:
        return refusal_reply(404)
    headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
    return refusal_reply(error.status_code, (error.detail,), headers)


def _allowed(request: Request) -> list[str]:
    """The methods of all routes that have the path: the framework names only those of one."""
    there = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in there for method in getattr(route, "methods", None) or ()})


async def _overtaken(_request: Request, error: IntegrityError) -> Response:
    log.warning("another write came first", error=str(error.orig))
    return refusal_reply(409)


async def _busy(_request: Request, error: Exception) -> Response:
    log.error("the database does not answer", error=str(error))
    why = "The server cannot reach its database: ask again later."
    return refusal_reply(503, (why,), {"Retry-After": str(BUSY_SECONDS)})
