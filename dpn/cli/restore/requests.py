"""Which request is meant, how it stands in words, and which ones are not an operator's to move on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from sqlalchemy.orm import Session

from dpn.database import reading
from dpn.errors import Misconfigured
from dpn.node import OpenNode
from dpn.recovery.requests import items_asking, open_requests, state
from dpn.registry.catalogue import RESTORES, find
from dpn.registry.records import RestoreRecord, why_cancelled
from dpn.registry.wire import parse_uuid


def uuid_of(text: str) -> str:
    """The id that was typed. Raises Misconfigured."""
    try:
        return parse_uuid(text)
    except ValueError as error:
        raise Misconfigured(f"{text[:60]!a}: {error}") from error


def our_request(session: Session, node: OpenNode, restore_id: str) -> RestoreRecord:
    """Our request with this id. Raises Misconfigured."""
    found = find(session, RESTORES, restore_id)
    if found is None:
        raise Misconfigured(f"no request {restore_id}: `dpn restore list` shows those that there are")
    if found.to_node != node.namespace:
        raise Misconfigured(f"request {restore_id} is {found.to_node}'s, not ours")
    return found


def request_or_bag(node: OpenNode, which: str) -> tuple[RestoreRecord | None, str]:
    """The request that is meant, and its bag; of several for a bag the one that came furthest.

    Without an open one only the bag: it may lie there already. Raises Misconfigured.
    """
    with reading(node.sessions) as session:
        if find(session, RESTORES, which) is not None:
            found = our_request(session, node, which)
            refuse_an_items(session, found)
            return found, found.bag
        already = open_requests(session, which, us=node.namespace)
        items = items_asking(session, [one.restore_id for one in already])
    free = [one for one in already if one.restore_id not in items]
    if already and not free:
        _refuse(already[0], items[already[0].restore_id])
    return furthest(free), which


def furthest(requests: Sequence[RestoreRecord]) -> RestoreRecord | None:
    """Of open requests, oldest first, the one to go on with."""
    staged = [one for one in requests if one.link is not None]
    return next(iter(staged or requests), None)


def refuse_an_items(session: Session, found: RestoreRecord) -> None:
    """Raises Misconfigured for a request that an item of ours made: the item moves it on."""
    if not found.is_final and (items := items_asking(session, [found.restore_id])):
        _refuse(found, items[found.restore_id])


def standing(found: RestoreRecord) -> str:
    """How a request stands and what may be done, in a sentence."""
    match state(found):
        case "requested":
            return (
                f"{found.from_node} has not taken it up yet: it does when it next reads our registry. If this "
                "lasts, ask its operators, or another node"
            )
        case "accepted":
            return (
                f"{found.from_node} has taken it up and has not offered the bag yet: from cold storage that takes "
                "up to two days"
            )
        case "staged":
            return f"{found.from_node} offers the bag: dpn restore fetch {found.restore_id} --out DIR"
        case "finished":
            return f"it is finished: {found.from_node} knows that we have the bag, and keeps offering it no more"
        case "cancelled":
            return f"it was cancelled: {why_cancelled(found)}"


def as_json(found: RestoreRecord, item: int | None) -> dict[str, Any]:
    """A request for programs: the record, how far it has come, and the item that it belongs to, if one does."""
    return {**found.to_wire(), "state": state(found), "item": item}


def _refuse(found: RestoreRecord, item: int) -> NoReturn:
    raise Misconfigured(
        f"request {found.restore_id} belongs to item {item}, which sees to it by itself: `dpn item show {item}` "
        f"or `dpn item cancel {item}`. For a copy in a folder: dpn restore request {found.bag} --from another node"
    )
