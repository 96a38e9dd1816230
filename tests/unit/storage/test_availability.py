"""What a store's words about an archived object come to, whatever it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.storage.availability import (
    COLD_CLASSES,
    INSTANT_CLASSES,
    RestoreHeader,
    availability_of,
    needs_no_request,
    parse_restore,
    refused_beforehand,
)
from dpn.storage.stored_object import StoredObject

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ONGOING = 'ongoing-request="true"'
TOMORROW = 'ongoing-request="false", expiry-date="Thu, 05 Mar 2026 00:00:00 GMT"'
YESTERDAY = 'ongoing-request="false", expiry-date="Tue, 03 Mar 2026 00:00:00 GMT"'


def stored(storage_class: str, restore: str | None = None, archive_status: str | None = None) -> StoredObject:
    return StoredObject(
        "x.tar", 7, NOW, storage_class=storage_class, restore=restore, archive_status=archive_status
    )


@pytest.mark.parametrize(
    ("storage_class", "restore", "archive_status", "state"),
    [
        ("STANDARD", None, None, "available"),
        ("STANDARD_IA", None, None, "available"),
        ("GLACIER_IR", None, None, "available"),
        ("GLACIER_IR", ONGOING, None, "available"),
        ("GLACIER", None, None, "cold"),
        ("GLACIER", ONGOING, None, "restoring"),
        ("GLACIER", TOMORROW, None, "available"),
        ("GLACIER", YESTERDAY, None, "cold"),
        ("GLACIER", 'ongoing-request="false"', None, "available"),
        ("DEEP_ARCHIVE", None, None, "cold"),
        ("DEEP_ARCHIVE", ONGOING, None, "restoring"),
        ("DEEP_ARCHIVE", TOMORROW, None, "available"),
        ("DEEP_ARCHIVE", YESTERDAY, None, "cold"),
        ("INTELLIGENT_TIERING", None, None, "available"),
        ("INTELLIGENT_TIERING", None, "ARCHIVE_ACCESS", "cold"),
        ("INTELLIGENT_TIERING", None, "DEEP_ARCHIVE_ACCESS", "cold"),
        ("INTELLIGENT_TIERING", ONGOING, "ARCHIVE_ACCESS", "restoring"),
        ("INTELLIGENT_TIERING", ONGOING, "DEEP_ARCHIVE_ACCESS", "restoring"),
        ("A_CLASS_OF_TOMORROW", None, None, "available"),
        ("A_CLASS_OF_TOMORROW", ONGOING, None, "restoring"),
    ],
)
def test_every_class_and_header_that_s3_knows_has_one_meaning(
    storage_class: str, restore: str | None, archive_status: str | None, state: str
) -> None:
    found = availability_of(stored(storage_class, restore, archive_status), NOW)

    assert found.state == state
    assert found.storage_class == storage_class
    assert found.why.startswith(storage_class)


def test_a_restored_object_is_available_until_its_date_and_cold_from_then_on() -> None:
    until = datetime(2026, 3, 5, tzinfo=UTC)
    archived = stored("GLACIER", TOMORROW)

    assert availability_of(archived, until - timedelta(seconds=1)).until == until
    assert availability_of(archived, until).state == "cold"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        'ongoing-request="maybe"',
        "ongoing-request=true",
        'x-ongoing-request="false"',
        'ongoing-request="true"' + " " * 300,
        'ongoing-request="false", expiry-date="Thu, 05 Mar 2026 00:00:00 GMT',
        'ongoing-request="false", expiry-date="Thu, 05 Mar 2026 00:00:00 +0000"',
        'ongoing-request="false", expiry-date="Thu, 32 Mar 2026 00:00:00 GMT"',
        'ongoing-request="false", expiry-date="Thu, 05 Mar 9999999 00:00:00 GMT"',
        'ongoing-request="false", expiry-date="Thu, ٠٥ Mar 2026 00:00:00 GMT"',
        'ongoing-request="false", expiry-date="tomorrow"',
        'ongoing-request="false", expiry-date=""',
    ],
)
def test_a_header_that_makes_no_sense_never_makes_a_cold_object_readable(header: str) -> None:
    found = availability_of(stored("DEEP_ARCHIVE", header), NOW)

    assert found.state == "cold"
    assert found.why.isprintable()


@given(st.text(max_size=300), st.sampled_from(sorted(COLD_CLASSES)))
def test_no_header_can_break_the_parser(header: str, storage_class: str) -> None:
    found = availability_of(stored(storage_class, header), NOW)

    assert found.why.isprintable()
    assert found.state in ("cold", "available", "restoring")


@given(st.datetimes(*(NOW.replace(year=year, tzinfo=None) for year in (1970, 9000))))
def test_every_date_that_s3_may_send_is_read_to_the_second(moment: datetime) -> None:
    at = moment.replace(microsecond=0, tzinfo=UTC)
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    text = f"{days[at.weekday()]}, {at.day:02} {months[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"

    assert parse_restore(f'ongoing-request="false", expiry-date="{text}"') == RestoreHeader(
        ongoing=False, expires_at=at
    )


@pytest.mark.parametrize(
    ("storage_class", "archive_status", "refused"),
    [
        ("GLACIER", None, False),
        ("DEEP_ARCHIVE", None, True),
        ("INTELLIGENT_TIERING", "ARCHIVE_ACCESS", False),
        ("INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS", True),
    ],
)
def test_what_no_store_offers_is_not_asked_for(storage_class: str, archive_status: str, refused: bool) -> None:
    cold = availability_of(stored(storage_class, None, archive_status), NOW)

    assert bool(refused_beforehand(cold, "Expedited")) == refused
    assert refused_beforehand(cold, "Bulk") is None


@pytest.mark.parametrize(
    ("archived", "days", "none_needed"),
    [
        (stored("GLACIER", TOMORROW), 3, False),
        (stored("GLACIER", 'ongoing-request="false", expiry-date="Sun, 08 Mar 2026 00:00:00 GMT"'), 3, True),
        (stored("GLACIER", YESTERDAY), 3, False),
        (stored("GLACIER", ONGOING), 3, False),
        (stored("INTELLIGENT_TIERING"), 3, True),
        (stored("A_CLASS_OF_TOMORROW"), 3, False),
        *((stored(name), 3, True) for name in sorted(INSTANT_CLASSES)),
    ],
)
def test_a_request_is_spared_only_where_the_object_stays_readable_long_enough(
    archived: Any, days: int, none_needed: bool
) -> None:
    assert needs_no_request(availability_of(archived, NOW), days, NOW) == none_needed
