"""`dpn peer list`: the other nodes, and whether we can speak with each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

import typer
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.cli.node import ConfigOption, open_node
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.node import OpenNode
from dpn.setting_types import SettingsError
from models.registry import BagReplica, SyncMark
from models.work import ServiceHealth, Status, WorkItem

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


@app.callback()
def _peer() -> None:
    """The other nodes of the network."""


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
