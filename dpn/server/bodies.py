"""Reads the body of a request: so many bytes, in so much time; and what it says: strictly JSON, and one object.

A body that nobody wants is not waited for: its connection ends with the answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpn.registry import strict_json
from dpn.server.replies import Refusal

BODY_SECONDS = 60.0
"""How long a client may take to send what is a few kilobytes."""


class NothingDrained:
    """Makes an answer the last one of its connection if the body of its request was not read to the end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        unread = scope["type"] == "http" and _has_body(scope)

        async def reading() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def answering(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self._app(scope, reading, answering)


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


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0") != b""


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
