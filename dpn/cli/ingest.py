"""`dpn ingest`: deposits content, and says where a deposit stands."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dpn.broker import BrokerUnavailable
from dpn.cli.node import ConfigOption, open_node, operator
from dpn.errors import Misconfigured
from dpn.node import open_broker
from models.work import Status

if TYPE_CHECKING:
    from dpn.ingest.submission import Submitted

app = typer.Typer(
    help="Deposit content: it becomes a bag with as many proven copies as are wanted.",
    no_args_is_help=True,
    add_completion=False,
)

EXIT_FAILED = 1
ENDED_BADLY = (Status.FAILED, Status.CANCELLED)
BAG_TYPES = ("data", "interpretive", "rights")
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]


@app.command()
def submit(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="A folder, a BagIt bag (folder or tar), or s3://bucket/prefix/.", metavar="SOURCE"),
    ],
    member: Annotated[str, typer.Option(help="The member_id of the institution whose content it is.")],
    local_id: Annotated[str, typer.Option(help="What the member calls it.")],
    bag_type: Annotated[str, typer.Option(help=f"One of {', '.join(BAG_TYPES)}.")] = "data",
    rights: Annotated[list[str] | None, typer.Option(help="A rights bag that applies; repeatable.")] = None,
    interpretive: Annotated[
        list[str] | None, typer.Option(help="A bag that explains this one; repeatable.")
    ] = None,
    new_version_of: Annotated[
        str | None, typer.Option(help="A bag of the family that this is the next version of.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What it is, for people.")] = None,
    source_name: Annotated[
        str | None, typer.Option(help="The source bag's own tag files go to NAME-tags/.", metavar="NAME")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="SOURCE is a DPN bag in a tar: take it byte for byte.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(help="Your own name of this deposit: with the same key the member deposits nothing twice."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Deposit nothing; tell every file that cannot be bagged (exit 1).")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deposit SOURCE. The same deposit submitted again says so, and makes nothing twice."""
    from dpn.cli.bag import say_unfit
    from dpn.ingest.deposit import absolute
    from dpn.ingest.submission import BAG_TYPES as TYPES
    from dpn.ingest.submission import DepositRequest, submit
    from dpn.packaging.unfit import unfit_entries
    from dpn.work.schedule.dispatch import publish_intents
    from workers.pipelines import PIPELINES

    if bag_type not in TYPES:
        raise Misconfigured(f"--bag-type {bag_type}: choose one of {', '.join(TYPES)}")
    request = DepositRequest(
        source=source,
        member=member,
        local_id=local_id,
        bag_type=TYPES[bag_type],
        rights=tuple(rights or ()),
        interpretive=tuple(interpretive or ()),
        new_version_of=new_version_of,
        title=title,
        source_name=source_name,
        as_is=as_is,
        key=key,
    )
    with open_node(context, config, "dpn-ingest") as node:
        if dry_run:
            with node.sessions() as session:  # never committed
                submit(session, request, by=operator(), node=node.namespace, pipelines=PIPELINES, clock=node.clock)
            unfit = unfit_entries(absolute(source), as_is=as_is, s3=node.settings.ingest.s3)
            raise typer.Exit(EXIT_FAILED if say_unfit(source, unfit, as_json=as_json) else 0)
        with node.sessions.begin() as session:
            done = submit(
                session, request, by=operator(), node=node.namespace, pipelines=PIPELINES, clock=node.clock
            )
        try:
            publish_intents(node.sessions, open_broker(node), item_id=done.item)
        except BrokerUnavailable as error:  # it is accepted: a worker's sweep finds it
            node.log.warning("messages wait for the broker", error=str(error))
    _say(done, as_json, before="submitted before: " if done.repeated else "")


@app.command()
def status(
    context: typer.Context,
    bag: Annotated[str, typer.Argument(help="The uuid of the deposit's bag.", metavar="BAG")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where the deposit of BAG stands; `dpn item show` tells all of its item. Exit 1 if it ended badly."""
    from dpn.database import reading
    from dpn.ingest.submission import submitted

    with open_node(context, config, "dpn-ingest") as node, reading(node.sessions) as session:
        found = submitted(session, bag.lower())
    if found is None:
        typer.echo(
            f"dpn: no deposit makes bag {bag}: `dpn items --task ingest` lists those that there are", err=True
        )
        raise typer.Exit(EXIT_FAILED)
    _say(found, as_json)
    if found.status in ENDED_BADLY:
        raise typer.Exit(EXIT_FAILED)


def _say(deposit: Submitted, as_json: bool, *, before: str = "") -> None:
    if as_json:
        print(json.dumps(asdict(deposit)))
        return
    print(f"{before}item {deposit.item}, bag {deposit.bag}, version {deposit.version}: {deposit.status}")
    print(f"  {deposit.note}")
    if deposit.repeated and deposit.status in ENDED_BADLY:
        print(f"  `dpn item retry {deposit.item}` begins it again; to correct it, submit it as it should be")
