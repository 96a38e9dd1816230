"""How answers look: records and lists as JSON, refusals with the bodies that clients know."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from dpn.registry.catalogue import Listing
from dpn.registry.records import Record
from dpn.registry.rules import Decision, Refused
from dpn.server.access import Registry
from dpn.server.registry.queries import ListRequest

R = TypeVar("R", bound=Record)

JSON_TYPE = "application/json; charset=utf-8"
UNCACHED = {"Cache-Control": "no-store"}

LIST_STATE = "DPN-List-State"
"""The header that vouches for a list: while it is equal for the same address, none of its records has changed."""


def json_reply(value: Any, status: int = 200) -> Response:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status_code=status, media_type=JSON_TYPE, headers=UNCACHED)


def errors_reply(status: int, messages: Iterable[str]) -> Response:
    return json_reply({"errors": list(messages)}, status)


def record_reply(record: Record | None) -> Response:
    """The record, or 404 with nothing in it."""
    return Response(status_code=404) if record is None else json_reply(record.to_wire())


def decision_reply(decision: Decision[R], *, done: int = 200) -> Response:
    """The record as it now stands, or why it does not; only 400 has messages as JSON."""
    if not isinstance(decision, Refused):
        return json_reply(decision.record.to_wire(), done)
    if decision.status == 400:
        return errors_reply(400, decision.messages)
    text = "".join(f"{message}\n" for message in decision.messages)
    return Response(text, status_code=decision.status, media_type="text/plain")


def list_reply(
    request: Request, registry: Registry, asked: ListRequest, listing: Listing[R], state: str
) -> Response:
    """One page in its envelope. `next` and `previous` are addresses at our public root."""
    root = registry.settings.node.api_root
    path = request.scope.get("dpn.asked_path", request.url.path)

    def page(number: int) -> str:
        return f"{root}{path}?{urlencode(asked.parameters_for(number))}"

    envelope: dict[str, Any] = {
        "count": listing.count,
        "next": page(asked.number + 1) if listing.has_next else None,
        "previous": page(asked.number - 1) if asked.number > 1 else None,
        "results": [record.to_wire() for record in listing.records],
    }
    if listing.total_size is not None:
        envelope["total_size"] = listing.total_size
    reply = json_reply(envelope)
    reply.headers[LIST_STATE] = state
    return reply
