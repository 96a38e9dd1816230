"""Writes settings as TOML, in the order given: plain values of a table first, its tables below."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = "str | int | float | Path | list[Value] | dict[str, Value]"
Table: TypeAlias = "dict[str, Value]"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def to_toml(table: Mapping[str, Value]) -> str:
    """The TOML document that holds `table`."""
    return "\n".join(_lines(table, ())).strip() + "\n"


def merged(base: Mapping[str, Value], over: Mapping[str, Value]) -> Table:
    """`base` with the values of `over` in it; tables in both are merged, anything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _lines(table: Mapping[str, Value], path: tuple[str, ...]) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if path and (plain or not table):
        yield ""
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, below in table.items():
        if isinstance(below, dict):
            yield from _lines(below, (*path, key))


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _text(key)


def _value(value: Value) -> str:
    match value:
        case str() | Path():
            return _text(str(value))
        case list():
            return f"[{', '.join(_value(part) for part in value)}]"
        case dict():
            return f"{{ {', '.join(f'{_key(key)} = {_value(part)}' for key, part in value.items())} }}"
        case bool():
            return "true" if value else "false"
        case _:
            return repr(value)


def _text(text: str) -> str:
    """A basic string. JSON escapes what TOML wants escaped, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
