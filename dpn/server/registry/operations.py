"""Makes operations of what the registry declares: how each is answered, and what is said of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.responses import Response

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    DIGESTS,
    SHOWN_TO,
    TRANSFERS,
    Kind,
    PageMemory,
    Reader,
    RecordPage,
    find,
    list_page,
    state_of,
)
from dpn.registry.records import InvalidRecord, Record, ReplicationRecord
from dpn.registry.rules import Accepted, Caller, CancelReason
from dpn.registry.wire import format_instant
from dpn.server.access import NodeTokens
from dpn.server.openapi import reference
from dpn.server.registry.declarations import PATH_PARTS, Creates, Declared, Lists, Shows, Updates, Writing
from dpn.server.registry.openapi import TIMES, name_of, page_answer, query_parameters, record_answer
from dpn.server.registry.queries import read_list_request
from dpn.server.registry.replies import decision_reply, list_reply, record_reply
from dpn.server.replies import Refusal
from dpn.server.service import Call, Operation

WITHHELD = "the digest that was sent is not the bag's"


@dataclass(frozen=True)
class Registry:
    """What the registry is served of."""

    sessions: Sessions
    clock: Clock
    api_root: str
    copies: int
    pages: PageMemory
    withhold_digests: bool

    def shown(self, kind: Kind[Any], caller: Caller) -> dict[str, Any]:
        """The filter that leaves out what this caller may not see yet."""
        withheld = self.withholds_from(caller) and SHOWN_TO in kind.conditions
        return {SHOWN_TO: (caller.us, caller.namespace)} if withheld else {}

    def as_told(self, record: Record, caller: Caller) -> Record:
        """The record without the digest that was expected where a wrong one was sent."""
        if (
            self.withholds_from(caller)
            and isinstance(record, ReplicationRecord)
            and record.from_node == caller.us
            and record.cancel_reason == CancelReason.FIXITY_REJECT
        ):
            return record.model_copy(update={"cancel_reason_detail": WITHHELD})
        return record

    def withholds_from(self, caller: Caller) -> bool:
        return self.withhold_digests and not caller.is_local


def operation_of(declared: Declared, registry: Registry, tokens: NodeTokens) -> Operation[Caller]:
    """The operation that was declared."""
    name = name_of(declared.kind)
    operation: Callable[..., Operation[Caller]] = partial(
        Operation, path=declared.path, summary=declared.summary, parts=PATH_PARTS, tags=(declared.kind.name,)
    )
    match declared:
        case Lists():
            return operation(
                "GET",
                guard=tokens.any_node,
                answer=partial(_list, registry, declared),
                answers={"200": page_answer(name)},
                refusals={"302": "302", "400": "BadQuery"},
                parameters=query_parameters(declared.filters),
            )
        case Shows():
            return operation(
                "GET",
                guard=tokens.any_node,
                answer=partial(_show, registry, declared),
                answers={"200": record_answer(name)},
            )
        case Creates():
            return operation(
                "POST",
                guard=tokens.this_node,
                answer=partial(_create, registry, declared),
                answers={"201": record_answer(name)},
                refusals={"409": "409"},
                body=reference(f"New{name}"),
            )
        case Updates():
            return operation(
                "PUT",
                guard=tokens.any_node if declared.by_peers else tokens.this_node,
                answer=partial(_update, registry, declared),
                answers={"200": record_answer(name)},
                refusals={"403": "403", "409": "409"},
                body=reference(f"Changed{name}"),
            )


def _list(registry: Registry, declared: Lists[Any], call: Call[Caller]) -> Response:
    kind, key = declared.kind, tuple(call.path.values())
    fixed = {declared.fixed: key[0]} if declared.fixed else {}
    asked = read_list_request(call.request.query_params, kind, declared.filters, fixed)
    with reading(registry.sessions) as session:
        if declared.within is not None and find(session, declared.within, *key) is None:
            raise Refusal(404)
        shown = registry.shown(kind, call.caller)
        # Before the rows: what changes in between shows as a state that is already over. Whether a digest is shown
        # depends on transfers, and on what bags say of their holders.
        state = state_of(session, *([DIGESTS, TRANSFERS, BAGS] if shown else [kind]))
        if asked.query is None:
            listing: RecordPage[Any] = RecordPage(0, 0 if "size" in kind.table.c else None, [])
        else:
            reader = Reader(call.caller.namespace, state, registry.pages)
            listing = list_page(
                session, kind, asked.query.also(shown), number=asked.number, size=asked.size, reader=reader
            )
    told = [registry.as_told(record, call.caller) for record in listing.records]
    return list_reply(call.request, registry.api_root, asked, replace(listing, records=told), state)


def _show(registry: Registry, declared: Shows[Any], call: Call[Caller]) -> Response:
    with reading(registry.sessions) as session:
        shown = registry.shown(declared.kind, call.caller)
        record = find(session, declared.kind, *call.path.values(), where=shown)
    return record_reply(record and registry.as_told(record, call.caller))


def _create(registry: Registry, declared: Creates[Any], call: Call[Caller]) -> Response:
    """The record's times are kept, ours stand in for those it has not."""
    missing = {name for name in TIMES if call.body.get(name) is None}
    return _write(registry, declared, call, ours=missing, done=201)


def _update(registry: Registry, declared: Updates[Any], call: Call[Caller]) -> Response:
    """Whatever times the record has do not count."""
    return _write(registry, declared, call, ours=TIMES, done=200)


def _write(
    registry: Registry,
    declared: Creates[Any] | Updates[Any],
    call: Call[Caller],
    *,
    ours: set[str] | frozenset[str],
    done: int,
) -> Response:
    """With the time of now as those that are `ours`."""
    now = registry.clock.now()
    try:
        record = declared.kind.record.from_wire({**call.body, **dict.fromkeys(ours, format_instant(now))})
    except InvalidRecord as error:
        raise Refusal(400, *error.problems) from error
    with registry.sessions.begin() as session:
        writing = Writing(session, call.caller, now, registry.copies, key="".join(call.path.values()))
        decision = declared.write(writing, record)
    if isinstance(decision, Accepted):
        decision = Accepted(registry.as_told(decision.record, call.caller))
    return decision_reply(decision, done=done)
