"""`dpn items` and `dpn item …`: what every item is doing and why, and what an operator may do about it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from dpn.audit.trail import events_of_item
from dpn.cli.node import LARGEST_ROW_ID, ConfigOption, open_node, operator
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.work import progress
from dpn.work.progress import Reached
from dpn.work.queries import ItemFilter, NoSuchItem, find_item, list_items
from models.work import AuditEvent, Status, WorkItem

EXIT_FAILED = 1

item_app = typer.Typer(help="One work item.", no_args_is_help=True, add_completion=False)
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]
ItemId = Annotated[int, typer.Argument(min=1, max=LARGEST_ROW_ID, help="The item's id, as `dpn items` shows it.")]


def list_all(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    task: Annotated[str | None, typer.Option(help="Only this task, e.g. ingest.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only this stage, e.g. copy.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only this status.")] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Only what needs an operator.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 if there is such an item: --attention for monitoring.")
    ] = False,
) -> None:
    """List work items: where each is, since when, and why. With --json one JSON object a line."""
    if task is not None or stage is not None:
        _require_known(task, stage)
    wanted = ItemFilter(task, stage, status, needs_attention=True if attention else None)
    with open_node(context, config, "dpn-items") as node, reading(node.sessions) as session:
        found = list_items(session, wanted)
        if as_json:
            count = _print_json(found)
        else:
            items = list(found)
            reached = progress.of_items(session, [item.id for item in items if item.status == Status.RUNNING])
            shown = [(_as_row(item, reached.get(item.id)), item.needs_attention) for item in items]
            count = len(shown)
    if not as_json:
        headings = ("id", "task", "identifier", "peer", "stage", "status", "tries", "due", "note")
        print_table(headings, [row for row, _ in shown], alarming=[alarm for _, alarm in shown])
    if exit_code and count:
        raise typer.Exit(EXIT_FAILED)


def _print_json(items: Iterable[WorkItem]) -> int:
    """A line each, as they are read; returns how many there were."""
    count = 0
    for count, item in enumerate(items, 1):  # noqa: B007  (read after the loop)
        print(json.dumps(_as_json(item)))
    return count


def _require_known(task: str | None, stage: str | None) -> None:
    from workers.pipelines import PIPELINES

    stages = dict.fromkeys(spec.name for spec in PIPELINES.all_specs())
    for option, value, known in (("--task", task, PIPELINES.tasks), ("--stage", stage, stages)):
        if value is not None and value not in known:
            raise typer.BadParameter(f"no {value!r}: choose one of {', '.join(known)}", param_hint=option)


@item_app.command("show")
def show(
    context: typer.Context, item_id: ItemId, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one item: its state, its manifest and what happened to it."""
    with open_node(context, config, "dpn-item") as node, reading(node.sessions) as session:
        try:
            item = find_item(session, item_id)
        except NoSuchItem as error:
            _fail(error)
        shown = {
            **_as_json(item),
            "progress": _progress(progress.of_items(session, [item_id]).get(item_id)),
            "manifest": item.manifest,
            "events": _events(events_of_item(session, item_id)),
        }
    print(json.dumps(shown) if as_json else json.dumps(shown, indent=2, ensure_ascii=False))


@item_app.command("retry")
def retry(context: typer.Context, item_id: ItemId, config: ConfigOption = None) -> None:
    """Make an item due now, with all its attempts."""
    from dpn.work.items import NotAllowed, retry_item
    from workers.pipelines import PIPELINES

    with open_node(context, config, "dpn-item") as node:
        try:
            with node.sessions.begin() as session:
                item = retry_item(session, item_id, operator=operator(), pipelines=PIPELINES, clock=node.clock)
        except (NoSuchItem, NotAllowed) as error:
            _fail(error)
        print(f"Item {item_id} will run again from stage {item.stage}.")


@item_app.command("cancel")
def cancel(
    context: typer.Context,
    item_id: ItemId,
    reason: Annotated[str, typer.Option(help="Why; the transfer's owner is told (255 characters).")],
    config: ConfigOption = None,
) -> None:
    """End an item for good; the owner of its transfer will be told."""
    from dpn.work.items import NotAllowed, cancel_item
    from workers.pipelines import PIPELINES

    with open_node(context, config, "dpn-item") as node:
        try:
            with node.sessions.begin() as session:
                item = cancel_item(
                    session, item_id, reason=reason, operator=operator(), pipelines=PIPELINES, clock=node.clock
                )
        except (NoSuchItem, NotAllowed) as error:
            _fail(error)
        told = "; a notice to its owner is on its way" if item.remote_node else ""
        print(f"Item {item_id} is cancelled{told}.")


@item_app.command("acknowledge")
def acknowledge(
    context: typer.Context,
    item_id: ItemId,
    reason: Annotated[str, typer.Option(help="What was found or done about it; kept in the audit trail.")],
    config: ConfigOption = None,
) -> None:
    """Take note of an item that ended badly: it no longer calls for attention."""
    from dpn.work.items import NotAllowed, acknowledge_item

    with open_node(context, config, "dpn-item") as node:
        try:
            with node.sessions.begin() as session:
                acknowledge_item(session, item_id, reason=reason, operator=operator(), clock=node.clock)
        except (NoSuchItem, NotAllowed) as error:
            _fail(error)
        print(f"Item {item_id} no longer calls for attention.")


def _fail(error: Exception) -> None:
    typer.echo(f"dpn: {error}", err=True)
    raise typer.Exit(EXIT_FAILED) from error


def _as_json(item: WorkItem) -> dict[str, Any]:
    columns = (
        "id",
        "task",
        "identifier",
        "remote_node",
        "stage",
        "status",
        "attempts",
        "run_after",
        "waiting_since",
        "lease_owner",
        "lease_expires_at",
        "lease_token",
        "staging_volume",
        "note",
        "needs_attention",
        "created_at",
        "updated_at",
        "completed_at",
    )
    values = {name: getattr(item, name) for name in columns}
    values["bag"] = _bag_of(item.manifest)
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}


def _bag_of(manifest: Any) -> str | None:
    """The bag that the item is about, as far as its manifest, which may be damaged, tells."""
    if not isinstance(manifest, dict):
        return None
    facts = [manifest.get(name) for name in ("transfer", "deposit", "copied")]
    bags = [manifest.get("bag"), *(one.get("bag") for one in facts if isinstance(one, dict))]
    return next((bag for bag in bags if isinstance(bag, str)), None)


def _progress(reached: Reached | None) -> dict[str, Any] | None:
    """None for an item that does not run, or whose stage has not told yet."""
    if reached is None:
        return None
    left = reached.seconds_left
    return {
        "doing": reached.doing,
        "bytes_done": reached.bytes_done,
        "bytes_total": reached.bytes_total,
        "files_done": reached.files_done,
        "files_total": reached.files_total,
        "bytes_per_second": reached.bytes_per_second,
        "seconds_left": None if left is None else round(left, 1),
        "at": None if reached.at is None else reached.at.isoformat(),
    }


def _as_row(item: WorkItem, reached: Reached | None) -> tuple[str, ...]:
    due = "" if item.status != "pending" else f"{item.run_after:%Y-%m-%d %H:%M:%S}"
    return (
        str(item.id),
        item.task,
        item.identifier,
        item.remote_node or "",
        item.stage,
        item.status,
        str(item.attempts),
        due,
        item.note if reached is None else f"{item.note}: {_in_words(reached)}",
    )


def _in_words(reached: Reached) -> str:
    """For example "12 of 345 files, 4.5 of 90.1 MB (5 %), 12.3 MB/s"."""
    parts = []
    if reached.files_done or reached.files_total is not None:
        of_files = "" if reached.files_total is None else f" of {reached.files_total}"
        parts.append(f"{reached.files_done}{of_files} files")
    megabytes = f"{reached.bytes_done / 1e6:.1f}"
    if reached.bytes_total:
        percent = 100 * reached.bytes_done // reached.bytes_total
        parts.append(f"{megabytes} of {reached.bytes_total / 1e6:.1f} MB ({percent} %)")
    else:
        parts.append(f"{megabytes} MB")
    if reached.bytes_per_second is not None:
        parts.append(f"{reached.bytes_per_second / 1e6:.1f} MB/s")
    return ", ".join(parts)


def _events(events: list[AuditEvent]) -> list[dict[str, Any]]:
    return [
        {
            "at": event.occurred_at.isoformat(),
            "type": event.event_type,
            "outcome": event.outcome,
            "agent": event.agent,
            "detail": event.detail,
        }
        for event in events
    ]
