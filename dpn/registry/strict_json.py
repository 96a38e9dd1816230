"""Reads JSON that strangers sent: strictly UTF-8 and RFC 8259, with what is ambiguous in it made visible.

Python's parser takes `NaN`, keeps the last of two equal keys, and nests as deep as its stack allows. Here the
first two are flaws that `flaw_of` names, so that one bad row of a list need not spoil the others; only what cannot
be read at all, or would fill our memory, raises. Time and memory grow as the text does.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

MAX_DEPTH = 16
"""Containers within containers. The deepest that the protocol has (a node's storage in a page of a list) is 4."""

MAX_VALUES = 500_000
"""Of one text. A page of 100 bags that each list a thousand nodes, rights and interpretive bags has 300,000; 16 MB
of brackets would become hundreds of MB of objects."""

STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""One that nothing ends goes to the end of the text, so that none is looked at twice."""

FLAWLESS = frozenset({str, int, bool, type(None)})
FLAWLESS_OR_LIST = FLAWLESS | {list}


class BrokenJson(ValueError):
    """The text is not JSON; says where."""


class AmbiguousObject(dict[str, Any]):
    """An object in which a key stood twice: two readers could see two different records."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        times = Counter(name for name, _ in pairs)
        self.repeated = next(name for name, number in times.items() if number > 1)


def parse(text: bytes) -> Any:
    """The value in `text`. Raises BrokenJson; call `flaw_of` on the part of it that is used."""
    if _marks(text) > MAX_VALUES and _marks(STRING.sub(b"", text)) > MAX_VALUES:
        raise BrokenJson(f"of more than {MAX_VALUES} values")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise BrokenJson(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BrokenJson("nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise BrokenJson(f"not JSON: {error}") from error


def _marks(text: bytes) -> int:
    """How many values there are at most: commas and containers, and what looks like them in strings."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def flaw_of(value: Any) -> str | None:
    """What no careful reader would accept in `value`: a repeated key, NaN or an infinity, too deep nesting."""
    return None if _is_plain(value) else _search(value)


def _is_plain(value: Any) -> bool:
    """Whether it is an object of texts, whole numbers, flags and lists of them, as nearly all records are."""
    if type(value) is not dict:
        return False
    types = set(map(type, value.values()))
    return types <= FLAWLESS or (
        types <= FLAWLESS_OR_LIST
        and all(FLAWLESS.issuperset(map(type, part)) for part in value.values() if type(part) is list)
    )


def _search(value: Any) -> str | None:
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        match part:
            case float() if not math.isfinite(part):
                return "a number that JSON does not have"
            case dict() | list() if depth > MAX_DEPTH:
                return f"nested more than {MAX_DEPTH} deep"
            case AmbiguousObject():
                return f"the key {part.repeated[:80]!r} stands twice"
            case dict():
                waiting.extend((inner, depth + 1) for inner in part.values())
            case list():
                waiting.extend((inner, depth + 1) for inner in part)
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else AmbiguousObject(pairs)
