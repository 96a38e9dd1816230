"""What finding due items and claiming them costs a node that has many, beside one where few wait, in the same run.

    .venv/bin/python -m benchmarks.sweeps [--items 1000000] [--waiting 100000] [--few 1000] [--database URL]

A table of so many work items, most of them done. First few of them wait, all for another hour; then many do. Each
time: the sweep of a worker of all stages and that of `dpn_queue`, which find nothing due. Then some become due;
the claim of each is timed, beside a bare UPDATE of a row. The database is a SQLite file unless an empty PostgreSQL
one is named.
Figures: sweeps.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text, update

from dpn.clock import SystemClock
from dpn.database import Sessions, open_engine, open_sessions, reading, upgrade
from dpn.work import leases
from dpn.work.schedule.sweep import announce_due_items
from models.work import WorkItem
from workers.pipelines import PIPELINES

CLOCK = SystemClock()
SPECS = PIPELINES.all_specs()
SWEEPS = 60
CLAIMS = 2000
MANIFEST = '{"manifest_version": 1, "summaries": {}, "padding": "' + "x" * 1500 + '"}'

FILL = """
INSERT INTO work_items (id, task, identifier, remote_node, stage, status, attempts, run_after, lease_token, note,
                        needs_attention, manifest, created_at, updated_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :items)
SELECT n, 'replication', 'id-' || n, 'north', 'copy', 'success', 0, CURRENT_TIMESTAMP, 1, 'a note', {false},
       '{manifest}', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP
FROM numbers
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--database", help="an empty PostgreSQL database; else a SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(options.database or f"sqlite:///{Path(folder) / 'node.db'}")
        try:
            _run(engine, options.items, options.few, options.waiting)
        finally:
            engine.dispose()
    return 0


def _run(engine: Engine, items: int, few: int, many: int) -> None:
    sessions = open_sessions(engine)
    upgrade(engine)
    _fill(engine, items)
    figures: dict[int, dict[str, float]] = {}
    for waiting in (few, many):
        _let_wait(engine, waiting)
        figures[waiting] = {"sweep of a worker": _timed(sessions, _worker_sweep)}
        figures[waiting]["sweep of dpn_queue"] = _timed(sessions, _queue_sweep)
    print(f"{engine.dialect.name}, {items:,} items, load {os.getloadavg()[0]:.1f}")
    for name, baseline in figures[few].items():
        ours = figures[many][name]
        print(
            f"  {name}: {ours:.2f} ms with {many:,} waiting, {baseline:.2f} ms with {few:,}: "
            f"{ours / baseline:.2f} times"
        )
    for name, taken in _claims(engine, sessions, many).items():
        p99 = statistics.quantiles(taken, n=100)[98]
        print(f"  {name}: median {statistics.median(taken):.2f} ms, p99 {p99:.2f} ms")


def _fill(engine: Engine, items: int) -> None:
    is_sqlite = engine.dialect.name == "sqlite"
    statement = FILL.replace("{false}", "0" if is_sqlite else "false").replace("{manifest}", MANIFEST)
    statement = statement.replace(": ", "\\: ")
    with engine.begin() as connection:
        connection.execute(text(statement), {"items": items})
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))


def _let_wait(engine: Engine, waiting: int) -> None:
    with engine.begin() as connection:
        waits = update(WorkItem).where(WorkItem.id <= waiting)
        connection.execute(waits.values(status="pending", run_after=CLOCK.in_database(3600.0)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE work_items"))


def _timed(sessions: Sessions, sweep: Callable[[Sessions], None]) -> float:
    """The median of many, in milliseconds."""
    sweep(sessions)
    taken = []
    for _ in range(SWEEPS):
        began = time.perf_counter()
        sweep(sessions)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _worker_sweep(sessions: Sessions) -> None:
    with reading(sessions) as session:
        found = leases.due_items(session, stages=SPECS, volumes=("main",), limit=4, clock=CLOCK)
    assert found == []


def _queue_sweep(sessions: Sessions) -> None:
    with reading(sessions) as session:
        found = announce_due_items(session, pipelines=PIPELINES, clock=CLOCK, crowded=lambda _: False)
    assert found.items == []


def _claims(engine: Engine, sessions: Sessions, waiting: int) -> dict[str, list[float]]:
    """Milliseconds of each claim of an item that is due and, in turn with them, of a bare UPDATE of another one's
    note; each with its commit."""
    items = range(1, min(CLAIMS, waiting // 2) + 1)
    with engine.begin() as connection:
        due = update(WorkItem).where(WorkItem.id <= items[-1])
        connection.execute(due.values(run_after=CLOCK.in_database()))
    taken: dict[str, list[float]] = {"claim": [], "a bare UPDATE": []}
    bare = text("UPDATE work_items SET note = 'another note' WHERE id = :id")
    for item in items:
        began = time.perf_counter()
        with sessions.begin() as session:
            held = leases.claim(
                session, item, worker="w", stages=SPECS, volumes=("main",), lease_seconds=60.0, clock=CLOCK
            )
        taken["claim"].append((time.perf_counter() - began) * 1000)
        assert held is not None
        began = time.perf_counter()
        with engine.begin() as connection:
            connection.execute(bare, {"id": items[-1] + item})
        taken["a bare UPDATE"].append((time.perf_counter() - began) * 1000)
    return taken


if __name__ == "__main__":
    raise SystemExit(main())
