"""`dpn fixity check`, `repair`, `history`: what an operator does about one copy of ours, or reads of it."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import uuid4

import typer
from sqlalchemy.orm import Session

from dpn.audit.trail import events_of_object
from dpn.cli.node import ConfigOption, open_node, operator
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.errors import PermanentError
from dpn.fixity.begin import begin_check, copy_facts, repair_under_way, running_check
from dpn.fixity.repairs import find_repair, open_repair
from dpn.node import OpenNode, open_broker
from dpn.work.notes import printable
from dpn.work.queries import find_item
from dpn.work.schedule.dispatch import publish_intents
from models.manifests import CheckManifest, RecoveryManifest
from models.preservation import StoredCopy
from models.work import AuditEvent, Status, WorkItem
from workers.pipelines import PIPELINES

EXIT_FAILED = 1
MOST_EVENTS = 1000
BagArgument = Annotated[str, typer.Argument(metavar="UUID", help="The bag's uuid.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]


def check(
    context: typer.Context, bag: BagArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Begin a check of our copy of a bag now, whenever it is due. Prints the item that does it."""
    with open_node(context, config, "dpn-fixity") as node:
        with node.sessions.begin() as session:
            copy = _copy(session, bag)
            if (repair := repair_under_way(session, copy.bag)) is not None:
                raise PermanentError(
                    f"item {repair.id} repairs our copy of bag {copy.bag}, and has it checked when that is done"
                )
            item_id = running_check(session, copy.bag) or begin_check(
                session,
                copy.bag,
                identifier=str(uuid4()),
                note=f"check asked for by {operator()}",
                agent=operator(),
                pipelines=PIPELINES,
                clock=node.clock,
                now=node.clock.now(),
            )
            item = find_item(session, item_id or 0)
        _announce(node, item.id)
        _tell(item, as_json, f"checks our copy of bag {copy.bag}")


def repair(
    context: typer.Context,
    bag: BagArgument,
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if no check has found the copy bad: a disk cannot read it, say.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a good copy of a bag brought from another node, to take the place of ours that was found bad.

    Ours is read once more before it is replaced; if it is good, it stays. One in cold storage cannot be read: it
    is replaced if a check has read it and found it bad. With --force alone, another is only put there if it is
    missing. Asked for again, it is the same repair.
    """
    with open_node(context, config, "dpn-fixity") as node:
        with node.sessions.begin() as session:
            item = find_item(session, _repair(session, node, bag.lower(), force))
        _announce(node, item.id)
        _tell(item, as_json, f"repairs our copy of bag {bag.lower()}")


def history(
    context: typer.Context, bag: BagArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show what the audit trail tells of a bag here, oldest first. Exit 1 if it tells nothing."""
    with open_node(context, config, "dpn-fixity") as node, reading(node.sessions) as session:
        events = events_of_object(session, bag.lower(), limit=MOST_EVENTS)
    if as_json:
        print(json.dumps([_event_json(event) for event in events]))
    if not events:
        typer.echo(f"dpn: the audit trail tells nothing of bag {printable(bag)}: check its uuid", err=True)
        raise typer.Exit(EXIT_FAILED)
    if as_json:
        return
    rows = [
        (
            f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
            "" if event.item_id is None else str(event.item_id),
            event.event_type,
            event.outcome,
            _in_short(event.detail),
        )
        for event in events
    ]
    print_table(("time (UTC)", "item", "event", "outcome", "detail"), rows)


def _repair(session: Session, node: OpenNode, bag: str, force: bool) -> int:
    """The item of the repair, made if there is none yet."""
    copy = _copy(session, bag)
    under_way = repair_under_way(session, bag)
    if under_way is not None:
        return under_way.id
    if copy.outcome != "bad" and not force:
        since = f"was found good on {copy.checked_at:%Y-%m-%d}" if copy.checked_at else "was never checked"
        raise PermanentError(
            f"our copy of bag {bag} {since}: `dpn fixity check {bag}` looks again; --force repairs it all the same"
        )
    check_id, found = _last_check(session, copy)
    done = find_repair(session, check_id)
    if done is not None and done.status != Status.SUCCESS:
        raise PermanentError(f"item {done.id} was to repair it, and ended: `dpn item retry {done.id}` tries again")
    return open_repair(
        session,
        copy_facts(copy),
        check_id=check_id if done is None else str(uuid4()),
        found=found,
        # Nothing has read it and found it bad: in cold storage, where it cannot be read again, it stays.
        found_at=copy.checked_at if copy.outcome == "bad" else None,
        agent=operator(),
        pipelines=PIPELINES,
        clock=node.clock,
    )


def _last_check(session: Session, copy: StoredCopy) -> tuple[str, str]:
    """The id of the check that found our copy bad, and what it found; a new id if no such check is known."""
    item = None if copy.check_item is None else session.get(WorkItem, copy.check_item)
    if copy.outcome == "bad" and item is not None:
        manifest = PIPELINES.read_manifest(item.task, item.manifest)
        if isinstance(manifest, CheckManifest | RecoveryManifest) and manifest.found is not None:
            recorded = manifest.check_id if isinstance(manifest, CheckManifest) else None
            return recorded or item.identifier, manifest.found
    return str(uuid4()), f"{operator()} asked for the repair"


def _copy(session: Session, bag: str) -> StoredCopy:
    copy = session.get(StoredCopy, bag.lower(), with_for_update=True)
    if copy is None:
        raise PermanentError(f"we keep no copy of bag {bag}: `dpn fixity report` counts those that we keep")
    return copy


def _announce(node: OpenNode, item_id: int) -> None:
    """The sweep finds the item anyway, if the broker is away."""
    from dpn.broker import BrokerUnavailable

    try:
        publish_intents(node.sessions, open_broker(node), item_id=item_id)
    except BrokerUnavailable as error:
        node.log.warning("not announced yet: the sweep finds the item", error=str(error))


def _tell(item: WorkItem, as_json: bool, what: str) -> None:
    if as_json:
        print(json.dumps({"item": item.id, "identifier": item.identifier, "status": item.status}))
    else:
        print(f"Item {item.id} {what} ({item.status}): `dpn item show {item.id}`")


def _event_json(event: AuditEvent) -> dict[str, Any]:
    return {
        "at": event.occurred_at.isoformat(),
        "item": event.item_id,
        "event": event.event_type,
        "outcome": event.outcome,
        "agent": event.agent,
        "detail": event.detail,
    }


def _in_short(detail: dict[str, Any]) -> str:
    """The plain values; the rest is in --json."""
    plain = {name: value for name, value in detail.items() if isinstance(value, str | int | float) and value != ""}
    return ", ".join(f"{name}: {value}" for name, value in plain.items())
