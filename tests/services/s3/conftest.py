"""A server that misbehaves, a real one, and connections to them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dpn.s3.connection import Connection
from dpn.s3.limits import AnswerLimits, Retries
from dpn.s3.refusals import Refusals
from dpn.s3.settings import S3Access
from tests.conftest import Bucket
from tests.fixtures.nasty.store import NastyStore, nasty_store

REFUSALS = Refusals("store:main", "store", "store.url", "s3:GetObject")


@functools.cache
def connect(
    url: str,
    bucket: str = "bucket",
    keys: tuple[str, str] = ("us", "secret"),
    monotonic: Callable[[], float] = time.monotonic,
    **limits: Any,
) -> Connection:
    """A connection to what lies under `p/` of a bucket. It is in no mood to wait, and tries once."""
    access = S3Access.model_validate(
        {
            "endpoint_url": url,
            "access_key_id": keys[0],
            "secret_access_key": keys[1],
            "connect_timeout_seconds": 2,
            "read_timeout_seconds": 1,
        }
    )
    retries, allowed = Retries(attempts=1), AnswerLimits(**{"answer_seconds": 1.0, **limits})
    return Connection(
        access, bucket, "p/", REFUSALS, max_connections=4, retries=retries, limits=allowed, monotonic=monotonic
    )


@pytest.fixture(scope="module")
def running() -> Iterator[NastyStore]:
    with nasty_store() as store:
        yield store


@pytest.fixture
def nasty(running: NastyStore) -> NastyStore:
    """One server for all tests of a module: a client of its own costs each of them a fifth of a second."""
    running.forget()
    return running


@pytest.fixture
def versitygw(s3_bucket: Bucket) -> Connection:
    keys = s3_bucket.access_key, s3_bucket.secret_key
    return connect(s3_bucket.endpoint, s3_bucket.name, keys, answer_seconds=60.0)
