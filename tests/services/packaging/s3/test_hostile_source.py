"""A server that deposits come from, and what it may do to us: each fault is the depositor's, the operator's or an
outage, and none costs more than a bag may."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dpn.bags.errors import SourceRefused
from dpn.cancellation import Cancellation
from dpn.errors import SourceChanged, StoreUnavailable
from dpn.packaging.errors import FetchDamaged
from dpn.packaging.estimate import estimate
from dpn.packaging.location import S3Location
from dpn.packaging.package import package
from dpn.packaging.s3.connection import S3Source
from dpn.packaging.settings import DepositS3Settings
from dpn.s3.limits import AnswerLimits, Retries
from tests.fixtures.deposits import described
from tests.fixtures.nasty.store import Asked, NastyStore, Send, answering, nasty_store, page, refusing, telling


@pytest.fixture
def nasty() -> Iterator[NastyStore]:
    with nasty_store() as running:
        yield running


@pytest.fixture
def settings(nasty: NastyStore) -> DepositS3Settings:
    return DepositS3Settings.model_validate(
        {
            "endpoint_url": nasty.url,
            "access_key_id": "us",
            "secret_access_key": "secret",
            "connect_timeout_seconds": 2,
            "read_timeout_seconds": 1,
        }
    )


@pytest.fixture
def source(settings: DepositS3Settings) -> S3Source:
    retries = Retries(attempts=2, first_seconds=0.001)
    return S3Source(S3Location("bucket", "p/"), settings, retries=retries, limits=AnswerLimits(answer_seconds=2.0))


@pytest.mark.parametrize("suffix", ["", "/"], ids=["objects", "folder markers"])
def test_a_listing_of_ever_new_names_is_refused_where_a_bag_would_be_full(
    nasty: NastyStore,
    settings: DepositS3Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    suffix: str,
) -> None:
    monkeypatch.setattr("dpn.packaging.s3.connection.DEFAULT_MAX_ENTRIES", 45)
    size = "0" if suffix else "1"

    def ever_more(asked: Asked) -> str:
        number = len(nasty.seen)
        return page([f"p/{number:06}{row}{suffix}" for row in range(10)], more=f"t{number}", size=size)

    nasty.behave(telling(ever_more))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(SourceRefused, match="more than 45 objects"):
        estimate(described("s3://bucket/p/"), s3=settings)
    with pytest.raises(SourceRefused, match="more than 45 objects"):
        package(described("s3://bucket/p/"), work, s3=settings)
    assert len(nasty.seen) <= 2 * 6


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "NoSuchBucket", SourceRefused),
        (403, "InvalidObjectState", SourceRefused),
        (404, "NoSuchKey", SourceChanged),
        (412, "PreconditionFailed", SourceChanged),
        (416, "InvalidRange", SourceChanged),
        (400, "BadDigest", FetchDamaged),
        (503, "SlowDown", StoreUnavailable),
    ],
)
def test_a_refusal_means_to_a_depositor_what_he_can_act_on(
    nasty: NastyStore, source: S3Source, status: int, code: str, error: type[Exception]
) -> None:
    nasty.behave(refusing(status, code))
    with pytest.raises(error) as failure:
        source.get("key", '"e"', 5)
    assert type(failure.value) is error
    assert code in str(failure.value)


def test_an_object_that_is_longer_than_it_was_listed_is_not_taken(nasty: NastyStore, source: S3Source) -> None:
    def without_end(_: Asked, send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _number in range(100_000):
            send(b"4\r\nabcd\r\n")

    nasty.behave(without_end)
    answer = source.get("key", '"e"', 0)
    with pytest.raises(FetchDamaged, match="more than the 4 bytes"):
        list(source.body(answer, 4, Cancellation()))


def test_an_answer_without_a_length_is_no_object(
    nasty: NastyStore, settings: DepositS3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpn.s3.connection.Retries", partial(Retries, first_seconds=0.001))
    nasty.behave(answering(page(["p/a"])), times=1)
    nasty.behave(lambda _, send: send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"))
    with pytest.raises(StoreUnavailable, match="without ContentLength"):
        package(described("s3://bucket/p/"), tmp_path, s3=settings)
