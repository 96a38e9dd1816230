"""`dpn restore fetch`: a bag into a folder, from the node that was asked for it or from our own store."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.node import OpenNode

if TYPE_CHECKING:
    from dpn.cli.restore.fetch import BagFetch, FetchedBag
    from dpn.errors import Interrupted
    from dpn.registry.records import RestoreRecord

EXIT_FAILED = 1

LOOK_AGAIN_SECONDS = 2.0
"""How often our registry is asked whether the bag is offered by now."""

MAX_WAIT_SECONDS = 31 * 86_400.0


def fetch(
    context: typer.Context,
    which: Annotated[
        str, typer.Argument(help="A request's id, or the uuid of a bag that was asked for.", metavar="ID|UUID")
    ],
    out: Annotated[Path, typer.Option(help="The folder in which <uuid>.tar shall appear.", metavar="DIR")],
    unpacked: Annotated[bool, typer.Option("--unpack", help="The folder <uuid>/ instead of the tar.")] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, max=MAX_WAIT_SECONDS, help="How long to wait until it can be had.", metavar="SECONDS"),
    ] = 0.0,
    own: Annotated[
        bool, typer.Option("--from-store", help="Our own copy of bag UUID, straight from our store.")
    ] = False,
    unproven: Annotated[
        bool,
        typer.Option(
            "--unproven",
            help="Also a bag whose tag manifest does not list its payload manifest: nothing proves it.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")] = False,
) -> None:
    """Bring a bag into DIR: fetched, read as a whole, found to be the registered one, and only then there.

    Exit 1: it cannot be had yet, or what came is bad. The same command goes on where it stopped.
    """
    from dpn.cancellation import cancelled_by_signals
    from dpn.cli.restore.fetch import BagFetch, NotFetched, registered
    from dpn.cli.restore.requests import request_or_bag, uuid_of
    from dpn.errors import Interrupted, LinkRefused, Misconfigured, ServiceUnavailable, TransientError
    from dpn.recovery.destination import Destination

    with open_node(context, config, "dpn-restore") as node, cancelled_by_signals(_interrupted) as cancellation:
        found, uuid = (None, uuid_of(which)) if own else request_or_bag(node, uuid_of(which))
        bag, digest = registered(node, uuid)
        destination = Destination(out, bag=uuid, name=found.restore_id if found else uuid, unpacked=unpacked)
        bag_fetch = BagFetch(node, bag, digest, destination, cancellation, shown=not as_json, unproven=unproven)
        try:
            fetched = bag_fetch.already_there()
            if fetched is None:
                fetched = _own_copy(bag_fetch, wait) if own else _theirs(bag_fetch, found, wait)
        except (NotFetched, LinkRefused, ServiceUnavailable, TransientError, Interrupted) as error:
            _end_without(error, found, as_json)
        except OSError as error:
            raise Misconfigured(
                f"{error}: see to {destination.folder}, then give the same command again"
            ) from error
        finished = None if found is None else _finish(node, found)
    _say(fetched, finished, as_json)


def _interrupted(number: signal.Signals) -> Interrupted:
    from dpn.errors import Interrupted

    return Interrupted(f"stopped by {number.name}: what came is kept; the same command goes on with it")


def _own_copy(bag_fetch: BagFetch, wait_seconds: float) -> FetchedBag:
    from dpn.cli.restore.own_store import from_store

    return from_store(bag_fetch, wait_seconds=wait_seconds)


def _theirs(bag_fetch: BagFetch, found: RestoreRecord | None, wait_seconds: float) -> FetchedBag:
    from dpn.cli.restore.fetch import from_node
    from dpn.errors import Misconfigured

    uuid = bag_fetch.bag.uuid
    if found is None:
        raise Misconfigured(
            f"no node was asked for bag {uuid}, or that is over: dpn restore request {uuid}. Our own copy: "
            "--from-store"
        )
    return from_node(bag_fetch, _until_offered(bag_fetch, found, wait_seconds))


def _until_offered(bag_fetch: BagFetch, found: RestoreRecord, wait_seconds: float) -> RestoreRecord:
    """The request once the bag is offered. Raises NotFetched if that is not within `wait_seconds`, or over."""
    from dpn.cli.restore.fetch import NotFetched
    from dpn.cli.restore.requests import our_request, standing
    from dpn.database import reading
    from dpn.recovery.requests import state

    node, clock = bag_fetch.node, bag_fetch.node.clock
    until = clock.monotonic() + wait_seconds
    while True:
        with reading(node.sessions) as session:
            found = our_request(session, node, found.restore_id)
        if (now := state(found)) == "staged":
            return found
        left = until - clock.monotonic()
        if found.is_final or left <= 0:
            remedy = f". Ask again: dpn restore request {found.bag}" if found.is_final else ""
            raise NotFetched(now, f"request {found.restore_id}: {standing(found)}{remedy}")
        bag_fetch.cancellation.wait(min(left, LOOK_AGAIN_SECONDS))
        bag_fetch.cancellation.check()


def _finish(node: OpenNode, found: RestoreRecord) -> bool:
    """Tells the node that gave the bag that we have it; false, with the reason on stderr, if it is not to know."""
    from dpn.recovery.errors import RequestRefused
    from dpn.recovery.requests import finish, request_of

    with node.sessions.begin() as session:
        current = request_of(session, found.restore_id)
        try:
            if current is not None and current.link is not None:
                finish(session, found.restore_id, us=node.namespace, now=node.clock.now())
                return True
            why = f"request {found.restore_id} stays open, nothing came by it: cancel it"
        except RequestRefused as error:
            why = str(error)
    print(f"dpn: {why}", file=sys.stderr)
    return False


def _end_without(error: Exception, found: RestoreRecord | None, as_json: bool) -> NoReturn:
    """Says why the bag is not there."""
    if as_json:
        said = {"brought": False, "state": getattr(error, "state", "failed"), "why": str(error)}
        print(json.dumps(said | {"restore_id": found.restore_id if found else None}))
    else:
        typer.echo(f"dpn: {error}", err=True)
    raise typer.Exit(EXIT_FAILED) from error


def _say(fetched: FetchedBag, finished: bool | None, as_json: bool) -> None:
    judged = fetched.validation
    if judged.payload_proven is False:
        print(
            "dpn: only the bag's own manifest proves its payload: the registered digest does not", file=sys.stderr
        )
    if as_json:
        said = {"brought": True, "path": str(fetched.path), "was_there": fetched.was_there, "finished": finished}
        print(json.dumps(said | {"validation": judged.model_dump(mode="json")}))
        return
    before = "was there already: " if fetched.was_there else ""
    print(f"{before}{fetched.path}")
    print(
        f"  valid by profile {judged.profile}, {judged.files} files, {judged.bytes} bytes of payload; tag "
        f"manifest SHA-256 {judged.tag_manifest_sha256}, as registered",
        file=sys.stderr,
    )
