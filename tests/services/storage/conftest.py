"""Stores of every kind, and bags to put into them."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.s3.limits import AnswerLimits, Retries
from dpn.storage.s3.store import S3Store
from dpn.storage.settings import StoreSettings
from dpn.storage.store import Store
from dpn.storage.stores import open_store
from models.manifests import Receipt, UploadState
from tests.conftest import Bucket, Services
from tests.services.storage.s3_proxy import Proxy, faulty_proxy

ENTRY_KEYS = ("endpoint", "access_key", "secret_key", "region")
PART_BYTES = 5 * 1024 * 1024
METADATA = {
    "from_node": "north",
    "transfer_id": "7",
    "member": "6f8b5ab2-5a5f-4e7b-a0a8-9b8e3d1f8f55",
    "local_id": "two  blanks,\nnew line, é and 仓",
    "version": "1",
}


@dataclass
class StagedBag:
    """A file that waits to be stored, and how its put goes."""

    path: Path
    key: str = field(default_factory=lambda: f"{uuid4()}.tar")
    checkpoints: list[UploadState | None] = field(default_factory=list)
    fences: int = 0

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def upload(self) -> UploadState | None:
        """What the database would know of the upload."""
        return self.checkpoints[-1] if self.checkpoints else None

    def put(self, store: Store, **changes: Any) -> Receipt:
        arguments: dict[str, Any] = {
            "sha256": self.sha256,
            "metadata": METADATA,
            "resume": self.upload,
            "checkpoint": self.checkpoints.append,
            "cancellation": Cancellation(),
            "fence": self._count_fence,
        }
        return store.put(self.path, self.key, **{**arguments, **changes})

    def _count_fence(self) -> None:
        self.fences += 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def stage(tmp_path: Path) -> Callable[[int], StagedBag]:
    """Makes a staged bag of so many bytes."""

    def make(size: int) -> StagedBag:
        path = tmp_path / f"staged-{uuid4()}.tar"
        path.write_bytes(random.Random(size).randbytes(size))
        return StagedBag(path)

    return make


def s3_settings(bucket: Any, **changes: Any) -> StoreSettings:
    values: dict[str, Any] = {
        "url": f"s3://{bucket.name}/bags",
        "endpoint_url": bucket.endpoint,
        "region": bucket.region,
        "access_key_id": bucket.access_key,
        "secret_access_key": bucket.secret_key,
        "part_size_bytes": PART_BYTES,
        "upload_threads": 2,
        "retrieve_threads": 2,
        "connect_timeout_seconds": 2,
        "read_timeout_seconds": 1,
    }
    return StoreSettings.model_validate({**values, **changes})


def s3_store(
    settings: StoreSettings, clock: ManualClock, *, attempts: int = 3, visible_seconds: float = 30.0
) -> S3Store:
    """A store that does not wait long between its tries."""
    return S3Store(
        settings,
        clock=clock,
        retries=Retries(attempts=attempts, first_seconds=0.01, max_seconds=0.05),
        limits=AnswerLimits(visible_seconds=visible_seconds),
    )


@pytest.fixture(scope="session")
def server(services: Services) -> Callable[[str], tuple[dict[str, Any], Any]]:
    """An S3 server and a client of it, by name; started once a session, since tests here are many."""

    @functools.cache
    def started(name: str) -> tuple[dict[str, Any], Any]:
        entry = services.up(name)
        return entry, Bucket("", *(entry[key] for key in ENTRY_KEYS)).client()

    return started


def fresh_bucket(server: tuple[dict[str, Any], Any]) -> Bucket:
    entry, client = server
    name = f"bags-{uuid4()}"
    client.create_bucket(Bucket=name)
    return Bucket(name, *(entry[key] for key in ENTRY_KEYS))


@pytest.fixture
def s3_bucket(server: Callable[[str], Any]) -> Bucket:
    """A fresh bucket on versitygw."""
    return fresh_bucket(server("s3"))


@pytest.fixture
def glacier_bucket(server: Callable[[str], Any]) -> Bucket:
    """A fresh bucket on moto."""
    return fresh_bucket(server("glacier"))


@pytest.fixture(params=["folder", "versitygw", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Store:
    """Each kind of store in turn."""
    if request.param == "folder":
        folder = tmp_path / "store"
        folder.mkdir()
        return open_store(StoreSettings(url=folder.as_uri(), part_size_bytes=PART_BYTES), clock=clock)
    bucket = request.getfixturevalue("s3_bucket" if request.param == "versitygw" else "glacier_bucket")
    return s3_store(s3_settings(bucket), clock)


@pytest.fixture
def proxy(s3_bucket: Any) -> Iterator[Proxy]:
    """A proxy in front of versitygw."""
    with faulty_proxy(s3_bucket.endpoint) as running:
        yield running


@pytest.fixture
def behind_proxy(s3_bucket: Any, proxy: Proxy, clock: ManualClock) -> S3Store:
    """A store on versitygw that was probed through the proxy before anything went wrong."""
    store = s3_store(s3_settings(s3_bucket, endpoint_url=proxy.endpoint), clock)
    store.probe()
    proxy.forget()
    return store
