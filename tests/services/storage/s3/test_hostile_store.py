"""A store that answers as no store should: what it costs us is bounded, and none of it is believed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.errors import StoreMismatch, StoreUnavailable
from dpn.s3.limits import AnswerLimits, Retries
from dpn.storage.errors import ObjectReplaced
from dpn.storage.s3.store import S3Store
from dpn.storage.settings import StoreSettings
from tests.fixtures.nasty.store import (
    Asked,
    Behaviour,
    NastyStore,
    Send,
    answering,
    nasty_store,
    refusing,
    telling,
    uploads_page,
)

SIZE = 3 * 5 * 1024 * 1024
PART = 5 * 1024 * 1024
HEADERS = {"ETag": '"e"', "Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
SOON_SECONDS = 20.0


@pytest.fixture
def nasty() -> Iterator[NastyStore]:
    with nasty_store() as running:
        yield running


@pytest.fixture
def store(nasty: NastyStore) -> S3Store:
    settings = StoreSettings.model_validate(
        {
            "url": "s3://bucket/p",
            "endpoint_url": nasty.url,
            "access_key_id": "us",
            "secret_access_key": "secret",
            "part_size_bytes": PART,
            "connect_timeout_seconds": 2,
            "read_timeout_seconds": 1,
        }
    )
    limits = AnswerLimits(answer_seconds=1.0, slowest_bytes_a_second=10_000_000)
    return S3Store(settings, clock=SystemClock(), retries=Retries(attempts=3, first_seconds=0.01), limits=limits)


def holding(get: Behaviour, size: int = SIZE) -> Behaviour:
    """Says that it has an object of so many bytes, and gives it in this way."""

    def behave(asked: Asked, send: Send) -> None:
        if asked.method == "HEAD":
            answering(**{"Content_Length": str(size), **HEADERS})(asked, send)
        else:
            get(asked, send)

    return behave


def get_head(length: int) -> bytes:
    return f'HTTP/1.1 206 So\r\nETag: "e"\r\nContent-Length: {length}\r\n'.encode()


def test_bytes_beyond_a_part_are_never_written(nasty: NastyStore, store: S3Store, tmp_path: Path) -> None:
    def more_and_more(_: Asked, send: Send) -> None:
        send(get_head(PART) + b"Transfer-Encoding: chunked\r\n\r\n")
        block = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        for _number in range(40):
            send(block)

    nasty.behave(holding(more_and_more))
    with pytest.raises(StoreMismatch, match="more than"):
        store.retrieve("x.tar", tmp_path / "x.tar", cancellation=Cancellation())
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= SIZE


def test_bytes_that_dribble_are_not_waited_for_without_end(
    nasty: NastyStore, store: S3Store, tmp_path: Path
) -> None:
    def a_byte_now_and_then(asked: Asked, send: Send) -> None:
        send(get_head(PART) + b"\r\n")
        for _number in range(1000):
            send(b"x")
            time.sleep(0.05)

    nasty.behave(holding(a_byte_now_and_then))
    begun = time.monotonic()
    with pytest.raises((StoreUnavailable, StoreMismatch)):
        store.retrieve("x.tar", tmp_path / "x.tar", cancellation=Cancellation())
    assert time.monotonic() - begun < SOON_SECONDS


def test_nor_are_they_if_each_try_gets_a_little_further(nasty: NastyStore, store: S3Store) -> None:
    def a_byte_a_try(asked: Asked, send: Send) -> None:
        left = SIZE - len([one for one in nasty.seen if one.method == "GET"]) + 1
        send(get_head(left) + b"\r\nx")
        raise ConnectionResetError

    nasty.behave(holding(a_byte_a_try))
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        sum(len(data) for data in store.read("x.tar"))
    assert time.monotonic() - begun < SOON_SECONDS


def test_a_range_that_the_object_no_longer_has_is_another_objects(nasty: NastyStore, store: S3Store) -> None:
    nasty.behave(holding(refusing(416, "InvalidRange")))
    with pytest.raises(ObjectReplaced):
        sum(len(data) for data in store.read("x.tar"))


@pytest.mark.parametrize("size", ["9" * 30, "-1", "many"])
def test_a_size_beyond_all_reason_is_an_outage_not_a_full_disk(
    nasty: NastyStore, store: S3Store, tmp_path: Path, size: str
) -> None:
    nasty.behave(answering(**{"Content_Length": size, **HEADERS}))
    with pytest.raises(StoreUnavailable):
        store.retrieve("x.tar", tmp_path / "x.tar", cancellation=Cancellation())


def test_uploads_that_are_listed_without_end_are_looked_at_up_to_a_number(
    nasty: NastyStore, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpn.storage.s3.janitor.MOST_LOOKED_AT", 25)
    listings = 0

    def ever_more(asked: Asked) -> str:
        nonlocal listings
        if asked.method == "DELETE":
            return ""
        listings += 1
        keys = [f"p/{listings:08x}{str(uuid4())[8:]}.tar" for _ in range(10)]
        return uploads_page([(key, "id") for key in sorted(keys)], more=(keys[-1], "id"))

    nasty.behave(telling(ever_more))
    assert store.abort_abandoned_uploads(older_than=timedelta(days=1), keep=()) == 25
    assert listings == 3
