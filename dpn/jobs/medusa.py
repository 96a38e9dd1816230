"""Requests and replies as the clients of the Medusa copier send and expect them: pure.

A request is a JSON object with `action`, `parameters` (four texts) and, if its client wishes, `pass_through`,
which comes back as it was. Whatever else comes is answered, too. No text of ours says anything of our settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dpn.jobs import raw_json
from dpn.jobs.raw_json import NotJson, RawValue
from dpn.text import replaced

MAX_BODY_BYTES = 256 * 1024
MAX_RAW_CHARACTERS = 32 * 1024
"""Of a request that cannot be read, how much is sent back: written as JSON it fits into any queue's message."""
MAX_MESSAGE_CHARACTERS = 4096

INVALID = "Invalid Request"
UNRECOGNIZED_ACTION = "Unrecognized CopyAction"
UNRECOGNIZED_ROOT = "Unrecognized root was provided."
COPYING_ERROR = "Unknown copying error: "
UNKNOWN_FAILURE = "Unknown failure"

NOTHING = "{}"
FIELDS = ("source_root", "source_key", "target_root", "target_key")


class CopyAction(StrEnum):
    """What may be asked for."""

    COPYTO = "copyto"
    """One object; of a folder its content, as rclone does."""
    COPY = "copy"
    """What lies below a prefix."""


@dataclass(frozen=True)
class Echo:
    """What of a request every reply to it repeats, in the words in which it came."""

    action: str | None
    """JSON; None if there is nothing to repeat."""
    pass_through: str = NOTHING
    """JSON."""


@dataclass(frozen=True)
class CopyRequest:
    """What was asked for. Its roots may be unknown, its keys may be none."""

    echo: Echo
    action: CopyAction
    parameters: str
    """JSON of the four, as they came."""
    source_root: str
    source_key: str
    target_root: str
    target_key: str


@dataclass(frozen=True)
class Summary:
    """How a tree went."""

    files: int
    bytes: int
    skipped: int
    failed: int


class NoRequest(Exception):
    """The request cannot be what it must be; `reply` is to be sent."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


def read_request(body: bytes) -> CopyRequest:
    """What a message asks for. Raises NoRequest, for whatever is no request."""
    if len(body) > MAX_BODY_BYTES:
        raise NoRequest(_invalid(body[: 4 * MAX_RAW_CHARACTERS]))
    try:
        text = body.decode()
        request = raw_json.read(text)
    except (UnicodeDecodeError, NotJson):
        raise NoRequest(_invalid(body)) from None
    if not isinstance(request.value, dict):
        raise NoRequest(failure(Echo("null"), UNRECOGNIZED_ACTION))
    fields = raw_json.members(text)
    echo = Echo(fields["action"].text if "action" in fields else "null", _pass_through(fields.get("pass_through")))
    action = fields["action"].value if "action" in fields else None
    if not isinstance(action, str) or action not in list(CopyAction):
        raise NoRequest(failure(echo, UNRECOGNIZED_ACTION))
    given = fields.get("parameters")
    wrong = _wrong_parameters(None if given is None else given.value)
    if given is None or wrong:
        raise NoRequest(failure(echo, f"{UNKNOWN_FAILURE}: {'; '.join(wrong)}"))
    named = {field: given.value[field] for field in FIELDS}
    return CopyRequest(echo, CopyAction(action), _members_as_they_came(given), **named)


def success(request: CopyRequest, summary: Summary | None = None) -> str:
    """The reply to what was copied, or needed no copying; with the summary of a tree."""
    return _reply(
        status='"success"',
        action=request.echo.action,
        parameters=request.parameters,
        pass_through=request.echo.pass_through,
        rclone_status="0",
        summary=None if summary is None else json.dumps(vars(summary)),
    )


def unknown_root(echo: Echo, field: str) -> str:
    """The reply to a request that names a root that is not there for whoever asks: which one, it knows itself."""
    return failure(echo, f"{UNRECOGNIZED_ROOT} See {field}.")


def unfit_key(echo: Echo, field: str, fault: str) -> str:
    """The reply to a request with a key that no object may have."""
    return failure(echo, f"{UNKNOWN_FAILURE}: parameters.{field}: {fault}")


def not_copied(echo: Echo, why: str, *, rclone_status: int | None, summary: Summary | None = None) -> str:
    """The reply to what could not be copied; without a status if whoever copied was killed."""
    return failure(
        echo,
        COPYING_ERROR + why,
        rclone_status="null" if rclone_status is None else str(rclone_status),
        summary=None if summary is None else json.dumps(vars(summary)),
    )


def failure(echo: Echo, message: str, **further: str | None) -> str:
    """A reply that says why there is no copy. `further` fields are JSON, None for none."""
    told = json.dumps(replaced(message.replace("\n", " "), "\N{REPLACEMENT CHARACTER}")[:MAX_MESSAGE_CHARACTERS])
    return _reply(status='"failure"', action=echo.action, message=told, pass_through=echo.pass_through, **further)


def _invalid(body: bytes) -> str:
    raw = body.decode(errors="replace")[:MAX_RAW_CHARACTERS]
    return failure(Echo(None), INVALID, raw_request=json.dumps(raw))


def _pass_through(given: RawValue | None) -> str:
    return NOTHING if given is None or given.value is None or given.value is False else given.text


def _wrong_parameters(given: Any) -> list[str]:
    """What is wrong with each of the four, in words."""
    if not isinstance(given, Mapping):
        return ["parameters is missing" if given is None else "parameters is no object"]
    wrong = []
    for field in FIELDS:
        value = given.get(field)
        if field not in given:
            wrong.append(f"parameters.{field} is missing")
        elif not isinstance(value, str):
            wrong.append(f"parameters.{field} is no text")
        elif not value:
            wrong.append(f"parameters.{field} is empty")
    return wrong


def _members_as_they_came(parameters: RawValue) -> str:
    came = raw_json.members(parameters.text)
    return "{" + ", ".join(f'"{field}": {came[field].text}' for field in FIELDS) + "}"


def _reply(**fields: str | None) -> str:
    return "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items() if text is not None) + "}"
