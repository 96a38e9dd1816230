"""JSON of which parts are handed on as they came: no number is rounded, no text written in another way."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_BLANK = re.compile(r"[ \t\n\r]*")


class RawValue(NamedTuple):
    """A value, and the text that it was written in."""

    value: Any
    text: str


class NotJson(ValueError):
    """The text is no JSON, or none that we read: nested too deeply, with numbers of thousands of digits."""


def read(text: str) -> RawValue:
    """The one value that the text is. Raises NotJson."""
    start = _skip(text, 0)
    value, end = _decode(text, start)
    if _skip(text, end) != len(text):
        raise NotJson(f"something follows the value, at character {end}")
    return RawValue(value, text[start:end])


def members(text: str) -> dict[str, RawValue]:
    """The members of an object in a text that `read` has accepted. Of a name that comes twice the last counts."""
    found: dict[str, RawValue] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = _decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        value, end = _decode(text, start)
        found[name] = RawValue(value, text[start:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return at if match is None else match.end()


def _decode(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError as error:
        raise NotJson("it is nested too deeply") from error
    except ValueError as error:
        raise NotJson(str(error)) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
