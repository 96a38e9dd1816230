"""Reads the query of a list: which page, in which order, filtered by what.

A filter whose value cannot be any record's gives an empty list, never all of them: the Rails server's other way
has cost its users data. Source: DPN REST API v2, lists; 302 and 400 as its server answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from dpn.registry import wire
from dpn.registry.catalogue import Query

DEFAULT_PAGE_SIZE = 25
MAX_PAGE_SIZE = 100
WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,8}\Z")
ORDERS = ("created_at", "updated_at")


class BadPaging(Exception):
    """`page` or `page_size` is not a positive number."""


class BadFilter(Exception):
    """A time or a boolean that is none."""


class PagingNeeded(Exception):
    """The page was not named: `location` names it. Relative, so that it holds behind any proxy."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class NoRecordHasIt(Exception):
    """A filter's value that no record can have."""


@dataclass(frozen=True)
class ListRequest:
    """What was asked for; `query` is none where nothing can match."""

    number: int
    size: int
    query: Query | None
    parameters: tuple[tuple[str, str], ...]

    def parameters_for(self, number: int) -> list[tuple[str, str]]:
        """The query of another page of the same list."""
        return [(name, str(number) if name == "page" else value) for name, value in self.parameters]


def read_list_request(parameters: QueryParams, filters: Mapping[str, Callable[[str], Any]]) -> ListRequest:
    """Raises BadPaging, BadFilter or PagingNeeded. Parameters that the list does not have are ignored."""
    number, size = _paging(parameters)
    return ListRequest(number, size, _query(parameters, filters), tuple(parameters.items()))


def _paging(parameters: QueryParams) -> tuple[int, int]:
    given = {name: parameters[name] for name in ("page", "page_size") if name in parameters}
    if not all(WHOLE_NUMBER.match(text) for text in given.values()):
        raise BadPaging
    number, size = int(given.get("page", 1)), int(given.get("page_size", DEFAULT_PAGE_SIZE))
    if len(given) == 2 and size <= MAX_PAGE_SIZE:
        return number, size
    named = dict(parameters) | {"page": str(number), "page_size": str(min(size, MAX_PAGE_SIZE))}
    raise PagingNeeded(f"?{urlencode(named)}")


def _query(parameters: QueryParams, filters: Mapping[str, Callable[[str], Any]]) -> Query | None:
    where: dict[str, Any] = {}
    possible = True
    for name in filters.keys() & parameters.keys():
        try:
            where[name] = filters[name](parameters[name])
        except NoRecordHasIt:
            possible = False
        except ValueError as error:
            raise BadFilter(f"{name}: {error}") from error
    order = [name for name in parameters.get("order_by", "").split(",") if name in ORDERS]
    query = Query(where, _time(parameters, "after"), _time(parameters, "before"), tuple(order))
    return query if possible else None


def _time(parameters: QueryParams, name: str) -> datetime | None:
    if name not in parameters:
        return None
    # The plus of a zone arrives as a blank where the client forgot to encode it.
    text = parameters[name].strip().replace(" ", "+") if "T" in parameters[name] else parameters[name]
    try:
        return wire.parse_instant(text)
    except ValueError as error:
        raise BadFilter(f"{name}: {error}") from error


def flag(text: str) -> bool:
    """Raises ValueError for what is no boolean: dropping the filter would show what was not asked for."""
    return wire.parse_flag(text)


def uuid(text: str) -> str:
    return _or_none_has_it(wire.parse_uuid, text)


def namespace(text: str) -> str:
    return _or_none_has_it(wire.parse_namespace, text)


def namespaces(text: str) -> tuple[str, ...]:
    """Namespaces separated by commas: any of them."""
    return tuple(namespace(part.strip()) for part in text.split(",") if part.strip()) or _nothing()


def bag_type(text: str) -> str:
    return text.upper() if text.upper() in ("D", "I", "R") else _nothing()


def words(text: str) -> str:
    """Any text that a record may hold."""
    return _nothing() if not text or wire.UNSTORABLE.search(text) else text


def _or_none_has_it(parse: Callable[[str], str], text: str) -> str:
    try:
        return parse(text)
    except ValueError as error:
        raise NoRecordHasIt from error


def _nothing() -> Any:
    raise NoRecordHasIt
