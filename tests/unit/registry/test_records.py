"""The records' wire form: what is taken, what is not, and what is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.registry.records import (
    BagRecord,
    DigestRecord,
    InvalidRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    why_cancelled,
)
from dpn.registry.wire import format_instant, parse_flag, parse_instant
from dpn.text import is_text
from tests.fixtures.records import DIGEST, a_bag, a_digest, a_node, a_transfer, uuid

FIELDS: dict[type[Record], str] = {
    ReplicationRecord: "replication_id bag from_node to_node fixity_algorithm fixity_nonce fixity_value protocol "
    "link store_requested stored cancelled cancel_reason cancel_reason_detail created_at updated_at",
    BagRecord: "uuid local_id member size first_version_uuid version bag_type rights interpretive ingest_node "
    "admin_node replicating_nodes created_at updated_at",
    DigestRecord: "bag algorithm node value created_at",
    MemberRecord: "member_id name email created_at updated_at",
    NodeRecord: "name namespace api_root ssh_pubkey replicate_from replicate_to restore_from restore_to protocols "
    "fixity_algorithms storage created_at updated_at",
}
"""Reference, section 9: the wire shapes, complete."""

ONE_OF_EACH: list[Record] = [a_transfer(), a_bag(), a_digest(), a_node()]


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_exactly_the_specified_fields_are_sent(record: Record) -> None:
    assert set(record.to_wire()) == set(FIELDS[type(record)].split())


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_what_is_sent_is_read_back_as_it_was(record: Record) -> None:
    assert type(record).from_wire(json.loads(json.dumps(record.to_wire()))) == record


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_unknown_fields_are_ignored(record: Record) -> None:
    assert type(record).from_wire(record.to_wire() | {"last_pull_date": None, "fixity_checks": [1]}) == record


def test_fields_that_older_clients_do_not_know_may_be_missing() -> None:
    wire = a_transfer().to_wire()
    for name in ("cancel_reason", "cancel_reason_detail", "fixity_nonce", "fixity_value", "stored"):
        del wire[name]
    assert ReplicationRecord.from_wire(wire) == a_transfer()
    wire = a_bag(replicating_nodes=()).to_wire()
    for name in ("rights", "interpretive", "replicating_nodes"):
        wire[name] = None
    assert BagRecord.from_wire(wire) == a_bag(replicating_nodes=())


def test_ids_namespaces_and_digests_are_lower_case_whatever_was_sent() -> None:
    wire = {
        name: value.upper() if isinstance(value, str) else value for name, value in a_digest().to_wire().items()
    }
    assert DigestRecord.from_wire(wire | {"algorithm": "sha256"}) == a_digest()


def test_lists_have_each_entry_once_in_one_order() -> None:
    wire = a_bag().to_wire() | {"replicating_nodes": ["West", "north", "west"]}
    assert BagRecord.from_wire(wire).replicating_nodes == ("north", "west")


@pytest.mark.parametrize(
    "text",
    [
        "2015-09-15T19:38:31Z",
        "2015-09-15T19:38:31.562Z",
        "2015-09-15T19:38:31.562123456Z",
        "2015-09-15T21:38:31+02:00",
        "2015-09-15t19:38:31z",
        "2015-09-15 19:38:31+00:00",
    ],
)
def test_times_are_taken_in_both_forms_and_sent_in_one(text: str) -> None:
    instant = parse_instant(text)
    assert instant == datetime(2015, 9, 15, 19, 38, 31, tzinfo=UTC)
    assert format_instant(instant) == "2015-09-15T19:38:31Z"


@pytest.mark.parametrize(
    "value",
    [
        "2015-09-15T19:38:31",  # whose time?
        "2015-09-15",
        "2015-13-15T19:38:31Z",
        "2015-09-15T19:38:31Z ",
        "0001-01-01T00:00:00Z",  # a database session west of Greenwich cannot read this back
        "9999-12-31T23:59:59Z",
        "",
        1442345911,
        None,
        True,
        datetime(2015, 9, 15),  # noqa: DTZ001
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (several texts)
        parse_instant(value)


@given(st.datetimes(min_value=datetime(1901, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_stored_time_never_exceeds_its_own_wire_form(instant: datetime) -> None:
    once = parse_instant(instant)
    assert parse_instant(format_instant(once)) == once <= instant


@pytest.mark.parametrize("word", [True, 1, "true", "T", "yes", "Y", "1"])
def test_true_in_all_its_spellings(word: object) -> None:
    assert parse_flag(word) is True


@pytest.mark.parametrize("word", [False, 0, "false", "F", "no", "N", "0"])
def test_false_in_all_its_spellings(word: object) -> None:
    assert parse_flag(word) is False


@pytest.mark.parametrize("word", ["", "maybe", 2, -1, 1.0, None, [], "truely"])
def test_a_word_that_is_no_boolean_is_refused(word: object) -> None:
    with pytest.raises(ValueError, match="boolean"):
        parse_flag(word)


BAD_BAG_FIELDS: list[tuple[str, Any]] = [
    ("uuid", "../../etc/passwd"),
    ("uuid", "0000000000004000a000000000000001"),
    ("uuid", uuid(1) + "\n"),
    ("uuid", None),
    ("uuid", 7),
    ("local_id", ""),
    ("local_id", "a\x00b"),
    ("local_id", "a\nb"),
    ("local_id", "\ud800"),
    ("local_id", "x" * 1025),
    ("size", 0),
    ("size", -1),
    ("size", True),
    ("size", 1.5),
    ("size", "1048576"),
    ("size", 2**63),
    ("version", 0),
    ("bag_type", "X"),
    ("bag_type", "data"),
    ("ingest_node", "-oProxyCommand=x"),
    ("ingest_node", "no rth"),
    ("ingest_node", "x" * 65),
    ("admin_node", ""),
    ("member", "not-a-member"),
    ("rights", "a"),
    ("rights", ["a"]),
    ("rights", [None]),
    ("interpretive", {}),
    ("replicating_nodes", ["north", 1]),
    ("replicating_nodes", [f"n{i}" for i in range(1001)]),
    ("created_at", "yesterday"),
    ("updated_at", None),
]


@pytest.mark.parametrize(("field", "value"), BAD_BAG_FIELDS)
def test_a_bag_with_a_bad_field_is_refused_by_the_name_of_that_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRecord) as refusal:
        BagRecord.from_wire(a_bag().to_wire() | {field: value})
    assert [problem.partition(":")[0] for problem in refusal.value.problems] == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", DIGEST[:-1]),
        ("value", DIGEST[:-1] + "g"),
        ("value", DIGEST + "\n"),
        ("algorithm", "md5"),
        ("bag", "x"),
    ],
)
def test_a_digest_that_is_none_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidRecord, match=field):
        DigestRecord.from_wire(a_digest().to_wire() | {field: value})


@pytest.mark.parametrize(
    "api_root", ["", "ftp://x", "https://", "http://[::1", "https://x:99999", "javascript:alert(1)"]
)
def test_an_address_that_cannot_be_called_is_refused(api_root: str) -> None:
    with pytest.raises(InvalidRecord, match="api_root"):
        NodeRecord.from_wire(a_node().to_wire() | {"api_root": api_root})


@pytest.mark.parametrize("value", [None, [], "text", 7, True])
def test_what_is_no_object_is_no_record(value: object) -> None:
    with pytest.raises(InvalidRecord, match="object"):
        BagRecord.from_wire(value)


def test_a_changed_record_is_checked_like_one_from_outside() -> None:
    assert a_transfer().change(fixity_value=DIGEST.upper()).fixity_value == DIGEST
    with pytest.raises(ValueError, match="link"):
        a_transfer().change(link="")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(FIELDS[ReplicationRecord].split()), JSON_VALUES))
def test_whatever_is_sent_is_a_record_or_an_invalid_record(damage: dict[str, Any]) -> None:
    try:
        record = ReplicationRecord.from_wire(a_transfer().to_wire() | damage)
    except InvalidRecord:
        return
    json.dumps(record.to_wire()).encode()
    assert ReplicationRecord.from_wire(record.to_wire()) == record


def test_the_reason_of_a_peer_is_one_line_that_no_terminal_obeys() -> None:
    reason = {
        "cancelled": True,
        "cancel_reason": "\x1b]0;owned\x07\r\n",
        "cancel_reason_detail": "a\u202eb\nitem 7 stored",
    }
    said = why_cancelled(a_transfer(1).change(**reason))
    assert is_text(said)
    assert said.endswith("a b item 7 stored")
