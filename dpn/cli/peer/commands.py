"""`dpn peer …`: the other nodes: joined with, looked after and parted from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from textwrap import indent
from typing import Annotated

import typer
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.cli.node import ConfigOption, open_node, operator
from dpn.cli.peer.addition import PeerTable, join, preconditions
from dpn.cli.peer.retirement import IDS_SHOWN, Ties, left, part, ties
from dpn.cli.tables import print_table
from dpn.cli.token import MAX_DAYS
from dpn.database import reading
from dpn.errors import Misconfigured
from dpn.node import OpenNode
from dpn.registry.catalogue import agree
from dpn.registry.records import Agreement
from dpn.registry.wire import parse_namespace
from dpn.setting_types import SettingsError
from models.registry import BagReplica, SyncMark
from models.work import ServiceHealth, Status, WorkItem

EXIT_FAILED = 1

NameArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's namespace.")]

app = typer.Typer(help="The other nodes of the network.", no_args_is_help=True, add_completion=False)


@dataclass(frozen=True)
class PeerState:
    """How it stands between a peer and us."""

    peer: str
    api_root: str
    token_problem: str
    """Why the token that it issued to us cannot be used; empty if it can."""
    last_read: datetime | None
    """When a list of its registry was last read to its end."""
    open_items: int
    bags_kept: int
    """Bags that our registry says it keeps."""
    failing: str
    """What of it is left alone, or fails, and why; empty if nothing is known against it."""


@app.command("list")
def list_peers(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
) -> None:
    """List the peers of the settings: the token for each, when it was last read, what fails."""
    with open_node(context, config, "dpn-peer") as node, reading(node.sessions) as session:
        found = peer_states(session, node)
    if as_json:
        for state in found:
            print(json.dumps(asdict(state), default=str))
        return
    rows = [
        (
            state.peer, state.api_root, state.token_problem or "there",
            "never" if state.last_read is None else f"{state.last_read:%Y-%m-%d %H:%M}",
            str(state.open_items), str(state.bags_kept), state.failing,
        )
        for state in found
    ]  # fmt: skip
    headings = ("peer", "registry", "token", "last read", "open items", "bags kept", "failing")
    alarming = [bool(state.token_problem or state.failing) for state in found]
    print_table(headings, rows, alarming=alarming)


@app.command("add")
def add(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    api_root: Annotated[
        str | None, typer.Option(help="Where its registry is: the settings to add are then printed.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Of --api-root: where its bags are fetched, if at another host.")
    ] = None,
    daemon: Annotated[bool, typer.Option(help="Of --api-root: by its rsync daemon, not over ssh.")] = False,
    agreements: Annotated[
        list[Agreement] | None,
        typer.Option("--agree", help="Only this agreement; repeat it for several. Without: all four."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=MAX_DAYS, help="The token expires after so many; without, never.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing, only tell.")] = False,
) -> None:
    """Join with a node: enter our agreements, issue its token if it has none, and tell what is still missing.

    Again until nothing is: exit status 0. It changes no settings and no file, but prints what to add.
    """
    with open_node(context, config, "dpn-peer") as node:
        peer = _named(name, node)
        table = None
        if api_root is not None:
            if peer in node.settings.peers:
                raise Misconfigured(
                    f"[peers.{peer}] is in {node.config}: leave out --api-root, or change it there"
                )
            secret = node.config.absolute().parent / "secrets" / f"{peer}.token"
            table = PeerTable(peer, api_root, tuple(host or ()), daemon, secret)
            table.lines()
        elif host or daemon:
            raise Misconfigured("--host and --daemon need --api-root: what the settings have is changed there")
        if not check:
            with node.sessions.begin() as session:
                token = join(session, node, peer, agreements, days=days)
            if token is not None:
                print(f"Token for {peer}, to hand over; it cannot be shown again: {token}\n")
        missing = 0
        for one in preconditions(node, peer, table):
            missing += bool(one.remedy)
            typer.secho(f"{one.name}: {one.found}", fg="red" if one.remedy else None)
            if one.remedy:
                print(indent(one.remedy, "    "))
    if missing:
        raise typer.Exit(EXIT_FAILED)


@app.command("retire")
def retire(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Although work is open: our own transfers with it are cancelled, our items end."
        ),
    ] = False,
    drain: Annotated[
        bool, typer.Option("--drain", help="Only end the agreements: nothing new begins, what is open goes on.")
    ] = False,
) -> None:
    """Part from a node: end our agreements with it and its tokens, and tell what is left to take away.

    Says what is open between us and what is kept. While work is open it changes nothing and exits with 1.
    """
    with open_node(context, config, "dpn-peer") as node:
        peer = _named(name, node)
        with node.sessions.begin() as session:
            found = ties(session, peer, us=node.namespace, copies=node.settings.ingest.copies)
            refused = bool(found.open) and not anyway and not drain
            if drain:
                agree(session, node.namespace, peer, (), now=node.clock.now())
            elif not refused:
                parting = part(session, node, peer, by=operator())
        _tell(found)
        if refused:
            typer.echo(
                f"dpn: nothing was changed: let it be done (dpn peer retire {peer} --drain begins nothing new), "
                "or say --anyway",
                err=True,
            )
            raise typer.Exit(EXIT_FAILED)
        if drain:
            print(f"We begin nothing new with {peer}. Later: dpn peer retire {peer}")
            return
        node.log.info("parted from a peer", peer=peer, by=operator(), **asdict(parting))
        print(
            f"We have parted from {peer}: transfers cancelled: {parting.cancelled}, items ended: {parting.ended}, "
            f"tokens revoked: {parting.revoked}."
        )
        if parting.still_open or (parting.ended and peer in node.settings.peers):
            kept = "Not ended, for they say what it must hear, or stored its bag"
            print(
                *_shown_items(kept, parting.still_open),
                f"What {peer} must hear is told while the settings name it: take it out once `dpn peer list`",
                "shows no open items of it, or if it is gone for good. Then "
                f"`dpn peer retire {peer} --anyway` ends the rest.",
                sep="\n",
            )
        if todo := list(left(node, peer)):
            print("Left to do, as root:", *(indent(line, "    ") for line in todo), sep="\n")


def _tell(found: Ties) -> None:
    for heading, counts in (("Open", found.open), ("Kept", found.kept)):
        for what, number in counts.items():
            print(f"{heading}: {what}: {number}")
    for line in _shown_items("Items", found.items):
        print(f"{line} (dpn item show, dpn item cancel)")


def _shown_items(heading: str, items: Sequence[int]) -> list[str]:
    """A line that names the first of them; none where there are none."""
    more = ", …" if len(items) >= IDS_SHOWN else ""
    return [f"{heading}: {', '.join(map(str, items[:IDS_SHOWN]))}{more}"] if items else []


def _named(name: str, node: OpenNode) -> str:
    """The peer that is meant. Raises Misconfigured."""
    try:
        peer = parse_namespace(name)
    except ValueError as error:
        raise Misconfigured(f"{name!r} is {error}") from error
    if peer == node.namespace:
        raise Misconfigured(f"{peer} is this node itself, not a peer")
    return peer


def peer_states(session: Session, node: OpenNode) -> list[PeerState]:
    """Of all peers of the settings, by name; a query a column."""
    is_open = WorkItem.status.in_((Status.PENDING, Status.RUNNING))
    marks = select(SyncMark.peer, func.max(SyncMark.succeeded_at)).group_by(SyncMark.peer)
    open_items = select(WorkItem.remote_node, func.count()).where(is_open).group_by(WorkItem.remote_node)
    kept_bags = select(BagReplica.node, func.count()).group_by(BagReplica.node)
    read = {peer: at for peer, at in session.execute(marks)}  # noqa: C416  (rows, not pairs)
    items = {peer: count for peer, count in session.execute(open_items)}  # noqa: C416
    kept = {peer: count for peer, count in session.execute(kept_bags)}  # noqa: C416
    failing = {
        service: f"{service}: {failures} times in a row: {error}"
        for service, failures, error in session.execute(
            select(ServiceHealth.service, ServiceHealth.failures, ServiceHealth.last_error).where(
                ServiceHealth.failures > 0
            )
        )
    }
    return [
        PeerState(
            peer=peer,
            api_root=access.api_root,
            token_problem=_problem(access.secret),
            last_read=read.get(peer),
            open_items=items.get(peer, 0),
            bags_kept=kept.get(peer, 0),
            failing="; ".join(failing[one] for one in (f"peer:{peer}", f"rsync:{peer}") if one in failing),
        )
        for peer, access in sorted(node.settings.peers.items())
    ]


def _problem(secret: Callable[[], str]) -> str:
    try:
        secret()
    except SettingsError as error:
        return str(error)
    return ""
