"""Nodes for the registry's benchmarks: a settings file, a database filled at once, a server as its own process."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import Engine, Table

from dpn.access import tokens
from dpn.clock import SystemClock
from dpn.database import open_engine, open_sessions, upgrade
from dpn.registry.catalogue import BAGS, DIGESTS, TRANSFERS, totals
from dpn.registry.catalogue.kinds import REPLICAS
from tools.network.toml_text import to_toml

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30
FIRST_STAMP = datetime(2020, 1, 1, tzinfo=UTC)
STAMP_SECONDS = 100_000_000
NODES = ("north", "south", "west", "east", "mid")


@dataclass(frozen=True)
class BenchNode:
    """One node: where it lies and how it is reached."""

    folder: Path
    namespace: str
    database_url: str
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "node.toml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, namespace: str) -> str:
        engine = open_engine(self.database_url)
        with open_sessions(engine).begin() as session:
            token = tokens.issue(session, namespace, now=SystemClock().now())
        engine.dispose()
        return token


def make_node(folder: Path, namespace: str, database_url: str | None, peers: dict[str, Any]) -> BenchNode:
    """A node with an empty, migrated database; SQLite in `folder` if none is named."""
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    node = BenchNode(folder, namespace, database_url or f"sqlite:///{folder / 'node.db'}", port)
    node.config.write_text(
        to_toml(
            {
                "node": {"namespace": namespace, "api_root": node.url},
                "database": {"url": node.database_url},
                "staging": {"volumes": {"main": str(folder / "staging")}},
                "store": {"url": (folder / "store").as_uri()},
                "peers": peers,
            }
        )
    )
    node.config.chmod(0o600)
    engine = open_engine(node.database_url)
    upgrade(engine)
    engine.dispose()
    return node


def as_peer(node: BenchNode, *, of: str) -> dict[str, Any]:
    """`node` in the settings of another."""
    rsync = {"hosts": ["127.0.0.1"]}
    return {node.namespace: {"api_root": node.url, "token": node.token(of), "rsync": rsync}}


@contextmanager
def served(node: BenchNode) -> Iterator[subprocess.Popen[bytes]]:
    """`dpn serve` as its own process, ready."""
    with (node.folder / "serve.log").open("wb") as log:
        command = [ROOT / "bin/dpn", "serve", "--config", node.config, "--port", str(node.port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_ready(node, process)
            yield process
        finally:
            process.terminate()
            process.wait()


def peak_mib(pid: int) -> float:
    """The most memory that a living process had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def run_measured(*command: str | Path) -> tuple[str, float, float, float]:
    """Runs it; returns its output, its seconds, its processor seconds and the most memory it had, in MiB."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=sys.stderr)
        mib = 0.0
        # Not what `wait4` says of memory: that begins with what we ourselves had when it was started.
        while (done := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            with suppress(OSError, StopIteration):
                mib = max(mib, peak_mib(process.pid))
            time.sleep(0.05)
        seconds = time.monotonic() - started
        output.seek(0)
        if done[1]:
            raise SystemExit(f"{command}: status {done[1]}: {output.read()[-2000:]}")
        return output.read(), seconds, done[2].ru_utime + done[2].ru_stime, mib


def fill(
    database_url: str,
    *,
    bags: int,
    digests: bool,
    transfers: int,
    owner: str | None = None,
    one_stamp: bool = False,
) -> None:
    """Bags and transfers of north (some half of them) and others, or all of `owner`, written past all rules.

    Deterministic. Times are spread over three years, or all the same.
    """
    chance = random.Random(bags + transfers)
    engine = open_engine(database_url)

    def owners() -> str:
        return owner or (NODES[0] if chance.random() < 0.5 else chance.choice(NODES))

    def stamp() -> datetime:
        return FIRST_STAMP + timedelta(seconds=0 if one_stamp else chance.randrange(STAMP_SECONDS))

    members = _uuids(chance, 50)
    uuids = _uuids(chance, bags)
    rows, admins = [], []
    for uuid in uuids:
        admin, at = owners(), stamp()
        kind = "D" if chance.random() < 0.95 else chance.choice("IR")
        size, member = chance.randrange(1, 10**10), chance.choice(members)
        rows.append((uuid, f"inst.example/{uuid}", size, uuid, 1, kind, [], [], admin, admin, member, at, at))
        admins.append(admin)
    _load(engine, BAGS.table, rows)
    _load(engine, REPLICAS, list(zip(uuids, admins, strict=True)))
    if digests:
        values = (("sha256", admin, "0123456789abcdef" * 4, stamp()) for admin in admins)
        _load(engine, DIGESTS.table, [(uuid, *value) for uuid, value in zip(uuids, values, strict=True)])
    rows = []
    for number, uuid in enumerate(_uuids(chance, transfers)):
        bag, from_node = uuids[number % bags], admins[number % bags]
        to_node = chance.choice([node for node in NODES if node != from_node])
        at, stored = stamp(), chance.random() < 0.9
        cancelled = not stored and chance.random() < 0.5
        link = f"dpn.{to_node}@{from_node}.example.org:outbound/{bag}.tar"
        value, reason = "ab" * 32 if stored else None, "other" if cancelled else None
        flags = (stored, stored, cancelled, reason, None)
        rows.append((uuid, from_node, to_node, bag, "sha256", None, value, "rsync", link, *flags, at, at))
    _load(engine, TRANSFERS.table, rows)
    with open_sessions(engine).begin() as session:
        totals.recount(session)
    engine.dispose()


def _uuids(chance: random.Random, count: int) -> list[str]:
    """Random, in their order: a sorted primary key is filled much quicker."""
    texts = (f"{chance.getrandbits(128):032x}" for _ in repeat(None, count))
    return sorted(f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}" for h in texts)


def _load(engine: Engine, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Indexes are made afterwards."""
    names = ", ".join(column.name for column in table.columns)
    indexes = list(table.indexes)
    with engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
        raw: Any = connection.connection.dbapi_connection
        if engine.dialect.name == "sqlite":
            marks = ", ".join(repeat("?", len(table.columns)))
            raw.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", map(_sqlite_row, rows))
        else:
            with raw.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row([json.dumps(part) if isinstance(part, list) else part for part in row])
        for index in indexes:
            index.create(connection)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM ANALYZE {table.name}")


def _sqlite_row(row: tuple[Any, ...]) -> list[Any]:
    return [
        part.strftime("%Y-%m-%d %H:%M:%S.%f")
        if isinstance(part, datetime)
        else json.dumps(part)
        if isinstance(part, list)
        else part
        for part in row
    ]


def _wait_until_ready(node: BenchNode, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{node.url}/healthz", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.02)
    raise SystemExit(f"the server did not start: see {node.folder / 'serve.log'}")
