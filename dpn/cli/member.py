"""`dpn member`: the institutions whose content the network keeps."""

from __future__ import annotations

import json
from typing import Annotated
from uuid import uuid4

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.errors import Misconfigured
from dpn.registry.catalogue import MEMBERS, add_member, batches
from dpn.registry.records import InvalidRecord, MemberRecord
from dpn.registry.rules import Caller, Refused
from dpn.registry.wire import format_instant

app = typer.Typer(
    help="The institutions whose content the network keeps.", no_args_is_help=True, add_completion=False
)

JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What it is called.")],
    email: Annotated[str, typer.Option(help="Where it is written to.")],
    member_id: Annotated[str | None, typer.Option(help="Its id, a UUID; without: a new one.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enter a member into our registry; other nodes learn of it with their next sync."""
    with open_node(context, config, "dpn-member") as node:
        now = format_instant(node.clock.now())
        fields = {"member_id": member_id or str(uuid4()), "name": name, "email": email}
        try:
            member = MemberRecord.from_wire(fields | {"created_at": now, "updated_at": now})
        except InvalidRecord as error:
            raise Misconfigured(f"this cannot be a member: {error}") from error
        with node.sessions.begin() as session:
            decision = add_member(session, member, caller=Caller(node.namespace, node.namespace))
    if isinstance(decision, Refused):
        why = "; ".join(decision.messages) or "there is a member with this id already"
        raise Misconfigured(f"the member was not entered: {why}")
    print(json.dumps(member.to_wire()) if as_json else f"{member.member_id}  {member.name}")


@app.command("list")
def list_all(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all members; with --json as JSON lines."""
    with open_node(context, config, "dpn-member") as node, node.sessions() as session:
        for batch in batches(session, MEMBERS):
            for member in batch:
                print(json.dumps(member.to_wire()) if as_json else f"{member.member_id}  {member.name}")
