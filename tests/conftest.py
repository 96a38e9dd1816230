"""What every test may ask for: real servers, started on first use and gone when the session ends."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg
import pytest
import structlog

ROOT = Path(__file__).resolve().parent.parent
RUNNING_SERVICES = "TEST_SERVICES_DIR"
"""Names a DIR of `bin/services` to use instead of one that lives as long as the session: for quick reruns."""

SHARED_SERVICES = "TEST_SHARED_SERVICES_DIR"
"""Names the DIR of the servers that all of pytest's processes share; its first process makes and removes it."""

_numbers = itertools.count(1)
_owns_shared_services = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """What is logged is shown with a test that fails, in plain lines.

    structlog by itself would draw every exception with all its variables, which takes a second; and a command that
    was tested before may have set up another way.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )


@dataclass(frozen=True)
class Services:
    """The servers of one DIR, started when first asked for."""

    directory: Path
    _up: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was started and need not be asked for again: that costs a process each time."""

    def up(self, name: str, **flags: str) -> dict[str, Any]:
        """Starts `name` if need be; returns its entry in services.json.

        `flags` are the server's own, with `_` for `-`: `up("nsqd", max_msg_timeout="3s")`.
        """
        if not flags and (known := self._up.get(name)) and _is_alive(known["pid"]):
            return known
        settings = [f"--set={name}.{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        document = json.loads(self._run("up", *settings, name))
        entry: dict[str, Any] = document["services"][name]
        self._up[name] = entry
        return entry

    def down(self, *names: str, wipe: bool = False) -> None:
        """Stops `names`, or all; `wipe` removes their data. They come back on the same ports."""
        self._up.clear()
        self._run("down", *(["--wipe"] if wipe else []), *names)

    def _run(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [ROOT / "bin/services", command, "--dir", self.directory, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"bin/services {command} {' '.join(arguments)}:\n{done.stderr}", pytrace=False)
        return done.stdout


@dataclass(frozen=True)
class Bucket:
    """A fresh, empty bucket."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str

    def client(self) -> Any:
        """A boto3 client that reaches it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )


def pytest_configure(config: pytest.Config) -> None:
    """A terminated session cleans up like an interrupted one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if config.stash.setdefault(_owns_shared_services, SHARED_SERVICES not in os.environ):
        os.environ[SHARED_SERVICES] = tempfile.mkdtemp(prefix="dpn-services-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stops what was shared, once no process of the session needs it any more."""
    if config.stash.get(_owns_shared_services, False):
        _remove(Services(Path(os.environ.pop(SHARED_SERVICES))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spreads the files that run whole networks among those that need servers: no three of them run at once on two
    cores, and none is left for the end, when the others have nothing to do. What needs no server comes last."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    networks = [file for file in files if file.startswith(("tests/e2e/", "tests/faults/"))]
    servers = [file for file in files if file.startswith("tests/services/")]
    others = [file for file in files if file not in {*networks, *servers}]
    between = len(servers) // (len(networks) + 1) + 1
    order: list[str] = []
    for number, file in enumerate(servers, 1):
        order.append(file)
        if number % between == 0:
            order.append(networks.pop())
    items[:] = [item for file in (*order, *networks, *others) for item in files[file]]


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The session's servers: `services.up("s3")` answers what services.json says of it."""
    running = os.environ.get(RUNNING_SERVICES)
    if running:
        yield Services(Path(running))
        return
    with _temporary_services() as own:
        yield own


@pytest.fixture(scope="session")
def shared_services() -> Services:
    """Servers that cost too much to be started for each process of pytest: tests cross there, so they name what is
    theirs by names that nobody else uses, and stop nothing."""
    return Services(Path(os.environ.get(RUNNING_SERVICES) or os.environ[SHARED_SERVICES]))


@pytest.fixture
def rabbitmq(shared_services: Services) -> dict[str, Any]:
    """The RabbitMQ that all tests share: what services.json says of it."""
    return shared_services.up("rabbitmq")


@pytest.fixture
def own_services() -> Iterator[Services]:
    """Servers of this test alone, which it may start with flags of their own, kill and wipe."""
    with _temporary_services() as own:
        yield own


@pytest.fixture
def postgresql_url(services: Services) -> Iterator[str]:
    """A fresh, empty PostgreSQL database."""
    server = services.up("postgresql")["url"]
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _administer(server, f"CREATE DATABASE {name}")
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'node.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def s3_bucket(services: Services) -> Bucket:
    """A bucket on versitygw: data on disk, checksums enforced."""
    return _fresh_bucket(services.up("s3"))


@pytest.fixture
def glacier_bucket(services: Services) -> Bucket:
    """A bucket on moto: storage classes that must be restored before they can be read."""
    return _fresh_bucket(services.up("glacier"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real bags and records, which lie beside a checkout, not in it."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no {path}: real data lies beside the checkout and is not part of it")
    return path


@contextmanager
def _temporary_services() -> Iterator[Services]:
    """Servers in a folder of their own, stopped and removed at the end, whatever happened."""
    services = Services(Path(tempfile.mkdtemp(prefix="dpn-services-")))
    try:
        yield services
    finally:
        _remove(services)


def _remove(services: Services) -> None:
    if any(services.directory.iterdir()):
        services.down(wipe=True)
    shutil.rmtree(services.directory)


def _is_alive(pid: int) -> bool:
    """Whether the process runs: one that was stopped, or has ended and was not yet reaped, does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X", "T")


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


def _fresh_bucket(entry: dict[str, Any]) -> Bucket:
    name = f"test-{os.getpid()}-{next(_numbers)}"
    bucket = Bucket(name, entry["endpoint"], entry["access_key"], entry["secret_key"], entry["region"])
    bucket.client().create_bucket(Bucket=name)
    return bucket
