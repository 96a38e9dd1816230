"""`dpn restore request|list|show|fetch|cancel|allow`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from dpn.cli.node import ConfigOption, open_node, operator
from dpn.cli.restore.fetch_command import fetch
from dpn.cli.tables import print_table
from dpn.errors import Misconfigured
from dpn.node import OpenNode

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dpn.registry.records import RestoreRecord

SHOWN_FIELDS_WIDTH = 22

app = typer.Typer(
    help="Bags back from other nodes, or from our own store.", no_args_is_help=True, add_completion=False
)
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]
RequestId = Annotated[str, typer.Argument(help="The request's id, as `dpn restore list` shows it.", metavar="ID")]


@app.command("request")
def request_bag(
    context: typer.Context,
    bag: Annotated[str, typer.Argument(help="The bag that is wanted.", metavar="UUID")],
    from_node: Annotated[
        str | None,
        typer.Option("--from", help="The node to ask; without: the best that holds it.", metavar="NODE"),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask another node for its copy of a bag; prints the request's id. That node may take days to offer it."""
    from dpn.audit.trail import Event, EventType, record
    from dpn.cli.restore.requests import uuid_of
    from dpn.recovery.requests import open_request

    with open_node(context, config, "dpn-restore") as node:
        uuid, us, now = uuid_of(bag), node.namespace, node.clock.now()
        with node.sessions.begin() as session:
            chosen = _chosen(session, node, uuid, from_node)
            made = open_request(session, bag=uuid, from_node=chosen, us=us, restore_id=str(uuid4()), now=now)
            detail = {"restore_id": made.restore_id, "peer": chosen}
            event = Event(EventType.COPY_REQUESTED, uuid, "pending", detail)
            record(session, [event], agent=operator(), at=now)
    if as_json:
        print(json.dumps(made.to_wire()))
        return
    print(made.restore_id)
    print(
        f"Asked {chosen} for bag {uuid}: it hears of it when it next reads our registry. Then: "
        f"dpn restore fetch {made.restore_id} --out DIR",
        file=sys.stderr,
    )


@app.command()
def allow(
    context: typer.Context,
    item_id: Annotated[int, typer.Argument(help="The item that waits for a yes.", metavar="ITEM")],
    config: ConfigOption = None,
) -> None:
    """Let another node have the bag that it asks of us, though it neither owns it nor is known to hold it."""
    from dpn.work.items import NotAllowed
    from dpn.work.queries import NoSuchItem
    from models.manifests import ManifestUnreadable
    from workers.pipelines import PIPELINES
    from workers.restore.allow import allow_restore

    with open_node(context, config, "dpn-restore") as node:
        try:
            with node.sessions.begin() as session:
                allow_restore(session, item_id, operator=operator(), pipelines=PIPELINES, clock=node.clock)
        except (NoSuchItem, NotAllowed, ManifestUnreadable) as error:
            raise Misconfigured(str(error)) from error


@app.command("list")
def list_all(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List our requests, those that changed last at the end. With --json one JSON object a line."""
    from dpn.cli.restore import requests
    from dpn.database import reading
    from dpn.recovery.requests import items_asking, our_requests

    with open_node(context, config, "dpn-restore") as node, reading(node.sessions) as session:
        found = list(our_requests(session, us=node.namespace))
        items = items_asking(session, [one.restore_id for one in found if not one.is_final])
    if as_json:
        for one in found:
            print(json.dumps(requests.as_json(one, items.get(one.restore_id))))
        return
    rows = [_as_row(one, items.get(one.restore_id)) for one in found]
    print_table(("id", "bag", "from", "state", "asked", "changed", "item", "note"), rows)


@app.command()
def show(
    context: typer.Context, restore_id: RequestId, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one request: how it stands, and what to do next."""
    from dpn.cli.restore import requests
    from dpn.database import reading
    from dpn.recovery.requests import items_asking
    from dpn.work.notes import printable

    with open_node(context, config, "dpn-restore") as node, reading(node.sessions) as session:
        found = requests.our_request(session, node, requests.uuid_of(restore_id))
        item = None if found.is_final else items_asking(session, [found.restore_id]).get(found.restore_id)
    shown = requests.as_json(found, item)
    if as_json:
        print(json.dumps(shown))
        return
    for name, value in shown.items():
        if value is not None:
            print(f"{name:{SHOWN_FIELDS_WIDTH}}{printable(str(value))}")
    print(printable(requests.standing(found)))


app.command()(fetch)


@app.command()
def cancel(
    context: typer.Context,
    restore_id: RequestId,
    reason: Annotated[str, typer.Option(help="Why; the node that was asked is told (255 characters).")],
    config: ConfigOption = None,
) -> None:
    """Cancel a request of ours: the node that was asked stops when it next looks."""
    from dpn.audit.trail import Event, EventType, record
    from dpn.cli.restore import requests
    from dpn.recovery.requests import give_up

    with open_node(context, config, "dpn-restore") as node, node.sessions.begin() as session:
        found = requests.our_request(session, node, requests.uuid_of(restore_id))
        requests.refuse_an_items(session, found)
        now = node.clock.now()
        ended = give_up(session, found.restore_id, us=node.namespace, reason_detail=reason, now=now)
        detail = {"restore_id": ended.restore_id, "from_node": ended.from_node, "reason": reason}
        event = Event(EventType.OPERATOR_CANCEL, ended.bag, "cancelled", detail)
        record(session, [] if found.cancelled else [event], agent=operator(), at=now)
    print(f"Request {ended.restore_id} is cancelled; {ended.from_node} hears of it when it next looks.")


def _chosen(session: Session, node: OpenNode, bag: str, from_node: str | None) -> str:
    """The node to ask. Raises Misconfigured if there is none, or it was asked already."""
    from dpn.recovery.holders import candidates
    from dpn.recovery.requests import open_requests

    settings = node.settings
    if from_node is not None and from_node not in settings.peers:
        raise Misconfigured(f"--from {from_node}: no [peers.{from_node}] in {node.config}")
    for one in open_requests(session, bag, us=node.namespace, lock=True):
        if from_node in (None, one.from_node):
            raise Misconfigured(
                f"{one.from_node} was asked for this bag already, by request {one.restore_id} (dpn restore show "
                f"{one.restore_id}): fetch it or cancel it; --from asks another node as well"
            )
    prefer = settings.recovery.prefer
    best = candidates(session, bag, us=node.namespace, peers=settings.peers, prefer=prefer)
    if from_node is not None:
        if from_node not in best:
            print(f"Our registry does not say that {from_node} holds bag {bag}.", file=sys.stderr)
        return from_node
    if not best:
        raise Misconfigured(
            f"our registry knows no peer of ours that holds bag {bag}: `dpn sync` first, or name one with --from"
        )
    return best[0]


def _as_row(found: RestoreRecord, item: int | None) -> tuple[str, ...]:
    from dpn.recovery.requests import state
    from dpn.registry.records import why_cancelled
    from dpn.work.notes import printable

    return (
        found.restore_id,
        found.bag,
        found.from_node,
        state(found),
        f"{found.created_at:%Y-%m-%d %H:%M}",
        f"{found.updated_at:%Y-%m-%d %H:%M}",
        "" if item is None else str(item),
        printable(why_cancelled(found)) if found.cancelled else "",
    )
