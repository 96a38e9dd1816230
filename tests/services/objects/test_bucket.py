"""What a root that is a bucket does where its server, or the way to it, does not do as it should."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.errors import AccessRefused, Interrupted, Misconfigured, ObjectExists, SourceChanged, StoreUnavailable
from dpn.objects.root import PartialWrite, Root, Skipped
from dpn.objects.roots import open_root
from dpn.objects.s3.root import S3Root
from dpn.objects.settings import RootSettings
from dpn.s3.connection import Connection
from tests.conftest import Services
from tests.fixtures.nasty.store import NastyStore, answering, nasty_store, page
from tests.services.objects.conftest import PART_BYTES, content_of, keys_of, put
from tests.services.storage.s3_proxy import Fault, Proxy, faulty_proxy

Connect = Callable[..., Connection]
LARGE = random.Random(1).randbytes(3 * PART_BYTES + 12345)


@pytest.fixture
def nasty() -> Iterator[NastyStore]:
    with nasty_store() as store:
        yield store


@pytest.fixture
def root(connect: Connect) -> S3Root:
    return S3Root("test", connect(), part_size=PART_BYTES)


@pytest.fixture
def proxied(connect: Connect) -> Iterator[tuple[S3Root, Proxy]]:
    """A root behind a proxy that misbehaves as told."""
    direct = connect()
    with faulty_proxy(direct.client.meta.endpoint_url) as proxy:
        yield S3Root("test", connect(proxy.endpoint), part_size=PART_BYTES), proxy


def test_keys_that_a_hostile_server_lists_lead_nowhere(connect: Connect, nasty: NastyStore) -> None:
    root = S3Root("test", connect(nasty.url, "p/"))
    nasty.behave(answering(page(["p/", "p/../../etc/passwd", "p//abs", "p/a\nb", "p/a/../b", "p/good", "p/z/"])))
    told: list[Skipped] = []
    assert keys_of(root, skipped=told.append) == ["good"]
    assert [one.name for one in told] == ["''", "'../../etc/passwd'", "'/abs'", "'a\\nb'", "'a/../b'", "'z/'"]


@pytest.mark.parametrize("keys", [["p/b", "p/a"], ["p/a", "p/a"], ["q/a"]])
def test_a_listing_that_goes_back_or_elsewhere_is_no_listing(
    connect: Connect, nasty: NastyStore, keys: list[str]
) -> None:
    root = S3Root("test", connect(nasty.url, "p/"))
    nasty.behave(answering(page(keys)))
    with pytest.raises(StoreUnavailable):
        keys_of(root)


def test_a_missing_bucket_is_no_empty_one(connect: Connect) -> None:
    connection = connect()
    connection.bucket = "no-such-bucket"
    root = S3Root("test", connection)
    for call in (lambda: keys_of(root), lambda: root.head("k"), lambda: put(root, "k")):
        with pytest.raises(Misconfigured, match="bucket"):
            call()


def test_a_large_write_goes_on_with_its_parts(proxied: tuple[S3Root, Proxy]) -> None:
    root, proxy = proxied
    told: list[PartialWrite | None] = []
    stop = Cancellation()

    def checkpoint(partial: PartialWrite | None) -> None:
        told.append(partial)
        if partial is not None and len(partial.parts) == 2:
            stop.cancel(Interrupted("killed"))

    with pytest.raises(Interrupted):
        put(root, "k", LARGE, checkpoint=checkpoint, cancellation=stop)
    assert keys_of(root) == []
    known = told[-1]
    assert known is not None
    before = len(proxy.seen)
    written = put(root, "k", LARGE, resume=known, checkpoint=told.append)
    sent_again = {request.part for request in proxy.seen[before:] if request.part}
    assert not sent_again & set(known.parts)
    assert told[-1] is None
    assert content_of(root, "k", tag=written.tag) == LARGE
    assert written.checked


def test_parts_of_other_bytes_are_sent_anew(root: S3Root) -> None:
    known = begun(root, b"x" * len(LARGE))
    put(root, "k", LARGE, resume=known)
    assert content_of(root, "k") == LARGE


def test_an_upload_that_the_server_forgot_begins_anew(root: S3Root) -> None:
    known = begun(root, LARGE)
    root.abandon("k", known)
    root.abandon("k", known)
    told: list[PartialWrite | None] = []
    with pytest.raises(StoreUnavailable, match="anew"):
        put(root, "k", LARGE, resume=known, checkpoint=told.append)
    assert told == [None]


def begun(root: Root, content: bytes) -> PartialWrite:
    """A write that was stopped after its first parts."""
    told: list[PartialWrite] = []
    stop = Cancellation()

    def checkpoint(partial: PartialWrite | None) -> None:
        if partial is not None and partial.parts:
            told.append(partial)
            stop.cancel(Interrupted("killed"))

    with pytest.raises(Interrupted):
        put(root, "k", content, checkpoint=checkpoint, cancellation=stop)
    return told[-1]


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_a_write_whose_answer_was_lost_was_ours(proxied: tuple[S3Root, Proxy], size: int) -> None:
    root, proxy = proxied
    last = Fault(lambda request: request.puts_whole or request.completes, times=1, lose_answer=True)
    proxy.faults.append(last)
    written = put(root, "k", LARGE[:size], if_absent=True)
    assert content_of(root, "k", tag=written.tag) == LARGE[:size]
    with pytest.raises(ObjectExists):
        put(root, "k", LARGE[:size], if_absent=True)


def test_a_reading_that_breaks_goes_on_in_the_same_content(proxied: tuple[S3Root, Proxy]) -> None:
    root, proxy = proxied
    put(root, "k", LARGE)
    reads = Fault(lambda request: request.method == "GET", times=2, break_answer_after_bytes=1_000_000)
    proxy.faults.append(reads)
    assert content_of(root, "k", start=7) == LARGE[7:]
    proxy.faults.append(
        Fault(lambda request: request.method == "GET", times=1, break_answer_after_bytes=1_000_000)
    )
    with root.open("k") as opened:
        put(root, "k", b"other")
        with pytest.raises(SourceChanged):
            list(opened.chunks)


def test_where_a_server_ignores_conditions_it_is_asked_before(connect: Connect) -> None:
    connection = connect()

    def forget(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("If-None-Match", None)

    connection.client.meta.events.register("before-call.s3.PutObject", forget)
    root = S3Root("test", connection)
    put(root, "first", if_absent=True)
    put(root, "k", b"before", if_absent=True)
    with pytest.raises(ObjectExists):
        put(root, "k", b"after", if_absent=True)
    assert content_of(root, "k") == b"before"


def test_an_object_costs_one_request_each_way(proxied: tuple[S3Root, Proxy]) -> None:
    root, proxy = proxied
    put(root, "first", if_absent=True)
    before = len(proxy.seen)
    put(root, "k", b"12345", if_absent=True)
    assert content_of(root, "k") == b"12345"
    assert [request.method for request in proxy.seen[before:]] == ["PUT", "GET"]


@pytest.mark.usefixtures("connect")  # it makes the bucket
def test_the_settings_lead_to_a_bucket_and_a_wrong_secret_is_told_and_not_shown(services: Services) -> None:
    entry = services.up("s3")
    keys = {"endpoint_url": entry["endpoint"], "access_key_id": entry["access_key"]}
    settings = RootSettings(
        url="s3://objects/of", prefix="settings", secret_access_key=entry["secret_key"], **keys
    )
    put(open_root("archive", settings), "k", b"12345")
    above = open_root("archive", settings.model_copy(update={"prefix": ""}))
    assert keys_of(above) == ["settings/k"]
    wrong = open_root("archive", RootSettings(url="s3://objects/of", secret_access_key="hushhush", **keys))
    for call in (lambda: keys_of(wrong), lambda: put(wrong, "k")):
        with pytest.raises(AccessRefused, match=r"roots\.archive\.secret_access_key") as refused:
            call()
        assert "hushhush" not in str(refused.value)
