"""How answers look: JSON, and refusals in the one form that they have everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response

JSON_TYPE = "application/json; charset=utf-8"
UNCACHED = {"Cache-Control": "no-store"}

TOLD_AS_TEXT = frozenset({401, 403, 404, 405, 409})
"""Refusals in plain text, a message a line, as the Rails server of the DPN has them; all others are JSON."""


class Refusal(Exception):
    """What was asked is not done: `status` and `messages` say why."""

    def __init__(self, status: int, *messages: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, *messages)
        self.status = status
        self.messages = messages
        self.headers = headers

    def reply(self) -> Response:
        return refusal_reply(self.status, self.messages, self.headers)


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The value as JSON, not to be cached."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, {**UNCACHED, **(headers or {})}, JSON_TYPE)


def refusal_reply(status: int, messages: Iterable[str] = (), headers: Mapping[str, str] | None = None) -> Response:
    """`{"errors": [...]}`, or plain text (see TOLD_AS_TEXT); without messages nothing but the status."""
    told = list(messages)
    if not told:
        return Response(status_code=status, headers=headers)
    if status in TOLD_AS_TEXT:
        return Response("".join(f"{message}\n" for message in told), status, headers, "text/plain")
    return json_reply({"errors": told}, status, headers)
