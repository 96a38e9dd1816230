"""A Medusa client gets the replies that it knows, to whatever it sends, and its own words come back unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dpn.jobs import medusa
from dpn.jobs.medusa import CopyAction, NoRequest, Summary, read_request

PARAMETERS = {"source_root": "archive", "source_key": "a/b c.txt", "target_root": "backup", "target_key": "x"}
REQUEST: dict[str, Any] = {"action": "copyto", "parameters": PARAMETERS, "pass_through": {"id": 1}}

WORDS = [
    '"x"', "0", "-0", "1.10", "1e400", "123456789012345678901234567890", "true", "[]", '""', '"\\ud800"',
    '{"b":1,"a":[ 1]}',
]  # fmt: skip


def body(**changes: Any) -> bytes:
    request = {**REQUEST, **changes}
    return json.dumps({name: value for name, value in request.items() if value is not ...}).encode()


def refusal(raw: bytes) -> dict[str, Any]:
    with pytest.raises(NoRequest) as refused:
        read_request(raw)
    reply = json.loads(refused.value.reply)
    assert reply["status"] == "failure"
    assert isinstance(reply, dict)
    return reply


def test_a_request_is_read_and_its_success_told() -> None:
    request = read_request(body())
    assert (request.action, request.source_root, request.source_key) == (CopyAction.COPYTO, "archive", "a/b c.txt")
    assert (request.target_root, request.target_key) == ("backup", "x")
    assert json.loads(medusa.success(request)) == {
        "status": "success",
        "action": "copyto",
        "parameters": PARAMETERS,
        "pass_through": {"id": 1},
        "rclone_status": 0,
    }


def test_a_tree_has_a_summary_beside_it() -> None:
    request = read_request(body(action="copy"))
    reply = json.loads(medusa.success(request, Summary(files=3, bytes=10, skipped=1, failed=0)))
    assert reply["summary"] == {"files": 3, "bytes": 10, "skipped": 1, "failed": 0}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"no JSON", b'{"a": NaN}', b"\xff\xfe", b'{"a": 1} x', b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_comes_back_as_raw_request(raw: bytes) -> None:
    reply = refusal(raw)
    assert reply == {
        "status": "failure",
        "message": "Invalid Request",
        "pass_through": {},
        "raw_request": raw.decode(errors="replace"),
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'"' + b"x" * (medusa.MAX_BODY_BYTES - 1) + b'"',
    ],
    ids=["lists", "objects", "number", "large"],
)
def test_what_would_take_too_much_is_answered_in_little(raw: bytes) -> None:
    reply = refusal(raw)
    assert reply["message"] == "Invalid Request"
    assert len(json.dumps(reply)) < medusa.MAX_BODY_BYTES


@pytest.mark.parametrize("raw", [b'"copyto"', b"[]", b"[1]", b"7", b"null", b"true", b"1.5"])
def test_json_that_is_no_object_is_no_action(raw: bytes) -> None:
    assert refusal(raw) == {
        "status": "failure",
        "action": None,
        "message": "Unrecognized CopyAction",
        "pass_through": {},
    }


@pytest.mark.parametrize("action", ["move", "", "COPYTO", None, 7, 1.5, ["copyto"], {"a": 1}, True])
def test_another_action_is_echoed(action: Any) -> None:
    assert refusal(body(action=action)) == {
        "status": "failure",
        "action": action,
        "message": "Unrecognized CopyAction",
        "pass_through": {"id": 1},
    }


def test_a_request_without_an_action_is_no_action() -> None:
    assert refusal(body(action=...))["action"] is None


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (..., ["parameters is missing"]),
        (None, ["parameters is missing"]),
        ([], ["parameters is no object"]),
        ({}, [f"parameters.{field} is missing" for field in medusa.FIELDS]),
        ({**PARAMETERS, "source_key": ""}, ["parameters.source_key is empty"]),
        ({**PARAMETERS, "target_root": 7}, ["parameters.target_root is no text"]),
        (
            {"source_root": None, "source_key": "a", "target_key": ""},
            [
                "parameters.source_root is no text",
                "parameters.target_root is missing",
                "parameters.target_key is empty",
            ],
        ),
    ],
)
def test_each_parameter_that_is_wrong_is_named_and_the_action_stays(parameters: Any, told: list[str]) -> None:
    reply = refusal(body(parameters=parameters))
    assert reply == {
        "status": "failure",
        "action": "copyto",
        "message": "Unknown failure: " + "; ".join(told),
        "pass_through": {"id": 1},
    }


@pytest.mark.parametrize("text", WORDS)
def test_what_is_passed_through_comes_back_in_its_own_words(text: str) -> None:
    raw = body(pass_through=...)[:-1] + f', "pass_through" : {text} }}'.encode()
    request = read_request(raw)
    for reply in (medusa.success(request), medusa.not_copied(request.echo, "no", rclone_status=1)):
        assert f'"pass_through": {text}' in reply


@pytest.mark.parametrize("value", [..., None, False])
def test_nothing_to_pass_through_is_an_empty_object(value: Any) -> None:
    assert json.loads(medusa.success(read_request(body(pass_through=value))))["pass_through"] == {}


def test_of_a_name_that_comes_twice_the_last_counts() -> None:
    raw = body()[:-1] + b', "action": "move"}'
    assert refusal(raw)["action"] == "move"


@pytest.mark.parametrize(("status", "shown"), [(1, 1), (5, 5), (None, None)])
def test_what_could_not_be_copied_says_why_with_its_status(status: int | None, shown: int | None) -> None:
    reply = json.loads(medusa.not_copied(read_request(body()).echo, "it is not there", rclone_status=status))
    assert reply == {
        "status": "failure",
        "action": "copyto",
        "message": "Unknown copying error: it is not there",
        "pass_through": {"id": 1},
        "rclone_status": shown,
    }


def test_an_unknown_root_and_an_unfit_key_name_their_field_and_nothing_of_ours() -> None:
    echo = read_request(body()).echo
    unknown = json.loads(medusa.unknown_root(echo, "target_root"))
    assert unknown["message"] == "Unrecognized root was provided. See target_root."
    assert set(unknown) == {"status", "action", "message", "pass_through"}
    unfit = json.loads(medusa.unfit_key(echo, "source_key", "it has a part '..'"))
    assert unfit["message"] == "Unknown failure: parameters.source_key: it has a part '..'"


def test_a_message_is_one_bounded_line() -> None:
    reply = json.loads(
        medusa.not_copied(read_request(body()).echo, "a\nb\x1b[31m" + "x" * 10_000, rclone_status=1)
    )
    assert reply["message"].isprintable()
    assert len(reply["message"]) <= medusa.MAX_MESSAGE_CHARACTERS
