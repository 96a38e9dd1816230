"""What the registry's lists and its sync cost beside the bare tools, on the same machine in the same run.

    .venv/bin/python -m benchmarks.registry pages [--records 1000000] [--database URL] [--one-stamp] [--writes]
    .venv/bin/python -m benchmarks.registry sync [--bags 100000] [--database URL URL]

`pages`: a registry with so many bags and as many transfers behind a real `dpn serve`; pages of 100 over HTTP.
`sync`: one peer with so many bags, a digest each and twice as many transfers; `dpn sync` into an empty node, then
again with nothing new. Databases are SQLite files unless empty PostgreSQL databases are named. Figures and what
they mean: registry.md.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import text

from benchmarks.registry_nodes import (
    ROOT,
    BenchNode,
    as_peer,
    fill,
    make_node,
    peak_mib,
    run_measured,
    served,
)
from dpn.database import open_engine, open_sessions
from dpn.registry.catalogue import TRANSFERS
from dpn.registry.catalogue.rows import save
from dpn.registry.records import ReplicationRecord

PAGE = 100
WALKED_PAGES = 200
EARLY = "after=2019-12-31T00:00:00Z"
LISTS = {
    "/replicate": "",
    "/replicate, newest first": "order_by=updated_at",
    "/replicate of a node (sync)": f"from_node=north&order_by=updated_at&{EARLY}",
    "/replicate to a node": "to_node=south&order_by=updated_at",
    "/replicate open (queue)": (
        f"to_node=south&stored=false&cancelled=false&store_requested=false&order_by=updated_at&{EARLY}"
    ),
    "/replicate stored": "stored=true&order_by=updated_at",
    "/replicate of a node, not stored": "from_node=north&stored=false&order_by=updated_at",
    "/replicate, oldest order": "order_by=created_at",
    "/bag": "",
    "/bag of a node (sync)": f"admin_node=north&bag_type=D&order_by=updated_at&{EARLY}",
    "/bag of a node, no order": f"admin_node=north&{EARLY}",
    "/bag, few of a kind": "admin_node=west&bag_type=I&order_by=updated_at",
    "/bag ingested by": "ingest_node=north&order_by=updated_at",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    pages = commands.add_parser("pages")
    pages.add_argument("--records", type=int, default=1_000_000)
    pages.add_argument("--database")
    pages.add_argument("--one-stamp", action="store_true", help="all records have the same times")
    pages.add_argument("--writes", action="store_true", help="transfers change all the while")
    pages.set_defaults(run=_pages)
    sync = commands.add_parser("sync")
    sync.add_argument("--bags", type=int, default=100_000)
    sync.add_argument("--database", nargs=2, default=[None, None])
    sync.set_defaults(run=_sync)
    for command in (pages, sync):
        command.add_argument("--dir", type=Path, help="where the databases are made; kept if it is named")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpn-bench-") as scratch:
        arguments.run(arguments, arguments.dir or Path(scratch))
    return 0


def _pages(arguments: argparse.Namespace, folder: Path) -> None:
    node = _existing(folder / "north", arguments.database) or make_node(
        folder / "north", "north", arguments.database, {}
    )
    if not _row_count(node):
        fill(
            node.database_url,
            bags=arguments.records,
            digests=False,
            transfers=arguments.records,
            one_stamp=arguments.one_stamp,
        )
    session = requests.Session()
    session.headers["Authorization"] = f"Token token={node.token('south')}"
    print(
        f"| list of {arguments.records} | count | first | jump to the middle | jump to the end | walk | slowest |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with served(node) as server, _written_to(node) if arguments.writes else _left_alone():
        session.get(f"{node.url}/api-v2/version")
        for name, query in LISTS.items():
            print(_row(session, node, name, query), flush=True)
        print(f"\nserver: {peak_mib(server.pid):.0f} MiB at the most")
    _bare_page(node)


def _row(session: requests.Session, node: BenchNode, name: str, query: str) -> str:
    path = f"{node.url}/api-v2{name.split(' ')[0].rstrip(',')}?{query}&page_size={PAGE}"

    def timed(page: int) -> tuple[float, Any]:
        started = time.perf_counter()
        answer = session.get(f"{path}&page={page}")
        seconds = time.perf_counter() - started
        answer.raise_for_status()
        return seconds * 1000, answer.json()

    first, page = timed(1)
    last = max(1, -(-page["count"] // PAGE))
    middle, _ = timed(max(1, last // 2))
    end, _ = timed(last)
    start = max(1, last // 2 - WALKED_PAGES)
    timed(start)
    walked = [timed(number)[0] for number in range(start + 1, min(last, start + WALKED_PAGES))] or [0.0]
    figures = (first, middle, end, statistics.median(walked), max(walked))
    return f"| {name} | {page['count']} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |"


def _bare_page(node: BenchNode) -> None:
    """What the database alone takes for the pages above: a count, and a page by OFFSET."""
    engine = open_engine(node.database_url)
    newest_first = "SELECT * FROM replication_transfers ORDER BY updated_at DESC, replication_id DESC LIMIT 100"
    with engine.connect() as connection:
        for statement in (
            "SELECT count(*) FROM replication_transfers",
            "SELECT count(*) FROM replication_transfers WHERE from_node = 'north'",
            "SELECT count(*), sum(size) FROM bags WHERE admin_node = 'north' AND bag_type = 'D'",
            newest_first,
            f"{newest_first} OFFSET {_row_count(node) // 2}",
        ):
            best = min(_timed_statement(connection, statement) for _ in range(3))
            print(f"bare: {best:.1f} ms  {statement}")
    engine.dispose()


def _timed_statement(connection: Any, statement: str) -> float:
    started = time.perf_counter()
    connection.execute(text(statement)).all()
    return (time.perf_counter() - started) * 1000


@contextmanager
def _written_to(node: BenchNode) -> Iterator[None]:
    """Some thirty transactions a second, each changing a transfer."""
    engine = open_engine(node.database_url)
    sessions, stop = open_sessions(engine), threading.Event()

    def write() -> None:
        with sessions() as session:
            keys = session.scalars(TRANSFERS.table.select().with_only_columns(*TRANSFERS.key).limit(5000)).all()
        for key in keys:
            if stop.wait(0.03):
                return
            with sessions.begin() as session:
                row = session.execute(TRANSFERS.table.select().where(TRANSFERS.key[0] == key)).mappings().one()
                record: ReplicationRecord = TRANSFERS.read(row)
                save(session, TRANSFERS, [record.change(fixity_nonce=str(time.monotonic()))])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        engine.dispose()


@contextmanager
def _left_alone() -> Iterator[None]:
    yield


def _sync(arguments: argparse.Namespace, folder: Path) -> None:
    north = _existing(folder / "north", arguments.database[0])
    if north is None:
        north = make_node(folder / "north", "north", arguments.database[0], {})
        fill(
            north.database_url,
            bags=arguments.bags,
            digests=True,
            transfers=2 * arguments.bags,
            owner="north",
        )
    south = make_node(
        folder / f"south{time.time_ns()}", "south", arguments.database[1], as_peer(north, of="south")
    )
    total = 4 * arguments.bags
    with served(north) as server:
        for name in ("first", "second"):
            before = _processor_seconds(server.pid)
            output, seconds, busy, mib = run_measured(ROOT / "bin/dpn", "sync", "--config", south.config, "--json")
            fetched = sum(of_type["fetched"] for of_type in json.loads(output)[0]["types"].values())
            served_for = _processor_seconds(server.pid) - before
            print(
                f"{name} sync: {seconds:.2f} s, {fetched} records fetched, {total / seconds:.0f} records/s; "
                f"processor: sync {busy:.1f} s, server {served_for:.1f} s; "
                f"memory: sync {mib:.0f} MiB, server {peak_mib(server.pid):.0f} MiB",
                flush=True,
            )
        _bare_sync(north, folder)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _bare_sync(north: BenchNode, folder: Path) -> None:
    """Reads the same rows as JSON, parses that, and inserts them into a plain table: no rules, no HTTP."""
    engine = open_engine(north.database_url)
    with engine.connect() as connection:
        pages, names = [], {}
        for table in ("bags", "message_digests", "replication_transfers"):
            rows = [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]
            names[table] = list(rows[0])
            pages += [(table, json.dumps(rows[n : n + PAGE], default=str)) for n in range(0, len(rows), PAGE)]
    engine.dispose()
    bare = sqlite3.connect(folder / "bare.db")
    for table, columns in names.items():
        bare.execute(f"DROP TABLE IF EXISTS {table}")
        bare.execute(f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY ({columns[0]}))")
    started = time.perf_counter()
    parsed = [(table, json.loads(page)) for table, page in pages]
    seconds_parsing = time.perf_counter() - started
    for table, rows in parsed:
        marks = ", ".join("?" * len(names[table]))
        values = [[v if not isinstance(v, list) else str(v) for v in row.values()] for row in rows]
        bare.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
    bare.commit()
    seconds = time.perf_counter() - started
    count = sum(len(rows) for _, rows in parsed)
    print(f"bare: json.loads {seconds_parsing:.2f} s, with executemany INSERT {seconds:.2f} s ({count} records)")


def _existing(folder: Path, database_url: str | None) -> BenchNode | None:
    """The node of an earlier run in a folder that was kept."""
    if not (folder / "node.toml").exists():
        return None
    port = int((folder / "node.toml").read_text().split("127.0.0.1:")[1].split('"')[0])
    return BenchNode(folder, "north", database_url or f"sqlite:///{folder / 'node.db'}", port)


def _row_count(node: BenchNode) -> int:
    engine = open_engine(node.database_url)
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM replication_transfers")).scalar_one()
    engine.dispose()
    return int(count)


if __name__ == "__main__":
    raise SystemExit(main())
