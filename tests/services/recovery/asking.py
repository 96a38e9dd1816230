"""North, who wants bags back: its real registry server, its settings file, and south, who hands them back by a
real rsync daemon."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from sqlalchemy import select, text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from dpn.bags.identity import tag_manifest_sha256
from dpn.cancellation import Cancellation
from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import reading
from dpn.errors import DpnError
from dpn.fixity.copies import remember
from dpn.recovery.requests import request_of
from dpn.registry.catalogue import BAGS, DIGESTS
from dpn.registry.catalogue.rows import save
from dpn.registry.records import DigestRecord, RestoreRecord
from dpn.settings_file import load_settings
from dpn.storage.ownership.own_store import open_own_store
from models.manifests import Receipt
from models.work import AuditEvent
from tests.fixtures.made_bags import END, PAYLOAD, bag_files, members
from tests.fixtures.records import LONG_AGO, a_bag
from tests.fixtures.registry import RunningRegistry

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Ran:
    """How a command ended; an error that it names is told as `dpn` itself does it."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass
class Asking:
    """North, and what south does."""

    registry: RunningRegistry
    config: Path
    folder: Path
    offered: Path
    """Where south puts what it hands back, and its daemon serves it."""
    link_prefix: str
    tars: dict[str, Path] = field(default_factory=dict)

    # -- what an operator of north does ---------------------------------------------------------------------------

    def dpn(self, *words: str) -> Ran:
        done = CliRunner().invoke(app, ["--config", str(self.config), *words])
        if isinstance(done.exception, DpnError):
            return Ran(2, done.stdout, str(done.exception))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def start(self, *words: str, log: IO[str] | None = None) -> subprocess.Popen[str]:
        """The same in a process of its own, to be disturbed; one that says much needs a `log`."""
        command = [sys.executable, "-m", "dpn.cli.main", "--config", str(self.config), *words]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log or subprocess.PIPE, text=True
        )

    def wait_until_blocked(self, process: subprocess.Popen[str], session: Session, seconds: float = 60) -> None:
        """Returns once a PostgreSQL server lets somebody wait for `session`, or the process has ended."""
        waits_for_us = text(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        deadline = time.monotonic() + seconds
        while process.poll() is None and not session.scalar(waits_for_us):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def request(self, bag: str, node: str = "south") -> str:
        done = self.dpn("restore", "request", bag, "--from", node)
        assert done.code == 0, done.err
        return done.out.strip()

    def fetch(self, which: str, *words: str) -> Ran:
        return self.dpn("restore", "fetch", which, "--out", str(self.out), *words)

    @property
    def out(self) -> Path:
        folder = self.folder / "out"
        folder.mkdir(exist_ok=True)
        return folder

    def there(self) -> set[str]:
        """What lies in the folder, scratch included."""
        return {path.name for path in self.out.iterdir()}

    # -- what there is --------------------------------------------------------------------------------------------

    def a_bag(
        self,
        payload: dict[str, bytes] | None = None,
        *,
        digest: bool = True,
        unlisted: bool = False,
        **fields: Any,
    ) -> str:
        """A bag that north knows, and south keeps; `unlisted`: its tag manifest does not list its payload's."""
        uuid = str(uuid4())
        tar = self.folder / f"{uuid}.tar"
        files = bag_files(payload or PAYLOAD, uuid=uuid)
        if unlisted:
            lines = files["tagmanifest-sha256.txt"].splitlines(keepends=True)
            files["tagmanifest-sha256.txt"] = b"".join(line for line in lines if b"manifest-" not in line)
        tar.write_bytes(members(files, uuid) + END)
        self.tars[uuid] = tar
        names = {"uuid": uuid, "first_version_uuid": uuid, "size": tar.stat().st_size}
        with self.registry.sessions.begin() as session:
            save(session, BAGS, [a_bag(**names | {"replicating_nodes": ("north", "south")} | fields)])
            if digest:
                value = tag_manifest_sha256(tar, uuid)
                record = DigestRecord(bag=uuid, algorithm="sha256", node="north", value=value, created_at=LONG_AGO)
                save(session, DIGESTS, [record])
        return uuid

    def record(self, restore_id: str) -> RestoreRecord:
        with reading(self.registry.sessions) as session:
            found = request_of(session, restore_id)
        assert found is not None
        return found

    def events(self, bag: str) -> list[tuple[str, str]]:
        with reading(self.registry.sessions) as session:
            rows = session.execute(
                select(AuditEvent.event_type, AuditEvent.outcome)
                .where(AuditEvent.object_id == bag)
                .order_by(AuditEvent.id)
            )
            return [(kind, outcome) for kind, outcome in rows]

    # -- what north keeps itself ------------------------------------------------------------------------------

    def keep(self, bag: str) -> Receipt:
        """Stores the bag in north's own store, and remembers the copy."""
        settings, tar = load_settings(self.config), self.tars[bag]
        store = open_own_store(
            settings.needed_store(), node="north", sessions=self.registry.sessions, clock=SystemClock()
        )
        receipt = store.put(
            tar,
            f"{bag}.tar",
            sha256=hashlib.sha256(tar.read_bytes()).hexdigest(),
            metadata={},
            resume=None,
            checkpoint=lambda _: None,
            cancellation=Cancellation(),
        )
        digest = tag_manifest_sha256(tar, bag)
        with self.registry.sessions.begin() as session:
            remember(session, receipt, bag=bag, tag_manifest_sha256=digest, item_id=None, every_days=730.0)
        return receipt

    # -- what south does, over HTTP at north's registry and with its daemon ---------------------------------------

    def accept(self, restore_id: str) -> None:
        self._put(restore_id, accepted=True)

    def offer(self, restore_id: str, content: bytes | None = None, link: str | None = None) -> None:
        """South stages the bag, or what it takes for it, and sets the link."""
        bag = self.record(restore_id).bag
        self.serve(bag, self.tars[bag].read_bytes() if content is None else content)
        self._put(restore_id, accepted=True, link=link or f"{self.link_prefix}{bag}.tar")

    def serve(self, bag: str, content: bytes) -> Path:
        file = self.offered / f"{bag}.tar"
        file.write_bytes(content)
        return file

    def cancel(self, restore_id: str, detail: str) -> None:
        self._put(restore_id, cancelled=True, cancel_reason="reject", cancel_reason_detail=detail)

    def _put(self, restore_id: str, **fields: Any) -> None:
        changed = self.record(restore_id).change(**fields)
        answer = self.registry.ask("south", "PUT", f"/restore/{restore_id}", json=changed.to_wire())
        assert answer.status_code == 200, answer.text


def write_config(
    path: Path, registry: RunningRegistry, entry: dict[str, Any], database_url: str, **more: str
) -> Path:
    """North's settings file, with south and west as peers whose rsync daemon is that of `entry`."""
    peers = "".join(
        f"""
        [peers.{name}]
        api_root = "http://127.0.0.1:1"
        token = "t"
        [peers.{name}.rsync]
        mode = "daemon"
        hosts = ["{entry["host"]}"]
        port = {entry["port"]}
        """
        for name in ("south", "west")
    )
    volume = path.parent / "staging"
    volume.mkdir(exist_ok=True)
    store = path.parent / "store"
    store.mkdir(exist_ok=True)
    path.write_text(
        f"""
        [node]
        namespace = "north"
        api_root = "{registry.url}"
        [database]
        url = "{database_url}"
        [staging]
        floor_bytes = 0
        [staging.volumes]
        main = "{volume}"
        {more.get("store", f'[store]{chr(10)}url = "file://{store}"')}
        [transfer]
        connect_timeout_seconds = 5
        io_timeout_seconds = 20
        stall_timeout_seconds = 30
        [validation]
        threads = 1
        {more.get("sections", "")}
        {peers}
        """
    )
    return path
