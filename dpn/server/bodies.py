"""Reads the body of a request: so many bytes, in so much time, strictly JSON, and one object."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import ClientDisconnect, Request

from dpn.registry import strict_json
from dpn.registry.wire import format_instant
from dpn.server.access import CallerDep, LocalCallerDep, Registry, RegistryDep

BODY_SECONDS = 60.0
"""How long a client may take to send a record: a few kilobytes."""


class BadBody(Exception):
    """The body cannot be used; `status` is the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def body_of_a_node(request: Request, registry: RegistryDep, _caller: CallerDep) -> dict[str, Any]:
    """The object in the body. Nothing is read from a caller without a valid token."""
    return await _json_object(request, registry)


async def body_of_ours(request: Request, registry: RegistryDep, _caller: LocalCallerDep) -> dict[str, Any]:
    """The object in the body. Nothing is read from anyone but the node itself."""
    return await _json_object(request, registry)


BodyDep = Annotated[dict[str, Any], Depends(body_of_a_node)]
OurBodyDep = Annotated[dict[str, Any], Depends(body_of_ours)]


async def _json_object(request: Request, registry: Registry) -> dict[str, Any]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            text = await _read(request, registry.settings.server.max_body_bytes)
    except TimeoutError as error:
        raise BadBody(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from error
    except ClientDisconnect as error:
        raise BadBody(400, "The body was cut short.") from error
    try:
        value = strict_json.parse(text)
    except strict_json.BrokenJson as error:
        raise BadBody(400, f"The body is {error}.") from error
    if flaw := strict_json.flaw_of(value):
        raise BadBody(400, f"The body is not usable JSON: {flaw}.")
    if not isinstance(value, dict):
        raise BadBody(400, "The body must be one JSON object.")
    return value


TIMES = frozenset({"created_at", "updated_at"})


def with_missing_times(body: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """The body of a new record: its times are kept, ours stand in for those it has not."""
    now = format_instant(registry.clock.now())
    times = {name: now for name in TIMES if body.get(name) is None}
    return {**body, **times}


def with_our_times(body: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """The body of a changed record: whatever times it has do not count."""
    now = format_instant(registry.clock.now())
    return {**body, **dict.fromkeys(TIMES, now)}


async def _read(request: Request, limit: int) -> bytes:
    """At most `limit` bytes, whatever the request says of its length."""
    too_large = BadBody(413, f"The body is larger than {limit} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise too_large
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > limit:
            raise too_large
    return bytes(text)
