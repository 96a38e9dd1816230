"""Reads the query of a list: which page, in which order, filtered by what.

A filter whose value cannot be any record's gives an empty list, never all of them: the Rails server's other way
has cost its users data. Source: DPN REST API v2, lists; 302 and 400 as its server answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from dpn.registry import wire
from dpn.registry.catalogue import Kind, Query
from dpn.server.replies import Refusal

DEFAULT_PAGE_SIZE = 25
MAX_PAGE_SIZE = 100
MAX_PAGE = 999_999_999
"""More than any list has, and so few digits that every database can skip to it."""

WHOLE_NUMBER = re.compile(r"[1-9][0-9]*\Z")
ORDERS = ("created_at", "updated_at")
FIRST_TIME = datetime(wire.FIRST_YEAR, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(wire.LAST_YEAR, 12, 31, 23, 59, 59, tzinfo=UTC)
FAR_YEAR = re.compile(r"(?P<early>0\d{3}|1[0-8]\d\d)(?=-)|9999(?=-)", re.ASCII)


class NoRecordHasIt(Exception):
    """A filter's value that no record can have."""


@dataclass(frozen=True)
class ListRequest:
    """What was asked for; `query` is None where nothing can match."""

    number: int
    size: int
    query: Query | None
    parameters: tuple[tuple[str, str], ...]

    def parameters_for(self, number: int) -> list[tuple[str, str]]:
        """The query of another page of the same list."""
        return [(name, str(number) if name == "page" else value) for name, value in self.parameters]


@dataclass(frozen=True)
class Filter:
    """How a filter's value is read, and what OpenAPI says of it.

    `read` raises NoRecordHasIt for what no record can have, ValueError for what is no answer to the question.
    """

    read: Callable[[str], Any]
    form: wire.Form
    says: str


Filters: TypeAlias = Mapping[str, Filter]


def read_list_request(
    parameters: QueryParams, kind: Kind[Any], filters: Filters, fixed: Mapping[str, str]
) -> ListRequest:
    """Raises Refusal: 400 for what is no page, time or boolean; 302 to the same list with its page named. (That is
    relative, so that it holds behind any proxy.) Parameters that the list does not have are ignored.

    `fixed` are filters that the path sets. Of a parameter that stands twice the last counts, as for Rails.
    """
    number, size = _paging(parameters)
    query = _query(parameters, kind, filters, fixed)
    if not {"page", "page_size"} <= parameters.keys() or size > MAX_PAGE_SIZE:
        named = dict(parameters) | {"page": str(number), "page_size": str(min(size, MAX_PAGE_SIZE))}
        raise Refusal(302, headers={"Location": f"?{urlencode(named)}"})
    return ListRequest(number, size, query, tuple(parameters.items()))


def _paging(parameters: QueryParams) -> tuple[int, int]:
    page, page_size = parameters.get("page", "1"), parameters.get("page_size", str(DEFAULT_PAGE_SIZE))
    if not (WHOLE_NUMBER.match(page) and WHOLE_NUMBER.match(page_size)) or _capped(page) > MAX_PAGE:
        raise Refusal(400)
    return _capped(page), _capped(page_size)


def _capped(digits: str) -> int:
    return int(digits) if len(digits) <= len(str(MAX_PAGE)) else MAX_PAGE + 1


def _query(parameters: QueryParams, kind: Kind[Any], filters: Filters, fixed: Mapping[str, str]) -> Query | None:
    """None where no record can be meant."""
    where: dict[str, Any] = {}
    possible = True
    for name in filters.keys() & parameters.keys():
        try:
            where[name] = filters[name].read(parameters[name])
        except NoRecordHasIt:
            possible = False
        except ValueError as error:
            raise Refusal(400, f"{name}: {error}") from error
    possible &= all(where.get(name, value) == value for name, value in fixed.items())
    latest = where.pop("latest", False)
    after, before = _time(parameters, "after"), _time(parameters, "before")
    query = Query({**where, **fixed}, after, before, _order(parameters, kind), latest)
    return query if possible else None


def _order(parameters: QueryParams, kind: Kind[Any]) -> tuple[str, ...]:
    """Records that never change have no `updated_at`: they are as they were created."""
    asked = [name for name in parameters.get("order_by", "").split(",") if name in ORDERS]
    fields = kind.record.model_fields
    return tuple(dict.fromkeys(name if name in fields else kind.record.STAMP for name in asked))


def _time(parameters: QueryParams, name: str) -> datetime | None:
    if name not in parameters:
        return None
    # The plus of a zone arrives as a blank where the client forgot to encode it.
    text = parameters[name].strip().replace(" ", "+") if "T" in parameters[name] else parameters[name]
    try:
        return _bound(text)
    except ValueError as error:
        raise Refusal(400, f"{name}: {error}") from error


def _bound(text: str) -> datetime:
    """An instant; outside all that records can have (Go's zero time is in the year 1), that end of it."""
    far = FAR_YEAR.match(text)
    if far is None:
        return wire.parse_instant(text)
    wire.parse_instant(FAR_YEAR.sub("2000", text, count=1))
    return FIRST_TIME if far["early"] else LAST_TIME


def _or_none_has_it(parse: Callable[[str], str], text: str) -> str:
    try:
        return parse(text)
    except ValueError as error:
        raise NoRecordHasIt from error


def _uuid(text: str) -> str:
    return _or_none_has_it(wire.parse_uuid, text)


def _namespace(text: str) -> str:
    return _or_none_has_it(wire.parse_namespace, text)


def _namespaces(text: str) -> tuple[str, ...]:
    return tuple(_namespace(part.strip()) for part in text.split(",") if part.strip()) or _nothing()


def _bag_type(text: str) -> str:
    return text.upper() if text.upper() in ("D", "I", "R") else _nothing()


def _words(text: str) -> str:
    return _nothing() if not text or wire.UNSTORABLE.search(text) else text


def _nothing() -> Any:
    raise NoRecordHasIt


TEXT: wire.Form = {"type": "string"}
UUID = Filter(_uuid, TEXT, "A UUID; any other text is nobody's, and the list is empty.")
NAMESPACE = Filter(_namespace, TEXT, "A node's namespace; for one that is unknown the list is empty.")
NAMESPACES = Filter(_namespaces, TEXT, "Namespaces separated by commas: any of them.")
BAG_TYPE = Filter(_bag_type, TEXT, "D, I or R; for anything else the list is empty.")
WORDS = Filter(_words, TEXT, "Exactly this text.")
FLAG = Filter(wire.parse_flag, wire.FLAG_WORD, "true, t, yes, y, 1 or false, f, no, n, 0, in any case.")
LATEST = Filter(
    wire.parse_flag,
    wire.FLAG_WORD,
    "Of what the other filters let through, only the newest: of each bag (and node).",
)
"""Not a value that records have: it becomes `Query.latest`."""
