"""`dpn fixity`: the checks that are coming, and how well our copies are proven."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import ceil
from typing import Annotated, Any

import typer
from sqlalchemy import func, select

from dpn.cli.fixity.copies import JsonOption, check, history, repair
from dpn.cli.node import ConfigOption, open_node
from dpn.cli.tables import print_table
from dpn.database import reading
from dpn.fixity.begin import demand, limits_of
from dpn.fixity.coverage import Coverage, not_known_here, of_others, of_ours
from dpn.fixity.forecast import Plan
from dpn.fixity.forecast import plan as forecast
from dpn.fixity.levels import Facts, Levels, levels
from dpn.node import OpenNode
from models.preservation import StoredCopy
from models.work import Task
from workers.pipelines import PIPELINES

EXIT_FAILED = 1
RUNS_PER_DAY = 288
"""`dpn-queue.timer` runs every five minutes."""

MAX_DAYS = 3650
GB = 1_000_000_000

app = typer.Typer(help="Checks of stored copies.", no_args_is_help=True, add_completion=False)
app.command()(check)
app.command()(repair)
app.command()(history)


@app.command()
def plan(
    context: typer.Context,
    config: ConfigOption = None,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="How many days to look ahead.")] = 30,
    runs_per_day: Annotated[
        int, typer.Option(min=1, max=86_400, help="How often dpn_queue runs in a day.")
    ] = RUNS_PER_DAY,
    as_json: JsonOption = False,
) -> None:
    """Show the coming checks by day, and whether every copy can be checked in time. Exit 1 if not."""
    with open_node(context, config, "dpn-fixity") as node, reading(node.sessions) as session:
        settings = node.settings.fixity
        planned = forecast(
            demand(session),
            limits_of(settings),
            now=node.clock.now(),
            every_days=settings.every_days,
            days=days,
            runs_per_day=runs_per_day,
            largest=session.execute(select(func.max(StoredCopy.size))).scalar_one() or 0,
        )
        every_days = settings.every_days
    if as_json:
        print(json.dumps(_plan_json(planned, every_days), default=str))
    else:
        _print_plan(planned, every_days)
    if not planned.is_kept:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def report(
    context: typer.Context,
    config: ConfigOption = None,
    days: Annotated[
        float | None,
        typer.Option(min=0.01, max=MAX_DAYS * 10, help="Checked within so many days; default fixity.every_days."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many copies are proven, by node and member. Exit 1 if one is overdue here, or failed anywhere."""
    with open_node(context, config, "dpn-fixity") as node, reading(node.sessions) as session:
        within, now = days or node.settings.fixity.every_days, node.clock.now()
        trusted = node.settings.store is None or node.settings.store.trusted_checksums
        ours = of_ours(session, node.namespace, now=now, days=within, trusted_checksums=trusted)
        others = of_others(session, node.namespace, now=now, days=within)
        unknown = not_known_here(session, node.namespace)
        reached = levels(_facts(node, ours))
    if as_json:
        print(json.dumps(_report_json(within, ours, others, unknown, reached)))
    else:
        _print_report(within, [*ours, *others], unknown, reached)
    if any(one.overdue for one in ours) or any(one.failed for one in (*ours, *others)):
        raise typer.Exit(EXIT_FAILED)


def _facts(node: OpenNode, ours: list[Coverage]) -> Facts:
    return Facts(
        copies=sum(one.copies for one in ours),
        overdue=sum(one.overdue for one in ours),
        failed=sum(one.failed for one in ours),
        never=sum(one.never for one in ours),
        have_peers=bool(node.settings.peers),
        checks_run=Task.FIXITY in PIPELINES.tasks,
        repaired_at_once=node.settings.recovery.repair,
    )


def _plan_json(planned: Plan, every_days: float) -> dict[str, Any]:
    return {
        "every_days": every_days,
        "promise_kept": planned.is_kept,
        **asdict(planned),
        "limits": [{**asdict(need), "enough": need.is_enough} for need in planned.limits],
    }


def _report_json(
    days: float, ours: list[Coverage], others: list[Coverage], unknown: int, reached: Levels
) -> dict[str, Any]:
    return {
        "days": days,
        "ours": [asdict(one) for one in ours],
        "others": [asdict(one) for one in others],
        "ours_not_known_here": unknown,
        "ndsa": {
            "version": "2.0 (2019)",
            "level": reached.reached,
            "asked": [asdict(one) for one in reached.asked],
        },
    }


def _print_plan(planned: Plan, every_days: float) -> None:
    rows = [
        (f"{one.day:%Y-%m-%d}", f"{one.checks:.1f}", f"{one.bytes / GB:.1f}", f"{one.cost:.2f}")
        for one in planned.days
    ]
    print_table(("day", "checks", "GB", "cost"), rows)
    copies = planned.copies
    print(f"{copies.checks} copies, {copies.bytes / GB:.1f} GB, each to be checked every {every_days:g} days.")
    if planned.overdue.checks:
        print(f"{planned.overdue.checks} are overdue already.")
    if planned.is_too_large:
        print(f"The largest, {planned.largest} bytes, is beyond a limit: it will never be checked.")
    for need in planned.limits:
        if not need.is_enough:
            print(
                f"{need.setting} = {need.limit:g} is too small: it takes {_rounded(need.needed):g}; "
                f"with time in hand for outages, {_rounded(need.advised):g}."
            )
    print("The promise can be kept." if planned.is_kept else "The promise cannot be kept.")


def _rounded(amount: float) -> float:
    """Up: to two digits after the point where it is small."""
    return ceil(amount) if amount >= 100 else ceil(amount * 100) / 100


def _print_report(days: float, rows: list[Coverage], unknown: int, reached: Levels) -> None:
    headings = (
        *("node", "member", "copies", "GB", "proven", "claimed"),
        *(f"checked in {days:g} d", "overdue", "failed", "never"),
    )
    shown = [
        (
            one.node,
            one.name or one.member or "not in the registry",
            str(one.copies),
            f"{one.bytes / GB:.1f}",
            *map(str, (one.proven, one.claimed, one.checked, one.overdue, one.failed, one.never)),
        )
        for one in rows
    ]
    print_table(headings, shown, alarming=[bool(one.failed or one.overdue) for one in rows])
    if unknown:
        print(f"Of {unknown} bags the registry says that we keep them, and no copy is known here.")
    print(f"NDSA Levels of Digital Preservation (2019), Integrity: level {reached.reached} of 4.")
    for one_yours in reached.yours:
        print(f"  Provided that {one_yours.what}: this software cannot see it ({one_yours.why}).")
    for missing in reached.missing:
        print(f"  For level {missing.level}: {missing.what}: not so ({missing.why}).")
    print("Of other nodes we know what they record, not what they do.")
