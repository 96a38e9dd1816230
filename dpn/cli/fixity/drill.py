"""`dpn drill`: brings random bags back from our store and from every peer, tells what came of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from dpn.cli.node import ConfigOption, open_node, operator
from dpn.cli.tables import print_table
from dpn.errors import Misconfigured
from dpn.node import OpenNode, open_broker
from dpn.work.notes import printable

if TYPE_CHECKING:
    from dpn.recovery.drills import Begun, Drilled

EXIT_FAILED = 1
MAX_SAMPLE = 1000
MAX_SEED = 2**31 - 1
OUR_STORE = "store"


@dataclass
class Tally:
    """What came of the bags that were drilled from one source."""

    source: str
    asked: int = 0
    good: int = 0
    bad: int = 0
    cancelled: int = 0
    waiting: int = 0
    longest_wait_seconds: float = 0.0


@dataclass(frozen=True)
class DrillReport:
    """Earlier drills: by source, and which bags call for somebody."""

    tallies: list[Tally] = field(default_factory=list)
    bad: list[Drilled] = field(default_factory=list)
    late: list[Drilled] = field(default_factory=list)
    """Waiting for longer than recovery.answer_days."""

    @property
    def ok(self) -> bool:
        return not self.bad and not self.late


def drill(
    context: typer.Context,
    sample: Annotated[
        int | None, typer.Option(min=1, max=MAX_SAMPLE, help="How many bags from each source.", metavar="N")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="The same seed draws the same bags.", metavar="S")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Only our `store`, or this peer; repeatable. Without: all.", metavar="store|NODE"
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Begin nothing: only tell of drills under way or ended lately.")
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")] = False,
) -> None:
    """Bring random bags back to scratch space and prove them: a restore drill, for cron.

    First tells what came of earlier drills, each end once; the next run tells of this one. Exit 1 if a bag that
    is told of was bad, or waits for longer than recovery.answer_days.
    """
    from dpn.database import reading
    from dpn.recovery.drills import drilled, note_told

    if report == (sample is not None):
        raise Misconfigured("give either --sample N or --report")
    with open_node(context, config, "dpn-drill") as node:
        now = node.clock.now()
        sources = _sources(node, only)
        with reading(node.sessions) as session:
            told = [one for one in drilled(session, now=now, recent=report) if not only or one.source in sources]
        summed = summary(told, late_after=timedelta(days=node.settings.recovery.answer_days))
        drill_id, seed, begun = str(uuid4()), secrets.randbelow(MAX_SEED) if seed is None else seed, []
        if sample is not None:
            begun = _begin(node, sources, drill_id, sample, seed)
        if as_json:
            print(json.dumps(_as_json(summed, drill_id, seed, begun), default=datetime.isoformat))
        else:
            _print(summed, drill_id, seed, begun)
        if not report:  # only now that it was told
            with node.sessions.begin() as session:
                note_told(session, told, now=now)
    if not summed.ok:
        raise typer.Exit(EXIT_FAILED)


def summary(told: Sequence[Drilled], *, late_after: timedelta) -> DrillReport:
    """What is to be told of these bags: pure."""
    tallies: dict[str, Tally] = {}
    for one in told:
        tally = tallies.setdefault(one.source, Tally(one.source))
        tally.asked += 1
        setattr(tally, one.result, getattr(tally, one.result) + 1)
        tally.longest_wait_seconds = max(tally.longest_wait_seconds, one.waits_seconds)
    bad = [one for one in told if one.result == "bad"]
    late = [one for one in told if one.waits_seconds > late_after.total_seconds()]
    return DrillReport([tallies[source] for source in sorted(tallies)], bad, late)


def _sources(node: OpenNode, only: Sequence[str] | None) -> list[str]:
    """Our store and every peer, or those that are named. Raises Misconfigured."""
    from dpn.recovery.drills import PEER, STORE

    peers, ours = node.settings.peers, f"{STORE}{node.settings.needed_store().name}"
    if not only:
        return [ours, *(f"{PEER}{peer}" for peer in sorted(peers))]
    for name in only:
        if name != OUR_STORE and name not in peers:
            raise Misconfigured(f"--from {name}: neither `store` nor a [peers.{name}] in {node.config}")
    return list(dict.fromkeys(ours if name == OUR_STORE else f"{PEER}{name}" for name in only))


def _begin(node: OpenNode, sources: Sequence[str], drill_id: str, sample: int, seed: int) -> list[Begun]:
    from dpn.broker import BrokerUnavailable
    from dpn.recovery.drills import Drilling, begin_drill
    from dpn.work.schedule.dispatch import publish_intents
    from workers.pipelines import PIPELINES

    with node.sessions.begin() as session:
        drilling = Drilling(drill_id, operator(), PIPELINES, node.clock, node.clock.now())
        begun = begin_drill(session, drilling, sources, sample=sample, seed=seed)
    try:
        publish_intents(node.sessions, open_broker(node))
    except BrokerUnavailable as error:  # the items are there: a worker's sweep finds them
        node.log.warning("messages wait for the broker", error=str(error))
    return begun


# -- telling -----------------------------------------------------------------------------------------------------


def _as_json(report: DrillReport, drill_id: str, seed: int, begun: Sequence[Begun]) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "report": [asdict(tally) for tally in report.tallies],
        "bad": [asdict(one) for one in report.bad],
        "late": [asdict(one) for one in report.late],
        "drill": {"id": drill_id, "seed": seed, "begun": [asdict(one) for one in begun]} if begun else None,
    }


def _print(report: DrillReport, drill_id: str, seed: int, begun: Sequence[Begun]) -> None:
    if report.tallies:
        rows = []
        for one in report.tallies:
            counts = (one.asked, one.good, one.bad, one.cancelled, one.waiting)
            wait = f"{one.longest_wait_seconds / 3600:.1f} h" if one.waiting else ""
            rows.append((one.source, *map(str, counts), wait))
        print_table(("source", "asked", "good", "bad", "cancelled", "waiting", "longest wait"), rows)
    else:
        print("No drill is to be told of.")
    for what, bags in (("bad", report.bad), ("late", report.late)):
        for bag in bags:
            print(printable(f"{what}: {bag.source}, bag {bag.bag}, item {bag.item}: {bag.note}"))
    for source in begun:
        how = source.skipped or (
            f"{len(source.bags)} bags drilled, items {_items(source.items)}"
            if source.bags
            else "it has no bags to draw"
        )
        print(f"{source.source}: {how}")
    if begun:
        print(f"Drill {drill_id}, seed {seed}: `dpn drill --report` tells how it goes.")


def _items(items: Sequence[int]) -> str:
    return f"{items[0]} to {items[-1]}" if len(items) > 1 else str(items[0])
