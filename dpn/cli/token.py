"""`dpn token …`: the tokens that other nodes, and users of this one, show us."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn

import typer

from dpn.access import tokens
from dpn.access.scopes import Scope
from dpn.cli.node import LARGEST_ROW_ID, ConfigOption, open_node
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.registry.wire import format_instant, parse_namespace
from dpn.text import is_line

EXIT_FAILED = 1
EXIT_UNUSABLE = 2
MAX_DAYS = 36_500

app = typer.Typer(help="The tokens that others show us.", no_args_is_help=True, add_completion=False)


@app.command("issue")
def issue(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(help="The node's namespace, our own for an operator's token; with --scope, whose it is."),
    ],
    config: ConfigOption = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it is for, as often as needed; without, for a node.")
    ] = None,
    label: Annotated[str, typer.Option(help="What to call it in `dpn token list`.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=MAX_DAYS, help="It expires after so many; without, never.")
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="It expires then, in UTC; or --days."),
    ] = None,
) -> None:
    """Print a new token: hand it over, it cannot be shown again. Earlier ones stay valid."""
    with open_node(context, config, "dpn-token") as ours:
        if len(label) > tokens.MAX_LABEL_LENGTH or not is_line(label):
            _fail(f"a label is one line of at most {tokens.MAX_LABEL_LENGTH} characters", EXIT_UNUSABLE)
        scopes = scope or [Scope.NODE]
        try:
            owner = parse_namespace(name) if Scope.NODE in scopes else tokens.parse_owner(name)
        except ValueError as error:
            _fail(f"{name!r} is {error}", EXIT_UNUSABLE)
        now = ours.clock.now()
        expires_at = _expiry(now, days, expires)
        known = {ours.namespace, *ours.settings.peers}
        if Scope.NODE in scopes and owner not in known:
            # Two nodes that join each need the other's token first: this one may not be in the settings yet.
            typer.echo(f"dpn: note: {ours.config} has no [peers.{owner}] yet; known: {sorted(known)}", err=True)
        with ours.sessions.begin() as session:
            print(tokens.issue(session, owner, now=now, scopes=scopes, label=label, expires_at=expires_at))


@app.command("list")
def list_tokens(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
) -> None:
    """List the tokens that were issued: to whom, for what, until when, when each was last used, whether it is
    revoked."""
    with open_node(context, config, "dpn-token") as ours, reading(ours.sessions) as session:
        found = tokens.issued(session)
    if as_json:
        for token in found:
            print(json.dumps(_as_json(token)))
        return
    cells = [_as_json(token) | {"scopes": " ".join(token.scopes)} for token in found]
    rows = [tuple(str(value or "") for value in row.values()) for row in cells]
    print_table(("id", "node", "label", "issued", "expires", "last used", "revoked", "scopes"), rows)


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


def _expiry(now: datetime, days: int | None, moment: datetime | None) -> datetime | None:
    if days is not None and moment is not None:
        _fail("--days and --expires both say when it expires: give one of them", EXIT_UNUSABLE)
    if moment is None:
        return None if days is None else now + timedelta(days=days)
    expires_at = moment.replace(tzinfo=UTC)
    if not now < expires_at <= now + timedelta(days=MAX_DAYS):
        _fail(f"--expires {format_instant(expires_at)} is not within the next {MAX_DAYS} days", EXIT_UNUSABLE)
    return expires_at


def _as_json(token: tokens.IssuedToken) -> dict[str, int | str | list[str] | None]:
    return {
        "id": token.id,
        "node": token.owner,
        "label": token.label,
        "issued_at": format_instant(token.created_at),
        "expires_at": _instant(token.expires_at),
        "last_used_at": _instant(token.last_used_at),
        "revoked_at": _instant(token.revoked_at),
        "scopes": [str(scope) for scope in token.scopes],
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"dpn: {message}", err=True)
    raise typer.Exit(status)
