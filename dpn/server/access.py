"""Who asks, and what the routes work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.registry import tokens
from dpn.registry.catalogue import PageMemory
from dpn.registry.rules import Caller
from dpn.registry.rules.decisions import LOCAL_ONLY
from dpn.registry.wire import parse_uuid
from dpn.settings import Settings


@dataclass(frozen=True)
class Registry:
    """What the server was made with."""

    sessions: Sessions
    settings: Settings
    clock: Clock
    pages: PageMemory


def registry_of(request: Request) -> Registry:
    return cast("Registry", request.app.state.registry)


RegistryDep = Annotated[Registry, Depends(registry_of)]


def authenticated(request: Request, registry: RegistryDep) -> Caller:
    """The node whose token the request shows; 401 without a valid one."""
    token = tokens.token_in(request.headers.get("authorization", ""))
    if token is not None:
        with reading(registry.sessions) as session:
            namespace = tokens.identify(session, token)
        if namespace is not None:
            request.scope["dpn.caller"] = namespace
            return Caller(namespace, registry.settings.node.namespace)
    raise HTTPException(
        401, "HTTP Token: Access denied.", headers={"WWW-Authenticate": 'Token realm="Application"'}
    )


CallerDep = Annotated[Caller, Depends(authenticated)]


def the_node_itself(caller: CallerDep) -> Caller:
    """The caller, if it is this node; 403 for anyone else, before a body is read."""
    if not caller.is_local:
        raise HTTPException(403, LOCAL_ONLY.messages[0])
    return caller


LocalCallerDep = Annotated[Caller, Depends(the_node_itself)]


def uuid_in_path(uuid: str) -> str:
    """The uuid of the path, in lower case; 404 for what cannot be one."""
    try:
        return parse_uuid(uuid)
    except ValueError as error:
        raise HTTPException(404) from error


UuidDep = Annotated[str, Depends(uuid_in_path)]
