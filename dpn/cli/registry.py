"""`dpn registry …`: the whole of it into a file and out of one, what sync set aside, whose a record is."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer

from dpn.cli.node import ConfigOption, open_node, operator
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.errors import Misconfigured
from dpn.files import replace_file
from dpn.node import OpenNode
from dpn.registry.wire import format_instant

if TYPE_CHECKING:
    from dpn.registry.archive import ArchiveContents, KindResult, PeerExport, Problem
    from dpn.registry.catalogue import SetAside

EXIT_FAILED = 1
EXIT_UNUSABLE = 2

STREAM = "-"
ONLY_FOR_US = 0o600

MAX_LIMIT = 1_000_000

app = typer.Typer(
    help="The registry as a whole: into a file, out of one, and what sync has set aside.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("export")
def export_registry(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Where to; `-` is standard output.")] = STREAM,
    peer: Annotated[
        str | None,
        typer.Option("--from", metavar="PEER", help="Not our registry: all that this peer's shows, over REST."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write all records of the registry as JSON lines, as they are at one moment.

    No tokens, work items or receipts: they are not in it. Only the node's user may read FILE, which is there when
    it is whole. Exit 1 if a peer showed something that is no record.
    """
    from dpn.registry import archive

    with open_node(context, config, "dpn-registry") as node:
        write: Callable[[BinaryIO], PeerExport]
        if peer is None:
            write = lambda to: archive.PeerExport(  # noqa: E731
                archive.export(node.sessions, to, node=node.namespace, now=node.clock.now())
            )
        else:
            client = _client(node, peer)
            write = lambda to: archive.export_from_peer(  # noqa: E731
                client, to, node=node.namespace, now=node.clock.now()
            )
        with _usable(file):
            done = _write_to(file, write)
    _tell_exported(done, peer or node.namespace, file)


@app.command("import")
def import_registry(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="What was exported; `-` is standard input.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and tell what would change; change nothing.")
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout, nothing else: each problem, then the result.")
    ] = False,
) -> None:
    """Merge an exported file into the registry. Safe to repeat, and to begin again after it was killed.

    Nothing changes unless the file is whole. Nothing that we know is taken back: where the two contradict each
    other ours stays, both values are told, and the exit code is 1.
    """
    from dpn.registry import archive

    def report(problem: Problem) -> None:
        if as_json:
            print(json.dumps({"event": "problem", **_problem(problem)}))
        else:
            typer.echo(f"dpn: {_sentence(problem)}", err=True)

    with open_node(context, config, "dpn-registry") as node, _usable(file), _opened(file) as opened:
        contents = archive.check(opened)
        reader = archive.ArchiveReader(opened)
        results = archive.Import(node.sessions, node.namespace, report, dry_run=dry_run).run(reader)
        summary = _summary(contents, results, dry_run=dry_run)
        node.log.info("registry imported", file=file, **summary)
    if as_json:
        print(json.dumps({"event": "imported", **summary}))
    else:
        _print_merged(contents, results, dry_run=dry_run)
    if any(result.problems for result in results.values()):
        raise typer.Exit(EXIT_FAILED)


@app.command("recount")
def recount_lists(context: typer.Context, config: ConfigOption = None) -> None:
    """Count all records anew, and correct what lists say that they hold.

    Needed after the database was changed by hand: what the node itself writes is counted as it goes. Others who
    write to the registry wait meanwhile.
    """
    from dpn.registry.catalogue import totals

    with open_node(context, config, "dpn-registry") as node:
        with node.sessions.begin() as session:
            wrong = totals.recount(session)
        node.log.info("registry recounted", corrected=wrong)
    print_table(("records", "totals corrected"), [(kind, str(number)) for kind, number in wrong.items()])


@app.command("aside")
def list_aside(
    context: typer.Context,
    peer: Annotated[str | None, typer.Option("--peer", help="Only what this peer showed.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_LIMIT, help="At most so many, those seen last first.")
    ] = 1000,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
) -> None:
    """List the records that sync could not take over, and why. Each is tried again with every sync."""
    from dpn.registry.catalogue import count_set_aside, set_aside_of

    with open_node(context, config, "dpn-registry") as node, reading(node.sessions) as session:
        found = set_aside_of(session, peer, limit=limit)
        counts = count_set_aside(session)
    if as_json:
        for one in found:
            print(json.dumps(_aside(one)))
    else:
        headings = ("peer", "records", "key", "status", "since", "seen last", "reason")
        print_table(headings, map(_aside_row, found))
    count = sum(counts.values()) if peer is None else counts.get(peer, 0)
    if count > len(found):
        typer.echo(f"dpn: {len(found)} of {count}: --limit shows more", err=True)


@app.command("disown")
def disown_record(
    context: typer.Context,
    peer: Annotated[str, typer.Argument(metavar="PEER", help="The node that claims what is not its own.")],
    kind: Annotated[
        str, typer.Argument(metavar="RECORDS", help="bag, member, replicate, restore or fixity_check.")
    ],
    key: Annotated[str, typer.Argument(metavar="ID", help="The record's id, as `dpn registry aside` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the trail and for who looks later.")] = "",
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="The other way round: its word on this counts again.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Decide that a record is not this peer's: what it entered goes, and its word on it counts for nothing.

    Whoever else claims the record is heard with the next `dpn sync`. Refused where anything of ours rests on the
    record: a copy, a transfer, work under way.
    """
    from dpn.audit.trail import Event, EventType, record
    from dpn.registry.catalogue import DISOWNABLE, RecordInUse, disown, take_back

    with open_node(context, config, "dpn-registry") as node:
        if (which := DISOWNABLE.get(kind)) is None:
            _fail(f"{kind!r}: one of {', '.join(DISOWNABLE)}")
        if peer == node.namespace:
            _fail(f"{peer} is this node: its own records are its own")
        if not (reason or withdraw):
            _fail("--reason: say why")
        key, now = key.lower(), node.clock.now()
        with node.sessions.begin() as session:
            try:
                if not withdraw:
                    gone = disown(session, node.namespace, peer, which, key, reason=reason, now=now)
                elif take_back(session, peer, which, key):
                    gone = {}
                else:
                    _fail(f"{kind} {key} of {peer} was not disowned")
            except RecordInUse as error:
                _fail(f"{kind} {key} stays: {error}")
            said = {"peer": peer, "records": kind, "reason": reason, "gone": gone}
            outcome = "withdrawn" if withdraw else "disowned"
            record(session, [Event(EventType.RECORD_CORRECTED, key, outcome, said)], agent=operator(), at=now)
        node.log.info("record disowned", key=key, withdrawn=withdraw, **said)
    for name, number in gone.items():
        print(f"{number} {name} removed")


def _client(node: OpenNode, peer: str) -> Any:
    from dpn.registry.client import RegistryClient

    if peer not in node.settings.peers:
        raise Misconfigured(f"--from {peer}: no [peers.{peer}] in {node.config}")
    return RegistryClient(peer, node.settings.peers[peer])


def _write_to(file: str, write: Callable[[BinaryIO], PeerExport]) -> PeerExport:
    if file == STREAM:
        # A stream of its own: what a reader that went away left in it is not tried again when the program ends.
        with open(sys.stdout.fileno(), "wb", closefd=False) as stream:
            return write(stream)
    path = Path(file).absolute()
    if path.exists() and not path.is_file():
        _fail(f"{file} is no regular file: give - and redirect standard output")
    with replace_file(path, permissions=ONLY_FOR_US) as stream:
        return write(stream)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """A file that can be read twice; what comes through a pipe is kept in a nameless file meanwhile."""
    with open(sys.stdin.fileno() if file == STREAM else file, "rb", closefd=file != STREAM) as source:
        if file != STREAM and S_ISREG(Path(file).stat().st_mode):
            yield source
            return
        with tempfile.TemporaryFile(prefix="dpn-import-") as spool:
            shutil.copyfileobj(source, spool)
            yield spool


@contextmanager
def _usable(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _fail(f"{file}: {error.strerror or error}")


def _tell_exported(done: PeerExport, registry: str, file: str) -> None:
    """On stderr: stdout may be the archive."""
    counts = ", ".join(f"{count} {kind}" for kind, count in done.counts.items())
    typer.echo(f"dpn: the registry of {registry} is in {file}: {counts}", err=True)
    for reason in done.reasons:
        typer.echo(f"dpn: left out: {reason}", err=True)
    if done.problems:
        typer.echo(f"dpn: {done.problems} left out in all: what {registry} shows is not whole", err=True)
        raise typer.Exit(EXIT_FAILED)


def _problem(problem: Problem) -> dict[str, Any]:
    values = {name: {"ours": ours, "theirs": theirs} for name, (ours, theirs) in problem.values.items()}
    return asdict(problem) | {"values": values}


def _sentence(problem: Problem) -> str:
    both = "; ".join(
        f"{name}: here {json.dumps(ours)}, in the file {json.dumps(theirs)}"
        for name, (ours, theirs) in problem.values.items()
    )
    shown = f" ({both}; left as it is here)" if both else " (left out)"
    return f"line {problem.line}: {problem.kind} {problem.key}: {problem.reason}{shown}"


def _summary(contents: ArchiveContents, results: dict[str, KindResult], *, dry_run: bool) -> dict[str, Any]:
    header = contents.header
    return {
        "dry_run": dry_run,
        "written_by": header.node,
        "registry": header.registry,
        "as_of": format_instant(header.time),
        "kinds": {name: asdict(result) for name, result in results.items()},
    }


def _print_merged(contents: ArchiveContents, results: dict[str, KindResult], *, dry_run: bool) -> None:
    header = contents.header
    verb = "would be" if dry_run else "was"
    print(f"{header.registry}'s registry of {format_instant(header.time)}: what {verb} merged")
    rows = [(name, *map(str, asdict(result).values())) for name, result in results.items()]
    print_table(("records", "read", "added", "updated", "unchanged", "problems"), rows)


def _aside(one: SetAside) -> dict[str, Any]:
    times = {"first_seen_at": format_instant(one.first_seen_at), "last_seen_at": format_instant(one.last_seen_at)}
    return asdict(one) | times


def _aside_row(one: SetAside) -> tuple[str, ...]:
    times = (format_instant(one.first_seen_at), format_instant(one.last_seen_at))
    return (one.peer, one.kind, one.key, str(one.status), *times, one.reason)


def _fail(message: str) -> NoReturn:
    typer.echo(f"dpn: {message}", err=True)
    raise typer.Exit(EXIT_UNUSABLE)
