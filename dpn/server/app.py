"""Puts the server together: routes, errors, the log line of each request, and a health check."""

from __future__ import annotations

from importlib.metadata import version

import structlog
from fastapi import FastAPI, Response
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.registry.catalogue import PageMemory
from dpn.registry.records import InvalidRecord
from dpn.server.access import CallerDep, Registry, RegistryDep
from dpn.server.bodies import BadBody
from dpn.server.middleware import OneLineARequest, TrailingSlash
from dpn.server.registry import openapi
from dpn.server.registry.operations import API
from dpn.server.registry.queries import BadFilter, BadPaging, PagingNeeded
from dpn.server.registry.routes import OPERATIONS
from dpn.server.registry.serving import READING, serve
from dpn.server.replies import errors_reply, json_reply
from dpn.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

BUSY_SECONDS = 5
"""When a client may ask again after the database was away or all its connections were taken."""


def create_app(sessions: Sessions, settings: Settings, clock: Clock) -> FastAPI:
    """The registry server of the node that `settings` describe. The database must have its schema."""
    # Our own description, not the generated one: that knows nothing of filters. Both forms of slashes are served.
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.registry = Registry(sessions, settings, clock, PageMemory(clock.monotonic))
    serve(app, OPERATIONS)
    app.add_api_route(f"{API}/version", _version, methods=READING)
    app.add_api_route("/healthz", _health, methods=READING)
    description = openapi.describe(OPERATIONS, api_root=settings.node.api_root)
    for path in ("/openapi.json", f"{API}/openapi.json"):
        app.add_api_route(path, lambda: json_reply(description), methods=READING)
    app.add_middleware(TrailingSlash, under=API)
    app.add_middleware(OneLineARequest)
    _answer_errors(app)
    return app


def _version(_caller: CallerDep) -> Response:
    return json_reply({"app_version": version("dpn"), "api_version": "2"})


def _health(registry: RegistryDep) -> Response:
    try:
        with reading(registry.sessions) as session:
            session.execute(text("SELECT 1"))
    except (DBAPIError, PoolTimeout):
        return json_reply({"status": "the database does not answer"}, status=503)
    return json_reply({"status": "ok"})


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(InvalidRecord)
    async def invalid_record(_request: Request, error: InvalidRecord) -> Response:
        return errors_reply(400, error.problems)

    @app.exception_handler(BadBody)
    async def bad_body(_request: Request, error: BadBody) -> Response:
        return _hanging_up(errors_reply(error.status, (str(error),)))

    @app.exception_handler(BadFilter)
    async def bad_filter(_request: Request, error: BadFilter) -> Response:
        return errors_reply(400, (str(error),))

    @app.exception_handler(BadPaging)
    async def bad_paging(_request: Request, _error: BadPaging) -> Response:
        return Response(status_code=400)

    @app.exception_handler(PagingNeeded)
    async def paging_needed(_request: Request, error: PagingNeeded) -> Response:
        return Response(status_code=302, headers={"Location": error.location})

    @app.exception_handler(IntegrityError)
    async def overtaken(_request: Request, error: IntegrityError) -> Response:
        log.warning("another write came first", error=str(error.orig))
        return Response(status_code=409)

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    async def busy(_request: Request, error: Exception) -> Response:
        log.error("the database does not answer", error=str(error))
        reply = errors_reply(503, ("The registry cannot reach its database: ask again later.",))
        reply.headers["Retry-After"] = str(BUSY_SECONDS)
        return reply

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return Response(status_code=404)
        headers = {"Allow": ", ".join(_allowed(app, request))} if error.status_code == 405 else error.headers
        text = f"{error.detail}\n"
        reply = Response(text, status_code=error.status_code, headers=headers, media_type="text/plain")
        return _hanging_up(reply) if error.status_code in (401, 403) else reply


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of all routes that have the path: the framework names only those of one."""
    there = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in there for method in getattr(route, "methods", None) or ()})


def _hanging_up(reply: Response) -> Response:
    """The last answer on its connection: what the client still sends of its body is not waited for."""
    reply.headers["Connection"] = "close"
    return reply
