"""What a server lists comes page by page, all of it, in no more memory than a page; and a listing ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from dpn.errors import StoreUnavailable
from dpn.s3.connection import Connection
from dpn.s3.pages import list_objects, list_parts, list_uploads
from tests.fixtures.nasty.store import (
    Behaviour,
    NastyStore,
    answering,
    page,
    parts_page,
    telling,
    uploads_page,
)
from tests.services.s3.conftest import connect

KEYS = ["a", "b/c", "b-c", "b.c", "é", "日本/x", "with blank", "+plus&amp;", "%41", "A"]
PAGES = 100
"""Without news, as many as are borne."""


def parts_of(connection: Connection) -> Iterable[Any]:
    return list_parts(connection, "p/x.tar", "id")


ENDLESS: dict[str, tuple[Callable[[Connection], Iterable[Any]], Behaviour, str]] = {
    "objects, the same page": (list_objects, answering(page(["p/a"], more="t")), "where it was before"),
    "objects, two pages in turn": (
        list_objects,
        telling(lambda asked: page([f"p/{asked.number % 2}"], more=f"t{asked.number % 2}")),
        "nothing new",
    ),
    "objects, the same under ever new tokens": (
        list_objects,
        telling(lambda asked: page(["p/a", "p/b"], more=f"t{asked.number}")),
        "nothing new",
    ),
    "objects, ever further back": (
        list_objects,
        telling(lambda asked: page([f"p/{10_000 - asked.number}"], more=f"t{asked.number}")),
        "nothing new",
    ),
    "objects, none": (list_objects, telling(lambda asked: page([], more=f"t{asked.number}")), "nothing new"),
    "objects, more of which nobody knows where": (
        list_objects,
        answering(page(["p/a"], truncated=True)),
        "not where",
    ),
    "uploads, the same page": (
        list_uploads,
        answering(uploads_page([("p/a", "1")], more=("p/a", "1"))),
        "where it was before",
    ),
    "uploads, ever further back": (
        list_uploads,
        telling(
            lambda asked: uploads_page([(f"p/{10_000 - asked.number}", "1")], more=(f"p/{asked.number}", "1"))
        ),
        "nothing new",
    ),
    "uploads, ever new ones of one key": (
        list_uploads,
        telling(lambda asked: uploads_page([("p/a", str(asked.number))], more=("p/a", str(asked.number)))),
        "where it was before",
    ),
    "uploads, none": (
        list_uploads,
        telling(lambda asked: uploads_page([], more=(f"p/{asked.number}", "1"))),
        "nothing new",
    ),
    "parts, the same page": (parts_of, answering(parts_page([1], more=1)), "where it was before"),
    "parts, two pages in turn": (
        parts_of,
        telling(lambda asked: parts_page([1 + asked.number % 2], more=1 + asked.number % 2)),
        "nothing new",
    ),
    "parts, none": (parts_of, telling(lambda asked: parts_page([], more=asked.number + 1)), "nothing new"),
}


@pytest.mark.parametrize(("listing", "behaviour", "why"), ENDLESS.values(), ids=ENDLESS)
def test_a_listing_whose_pages_bring_nothing_new_is_broken_off(
    nasty: NastyStore, listing: Callable[[Connection], Iterable[Any]], behaviour: Behaviour, why: str
) -> None:
    nasty.behave(behaviour)
    with pytest.raises(StoreUnavailable, match=f"{why}.*never end"):
        sum(1 for _ in listing(connect(nasty.url)))
    assert len(nasty.seen) <= PAGES + 3


def test_some_empty_pages_are_borne(nasty: NastyStore) -> None:
    """Some servers answer with them where much was deleted."""
    nasty.behave(telling(lambda asked: page([], more=f"t{asked.number}")), times=50)
    nasty.behave(answering(page(["p/a"])))
    assert [one.key for one in list_objects(connect(nasty.url))] == ["a"]


@pytest.mark.parametrize(
    ("listing", "xml"),
    [
        (list_objects, page(["elsewhere/a"])),
        (list_uploads, uploads_page([("elsewhere/a", "1")])),
        (list_uploads, uploads_page([("p/a", "1")], begun="yesterday")),
        (list_uploads, uploads_page([("p/a", "1")], begun="0001-01-01T00:00:00+23:00")),
        (parts_of, parts_page([-1])),
        (parts_of, parts_page([10**30])),
    ],
)
def test_a_row_that_no_server_would_list_is_refused(nasty: NastyStore, listing: Any, xml: str) -> None:
    nasty.behave(answering(xml))
    with pytest.raises(StoreUnavailable):
        list(listing(connect(nasty.url)))


def test_a_page_is_asked_for_once_the_one_before_it_is_used_up(nasty: NastyStore) -> None:
    nasty.behave(
        telling(lambda asked: page([f"p/{asked.number:06}-{row}" for row in range(10)], more=f"t{asked.number}"))
    )
    objects = list_objects(connect(nasty.url))
    assert len(list(islice(objects, 10))) == 10
    assert len(nasty.seen) == 1
    next(objects)
    assert len(nasty.seen) == 2


def test_times_are_utc_whatever_the_server_thinks_of_zones(nasty: NastyStore) -> None:
    for text in ("2020-01-01T10:00:00", "2020-01-01T12:00:00+02:00", "2020-01-01T10:00:00.000Z"):
        nasty.behave(answering(uploads_page([("p/a", "1")], begun=text)), times=1)
        (upload,) = list_uploads(connect(nasty.url))
        assert upload.begun_at == datetime(2020, 1, 1, 10, tzinfo=UTC)


class TestVersitygw:
    """A real server, a page a row or two."""

    @pytest.fixture(autouse=True, params=[1, 3, 1000])
    def _rows(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dpn.s3.pages.ROWS_PER_PAGE", request.param)

    def test_lists_every_object_under_the_prefix_and_no_other(self, versitygw: Connection) -> None:
        client, bucket = versitygw.client, versitygw.bucket
        for key in [*(f"p/{key}" for key in KEYS), "p-", "o/a", "q/a"]:
            client.put_object(Bucket=bucket, Key=key, Body=b"12")

        listed = list(list_objects(versitygw))

        assert [one.key for one in listed] == sorted(KEYS, key=str.encode)
        assert {one.size for one in listed} == {2}

    def test_lists_every_upload_although_those_before_are_gone(self, versitygw: Connection) -> None:
        client, bucket = versitygw.client, versitygw.bucket
        client.create_multipart_upload(Bucket=bucket, Key="o/a")
        begun = {
            client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
            for key in ("p/a", "p/b", "p/c", "p/d")
        }

        seen = set()
        for upload in list_uploads(versitygw):
            seen.add(upload.upload_id)
            client.abort_multipart_upload(Bucket=bucket, Key=f"p/{upload.key}", UploadId=upload.upload_id)

        assert seen == begun
        assert list(list_uploads(versitygw)) == []

    def test_lists_what_one_key_has_too_many_of_when_the_others_are_gone(self, versitygw: Connection) -> None:
        client, bucket = versitygw.client, versitygw.bucket
        for key in ("p/a", "p/a", "p/a", "p/a", "p/b"):
            client.create_multipart_upload(Bucket=bucket, Key=key)

        goes = 0
        while uploads := list(list_uploads(versitygw)):
            goes += 1
            for upload in uploads:
                client.abort_multipart_upload(Bucket=bucket, Key=f"p/{upload.key}", UploadId=upload.upload_id)

        assert goes <= 4

    def test_lists_every_part(self, versitygw: Connection) -> None:
        client, bucket = versitygw.client, versitygw.bucket
        upload: Any = {"Bucket": bucket, "Key": "p/x"}
        upload["UploadId"] = client.create_multipart_upload(**upload, ChecksumAlgorithm="SHA256")["UploadId"]
        for number in (1, 2, 3, 5, 8):
            client.upload_part(**upload, PartNumber=number, Body=bytes(number), ChecksumAlgorithm="SHA256")

        parts = list(list_parts(versitygw, "p/x", upload["UploadId"]))

        assert [(part.number, part.size) for part in parts] == [(1, 1), (2, 2), (3, 3), (5, 5), (8, 8)]
        assert all(part.sha256 for part in parts)
