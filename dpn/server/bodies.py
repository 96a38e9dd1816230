"""Reads the body of a request: so many bytes, in so much time; and what it says: strictly JSON, and one object."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from dpn.registry import strict_json
from dpn.server.replies import Refusal

BODY_SECONDS = 60.0
"""How long a client may take to send what is a few kilobytes."""


async def read_body(request: Request, limit: int) -> bytes:
    """A body of at most `limit` bytes. Raises Refusal."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(request, limit)
    except TimeoutError as error:
        raise Refusal(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from error
    except ClientDisconnect as error:
        raise Refusal(400, "The body was cut short.") from error


def json_object_in(text: bytes) -> dict[str, Any]:
    """The object in a body; takes time with its length, so not for the event loop. Raises Refusal."""
    try:
        value = strict_json.parse(text)
    except strict_json.BrokenJson as error:
        raise Refusal(400, f"The body is {error}.") from error
    if flaw := strict_json.flaw_of(value):
        raise Refusal(400, f"The body is not usable JSON: {flaw}.")
    if not isinstance(value, dict):
        raise Refusal(400, "The body must be one JSON object.")
    return value


async def _read(request: Request, limit: int) -> bytes:
    """At most `limit` bytes, whatever the request says of its length."""
    too_large = Refusal(413, f"The body is larger than {limit} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise too_large
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > limit:
            raise too_large
    return bytes(text)
