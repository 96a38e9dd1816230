"""How the registry answers: records, pages of lists, and what its rules decided."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from dpn.registry.catalogue import RecordPage
from dpn.registry.records import Record
from dpn.registry.rules import Decision, Refused
from dpn.server.registry.queries import ListRequest
from dpn.server.replies import json_reply, refusal_reply

R = TypeVar("R", bound=Record)

LIST_STATE = "DPN-List-State"
"""The header that vouches for a list: while it is equal for the same address, none of its records has changed."""


def record_reply(record: Record | None) -> Response:
    """The record, or 404 with nothing in it."""
    return refusal_reply(404) if record is None else json_reply(record.to_wire())


def decision_reply(decision: Decision[R], *, done: int) -> Response:
    """The record as it now stands, or why it does not."""
    if isinstance(decision, Refused):
        return refusal_reply(decision.status, decision.messages)
    return json_reply(decision.record.to_wire(), done)


def list_reply(
    request: Request, api_root: str, asked: ListRequest, listing: RecordPage[R], state: str
) -> Response:
    """One page in its envelope. `next` and `previous` are addresses at our public root."""

    def page(number: int) -> str:
        return f"{api_root}{request.url.path}?{urlencode(asked.parameters_for(number))}"

    envelope: dict[str, Any] = {
        "count": listing.count,
        "next": page(asked.number + 1) if listing.has_next else None,
        "previous": page(asked.number - 1) if asked.number > 1 else None,
        "results": [record.to_wire() for record in listing.records],
    }
    if listing.total_size is not None:
        envelope["total_size"] = listing.total_size
    return json_reply(envelope, headers={LIST_STATE: state})
