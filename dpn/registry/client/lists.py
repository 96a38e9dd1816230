"""Reads a peer's lists page by page, every row held against what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from dpn.errors import PeerUnavailable
from dpn.registry.client.calls import PeerCalls
from dpn.registry.client.pages import PAGE_SIZE, RowsOfAPage, read_page
from dpn.registry.client.rows import RejectedRecord, RowFilter, read_rows
from dpn.registry.client.walk import EndlessList, ListWalk, Reading, ShortList
from dpn.registry.records import Record
from dpn.registry.wire import format_instant, parse_instant
from dpn.text import is_text

R = TypeVar("R", bound=Record)

Filters = Mapping[str, str | bool | None]

OFTEN_UNKNOWN = {"member": frozenset({"after", "before"}), "digest": frozenset({"node"})}
"""The filters that the real server ignores, by list."""

STATE_HEADER = "DPN-List-State"
MAX_STATE_LENGTH = 255


class IncompleteList(PeerUnavailable):
    """A list showed fewer records than the peer counts. What was read is right; the rest is asked for again."""


class PeerLists:
    """The lists of one peer's registry."""

    def __init__(self, calls: PeerCalls) -> None:
        self._calls = calls

    def read(
        self, path: str, record_type: type[R], filters: Filters, after: datetime | None, before: datetime | None
    ) -> Iterator[list[R | RejectedRecord]]:
        """See RegistryClient."""
        wanted: RowFilter[R] = RowFilter(
            _given(filters),
            parse_instant(after) if after else None,
            parse_instant(before) if before else None,
            OFTEN_UNKNOWN.get(path, frozenset()),
        )
        parameters = _parameters(wanted) | {"order_by": record_type.STAMP, "page_size": str(PAGE_SIZE)}
        fetch = partial(self._page, path, parameters)
        walk = ListWalk(fetch, Reading(record_type.KEY, record_type.STAMP), parameters.get("before"))
        try:
            for rows in walk.pages():
                yield read_rows(rows, record_type, wanted, peer=self._calls.peer, kind=path)
        except EndlessList as error:
            raise self._calls.nonsense(f"its list of {path} records does not end: {error}") from error
        except ShortList as error:
            raise IncompleteList(
                f"peer:{self._calls.peer}", f"its list of {path} records is short: {error}"
            ) from error

    def state(self, path: str, filters: Filters) -> str | None:
        """See RegistryClient.list_state."""
        answer = self._calls.get(f"{path}/", _texts(filters) | {"page": "1", "page_size": "1"})
        state = answer.headers.get(STATE_HEADER)
        plausible = state and len(state) <= MAX_STATE_LENGTH and state.isascii() and is_text(state)
        return state if plausible else None

    def count(self, path: str, filters: Filters) -> int:
        """See RegistryClient.list_count."""
        return self._page(path, _texts(filters) | {"page_size": "1"}, 1, None).count

    def _page(self, path: str, parameters: Mapping[str, str], number: int, until: str | None) -> RowsOfAPage:
        """Page `number` of the records up to `until`."""
        window = {} if until is None else {"before": until}
        answer = self._calls.get(f"{path}/", {**parameters, **window, "page": str(number)})
        try:
            return read_page(answer.value)
        except ValueError as error:
            raise self._calls.nonsense(str(error)) from error


def _given(filters: Filters) -> dict[str, str | bool]:
    return {name: value for name, value in filters.items() if value is not None}


def _parameters(wanted: RowFilter[Any]) -> dict[str, str]:
    parameters = _texts(wanted.values)
    for name, instant in (("after", wanted.after), ("before", wanted.before)):
        if instant is not None:
            parameters[name] = format_instant(instant)
    return parameters


def _texts(filters: Filters) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else str(value).lower() for name, value in _given(filters).items()
    }
