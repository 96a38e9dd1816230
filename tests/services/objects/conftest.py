"""Roots of both kinds, on a real folder and on versitygw."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpn.objects.folder.root import FolderRoot
from dpn.objects.root import Root, WriteOptions, WrittenObject
from dpn.objects.s3.root import S3Root
from dpn.s3.connection import Connection
from dpn.s3.limits import AnswerLimits, Retries
from dpn.s3.refusals import Refusals
from dpn.s3.settings import S3Access
from tests.conftest import Services

PART_BYTES = 5 * 1024 * 1024
_prefixes = itertools.count(1)


@pytest.fixture(scope="session")
def connect(services: Services) -> Callable[..., Connection]:
    """Connects to a fresh prefix of one bucket: a bucket of its own costs each test a third of a second."""
    entry = services.up("s3")
    access = S3Access.model_validate(
        {
            "endpoint_url": entry["endpoint"],
            "access_key_id": entry["access_key"],
            "secret_access_key": entry["secret_key"],
        }
    )
    refusals = Refusals("root:test", "roots.test", "roots.test.url", "s3:*")
    first = Connection(access, "objects", "", refusals, max_connections=8)
    first.client.create_bucket(Bucket="objects")

    def connect(endpoint: str | None = None, prefix: str | None = None) -> Connection:
        changed = access.model_copy(update={"endpoint_url": endpoint}) if endpoint else access
        return Connection(
            changed,
            "objects",
            f"t{next(_prefixes)}/" if prefix is None else prefix,
            refusals,
            max_connections=8,
            retries=Retries(attempts=3, first_seconds=0.01, max_seconds=0.05),
            limits=AnswerLimits(),
        )

    return connect


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """Each kind of root in turn, empty."""
    if request.param == "folder":
        (tmp_path / "root").mkdir()
        return FolderRoot("test", tmp_path / "root")
    return S3Root("test", request.getfixturevalue("connect")(), part_size=PART_BYTES)


def put(root: Root, key: str, content: bytes = b"content", **how: Any) -> WrittenObject:
    """Writes an object in small pieces."""
    pieces = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
    return root.write(key, pieces, len(content), WriteOptions(**how))


def content_of(root: Root, key: str, **how: Any) -> bytes:
    with root.open(key, **how) as opened:
        return b"".join(opened.chunks)


def keys_of(root: Root, prefix: str = "", **how: Any) -> list[str]:
    return [info.key for info in root.walk(prefix, **how)]


def no_chunks() -> Iterator[bytes]:
    yield from ()
