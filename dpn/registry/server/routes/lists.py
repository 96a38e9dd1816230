"""What all lists share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from dpn.database import reading
from dpn.registry.catalogue import Kind, Listing, list_page
from dpn.registry.records import Record
from dpn.registry.server.access import Registry
from dpn.registry.server.queries import read_list_request
from dpn.registry.server.replies import list_reply

R = TypeVar("R", bound=Record)

Filters = Mapping[str, Callable[[str], Any]]


def answer_list(request: Request, registry: Registry, kind: Kind[R], filters: Filters, **fixed: Any) -> Response:
    """The page of records that the request asks for; `fixed` are filters that the path itself sets."""
    asked = read_list_request(request.query_params, filters)
    if asked.query is None:
        nothing: Listing[R] = Listing(0, 0 if "size" in kind.table.c else None, [])
        return list_reply(request, registry, asked, nothing)
    query = asked.query.also(fixed)
    with reading(registry.sessions) as session:
        listing = list_page(session, kind, query, number=asked.number, size=asked.size)
    return list_reply(request, registry, asked, listing)
