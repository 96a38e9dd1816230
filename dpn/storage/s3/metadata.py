"""User metadata of an object: any text in, only harmless ASCII in the HTTP headers, the same text out.

Values are percent-encoded (RFC 3986 §2.1, UTF-8): letters, digits and `-._~:/@+,=` stand for themselves, all else,
spaces and `%` too, is escaped, so that no proxy folds blanks, cuts lines or guesses a charset. A value that would
not fit is cut at a character's border and ends in `…` (`%E2%80%A6`). Names and values together stay within the
2,048 bytes that S3 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

MAX_TOTAL_BYTES = 2048
"""Sum of names and values (Amazon S3: User-defined object metadata)."""
MAX_VALUE_BYTES = 256
_PLAIN = "-._~:/@+,="
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_CUT = quote("…")


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Header-safe values for `metadata`. Raises ValueError for a name that is not lower-case ASCII."""
    for name in metadata:
        if not _NAME.match(name):
            raise ValueError(f"metadata name {name!r}: lower-case letters, digits, '-' and '_'")
    room = (MAX_TOTAL_BYTES - sum(map(len, metadata))) // max(1, len(metadata))
    if room < len(_CUT):
        raise ValueError(f"{len(metadata)} metadata names leave no room for values in {MAX_TOTAL_BYTES} bytes")
    return {name: _encode(value, min(room, MAX_VALUE_BYTES)) for name, value in metadata.items()}


def decode_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """The texts that `encode_metadata` was given, but for those it had to cut."""
    return {name.lower(): unquote(value, errors="replace") for name, value in headers.items()}


def _encode(value: str, room: int) -> str:
    # Every character takes a byte at least: what lies beyond is cut anyway, however long the value is.
    encoded = [quote(character, safe=_PLAIN, errors="replace") for character in value[: room + 1]]
    if sum(map(len, encoded)) <= room:
        return "".join(encoded)
    room -= len(_CUT)
    kept: list[str] = []
    for character in encoded:
        room -= len(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + _CUT
