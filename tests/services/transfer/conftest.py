"""A peer that serves a folder: a real rsync daemon, and a real sshd behind rrsync."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dpn.cancellation import Cancellation
from dpn.transfer.link import parse_link
from dpn.transfer.rsync import FetchResult, ask_size, fetch
from dpn.transfer.settings import RsyncSource, TransferSettings

SERVICE = "rsync:north"


@dataclass
class Peer:
    """One bag's file at the peer, and how we fetch it to `destination`."""

    root: Path
    prefix: str
    source: RsyncSource
    settings: TransferSettings
    destination: Path
    bag: str = field(default_factory=lambda: str(uuid4()))

    @property
    def file(self) -> Path:
        """The tar at the peer's side."""
        return self.root / f"{self.bag}.tar"

    @property
    def link(self) -> str:
        return f"{self.prefix}{self.bag}.tar"

    def offer(self, content: bytes) -> None:
        self.file.write_bytes(content)

    def fetch(self, cancellation: Cancellation | None = None, **options: Any) -> FetchResult:
        return fetch(
            parse_link(self.link, self.source, bag=self.bag),
            self.destination,
            service=SERVICE,
            settings=self.settings,
            source=self.source,
            cancellation=cancellation or Cancellation(),
            **{"max_bytes": 10**9, **options},
        )

    def ask_size(self, max_bytes: int = 10**9) -> int:
        return ask_size(
            parse_link(self.link, self.source, bag=self.bag),
            service=SERVICE,
            settings=self.settings,
            source=self.source,
            max_bytes=max_bytes,
            cancellation=Cancellation(),
        )

    def set(self, **settings: Any) -> None:
        self.settings = self.settings.model_copy(update=settings)


@pytest.fixture
def daemon(services: Any, tmp_path: Path) -> Peer:
    """A peer with an rsync daemon."""
    return daemon_peer(services.up("rsyncd"), tmp_path)


@pytest.fixture
def ssh(services: Any, tmp_path: Path) -> Peer:
    """A peer that lets us in by ssh, restricted to rrsync."""
    return ssh_peer(services.up("sshd"), tmp_path)


@pytest.fixture(params=["daemon", "ssh"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each kind in turn."""
    chosen: Peer = request.getfixturevalue(request.param)
    return chosen


def daemon_peer(entry: dict[str, Any], tmp_path: Path, module: str = "outbound", user: str = "") -> Peer:
    host, port = entry["host"], entry["port"]
    return Peer(
        root=Path(entry["modules"][module]),
        prefix=f"rsync://{user}{host}:{port}/{module}/",
        source=RsyncSource(mode="daemon", hosts=(host,), port=port),
        settings=TransferSettings(connect_timeout_seconds=5, io_timeout_seconds=20, stall_timeout_seconds=30),
        destination=_destination(tmp_path),
    )


def ssh_peer(entry: dict[str, Any], tmp_path: Path) -> Peer:
    return Peer(
        root=Path(entry["root"]),
        prefix=f"{entry['user']}@{entry['host']}:",
        source=RsyncSource(mode="ssh", hosts=(entry["host"],), port=entry["port"]),
        settings=TransferSettings(
            identity_file=entry["identity_file"],
            known_hosts_file=entry["known_hosts_file"],
            connect_timeout_seconds=5,
            io_timeout_seconds=20,
            stall_timeout_seconds=30,
        ),
        destination=_destination(tmp_path),
    )


def processes_with(text: str) -> list[int]:
    """Ids of the live processes on whose command line `text` stands."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text in (folder / "cmdline").read_text(errors="replace"):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended while we looked
    return found


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def _destination(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder / "bag.tar"
