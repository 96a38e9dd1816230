"""Deposits bags at a node: its registry's records, and the tars where the other nodes fetch them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar
from uuid import uuid4

from sqlalchemy.orm import Session

from dpn.cancellation import Cancellation
from dpn.cli.demo.errors import Broken
from dpn.cli.demo.node import Node
from dpn.cli.demo.place import link
from dpn.cli.demo.sources import Deposit
from dpn.registry.catalogue import add_bag, add_digest, add_transfer
from dpn.registry.records import DigestRecord, Record, ReplicationRecord
from dpn.registry.rules import Caller, Decision, Refused
from dpn.registry.wire import utc_second

ALGORITHM: Literal["sha256"] = "sha256"
PROTOCOL = "rsync"
COPY_BYTES = 1024 * 1024

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Request:
    """One transfer: this bag to this node."""

    deposit: Deposit
    to_node: str
    replication_id: str


def deposit_all(
    owner: Node,
    deposits: Sequence[Deposit],
    to_nodes: Sequence[str],
    *,
    now: datetime,
    cancellation: Cancellation | None = None,
) -> list[Request]:
    """Asks each of `to_nodes` to replicate each bag of `owner`. Raises Broken if its registry refuses, OSError."""
    requests = [Request(deposit, to_node, str(uuid4())) for deposit in deposits for to_node in to_nodes]
    for request in requests:
        offered = owner.place.outbound / request.to_node / f"{request.deposit.uuid}.tar"
        _offer(request.deposit.tar, offered, cancellation or Cancellation())
    with owner.sessions.begin() as session:
        _enter(session, owner, deposits, requests, utc_second(now))
    return requests


def _offer(tar: Path, place: Path, cancellation: Cancellation) -> None:
    """Puts the tar where a peer fetches it: the same file under another name where that can be, else a copy."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(tar, place)
    except OSError:
        _copy(tar, place, cancellation)


def _copy(tar: Path, place: Path, cancellation: Cancellation) -> None:
    with tar.open("rb") as source, place.open("xb") as copy:
        while chunk := source.read(COPY_BYTES):
            cancellation.check()
            copy.write(chunk)


def _enter(
    session: Session, owner: Node, deposits: Iterable[Deposit], requests: Iterable[Request], now: datetime
) -> None:
    caller = Caller(owner.name, owner.name)
    for deposit in deposits:
        _accepted(add_bag(session, deposit.record, caller=caller, copies=owner.settings.ingest.copies))
        digest = DigestRecord(
            bag=deposit.uuid,
            algorithm=ALGORITHM,
            node=owner.name,
            value=deposit.tag_manifest_sha256,
            created_at=now,
        )
        _accepted(add_digest(session, deposit.uuid, digest, caller=caller, now=now))
    for request in requests:
        transfer = ReplicationRecord(
            replication_id=request.replication_id,
            bag=request.deposit.uuid,
            from_node=owner.name,
            to_node=request.to_node,
            fixity_algorithm=ALGORITHM,
            protocol=PROTOCOL,
            link=link(owner.ports, request.to_node, request.deposit.uuid),
            created_at=now,
            updated_at=now,
        )
        _accepted(add_transfer(session, transfer, caller=caller))


def _accepted(decision: Decision[R]) -> None:
    if isinstance(decision, Refused):
        raise Broken(
            f"the registry refuses a record of the deposit ({decision.status}): {'; '.join(decision.messages)}"
        )
