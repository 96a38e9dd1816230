"""What decisions on a record need to know of others, and the two answers that need no rule."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import BAGS, NODES
from dpn.registry.rules import Refused

NewId: TypeAlias = Callable[[], str]

NOT_FOUND = Refused(HTTPStatus.NOT_FOUND, ())
ALREADY_THERE = Refused(HTTPStatus.CONFLICT, ())


def random_id() -> str:
    """A new version 4 UUID, as records are named by."""
    return str(uuid.uuid4())


def known_nodes(session: Session) -> set[str]:
    """The nodes of the network, ourselves included."""
    return set(session.scalars(select(NODES.table.c.namespace)))


def known_bags(session: Session, uuids: Iterable[str]) -> set[str]:
    """Those of these bags that are in the registry."""
    wanted = set(uuids)
    if not wanted:
        return set()
    return set(session.scalars(select(BAGS.table.c.uuid).where(BAGS.table.c.uuid.in_(wanted))))
