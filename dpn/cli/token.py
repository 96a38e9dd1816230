"""`dpn token …`: the tokens that other nodes show us."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Annotated, NoReturn

import typer

from dpn.cli.node import LARGEST_ROW_ID, ConfigOption, open_node
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.registry import tokens
from dpn.registry.wire import format_instant, parse_namespace
from dpn.text import is_line

EXIT_FAILED = 1
EXIT_UNUSABLE = 2
MAX_DAYS = 36_500

app = typer.Typer(help="The tokens that other nodes show us.", no_args_is_help=True, add_completion=False)


@app.command("issue")
def issue(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="The node's namespace; our own makes an operator's token.")],
    config: ConfigOption = None,
    label: Annotated[str, typer.Option(help="What to call it in `dpn token list`.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=MAX_DAYS, help="It expires after so many; without, never.")
    ] = None,
) -> None:
    """Print a new token for a node: hand it over, it cannot be shown again. Earlier ones stay valid."""
    with open_node(context, config, "dpn-token") as ours:
        if len(label) > tokens.MAX_LABEL_LENGTH or not is_line(label):
            _fail(f"a label is one line of at most {tokens.MAX_LABEL_LENGTH} characters", EXIT_UNUSABLE)
        try:
            namespace = parse_namespace(node)
        except ValueError as error:
            _fail(f"{node!r} is {error}", EXIT_UNUSABLE)
        known = {ours.namespace, *ours.settings.peers}
        if namespace not in known:
            # Two nodes that join each need the other's token first: this one may not be in the settings yet.
            typer.echo(
                f"dpn: note: {ours.config} has no [peers.{namespace}] yet; known: {sorted(known)}", err=True
            )
        now = ours.clock.now()
        expires_at = None if days is None else now + timedelta(days=days)
        with ours.sessions.begin() as session:
            print(tokens.issue(session, namespace, now=now, label=label, expires_at=expires_at))


@app.command("list")
def list_tokens(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
) -> None:
    """List the tokens that were issued: to whom, until when, when each was last used, whether it is revoked."""
    with open_node(context, config, "dpn-token") as ours, reading(ours.sessions) as session:
        found = tokens.issued(session)
    if as_json:
        for token in found:
            print(json.dumps(_as_json(token)))
        return
    rows = [tuple(str(value or "") for value in _as_json(token).values()) for token in found]
    print_table(("id", "node", "label", "issued", "expires", "last used", "revoked"), rows)


@app.command("revoke")
def revoke(
    context: typer.Context,
    token_id: Annotated[
        int, typer.Argument(min=1, max=LARGEST_ROW_ID, help="The token's id, as `dpn token list` shows it.")
    ],
    config: ConfigOption = None,
) -> None:
    """Make a token worthless at once."""
    with open_node(context, config, "dpn-token") as ours:
        with ours.sessions.begin() as session:
            revoked = tokens.revoke(session, token_id, now=ours.clock.now())
        if not revoked:
            _fail(f"no valid token {token_id}: see `dpn token list`", EXIT_FAILED)
        typer.echo(f"Token {token_id} is revoked.")


def _as_json(token: tokens.IssuedToken) -> dict[str, int | str | None]:
    return {
        "id": token.id,
        "node": token.namespace,
        "label": token.label,
        "issued_at": format_instant(token.created_at),
        "expires_at": _instant(token.expires_at),
        "last_used_at": _instant(token.last_used_at),
        "revoked_at": _instant(token.revoked_at),
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"dpn: {message}", err=True)
    raise typer.Exit(status)
