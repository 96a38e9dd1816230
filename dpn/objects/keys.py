"""The one rule for keys: which names an object may have, wherever they come from. Pure.

A key is the UTF-8 name of an object within its root: parts with a slash between, none of them empty, `.` or `..`.
The same holds for what somebody asks for and for what a store lists: a key that passes leads nowhere out of a
root, needs no escaping in a log, and means the same object in a folder and in a bucket.

A key is never rewritten, its Unicode form neither: a store that has "é" in one form would not find the other. Two
keys that a file system may hold to be one have the same `fold_key`.
"""

from __future__ import annotations

import re

from dpn.errors import PermanentError
from dpn.text import folded, is_text, replaced

MAX_KEY_BYTES = 1024
"""In UTF-8, as S3 has it; what a root puts before its keys counts, too."""
MAX_PART_BYTES = 255
"""Of a part, in a folder: what the usual file systems hold."""
TOLD_CHARACTERS = 120


class KeyRefused(PermanentError):
    """No object may have this key: correct the name, or leave the object out."""


def check_key(key: str) -> str:
    """The key, if an object may have it. Raises KeyRefused, which says what is wrong."""
    if (fault := key_fault(key)) is not None:
        raise KeyRefused(f"key {shown(key)}: {fault}: correct it")
    return key


def check_prefix(prefix: str) -> str:
    """What keys begin with: as a key, without a slash at its ends, or empty. Raises KeyRefused."""
    return check_key(prefix) if prefix else prefix


def key_fault(key: str) -> str | None:
    """What is wrong with a key, None if an object may have it."""
    if not is_text(key):
        return _character_fault(key)
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it begins with '/', and keys begin at their root"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"it has more than {MAX_KEY_BYTES} bytes in UTF-8"
    parts = key.split("/")
    if "" in parts:
        return "it has an empty part ('//', or a '/' at its end)"
    return next((f"it has a part {part!r}" for part in (".", "..") if part in parts), None)


def fold_key(key: str) -> str:
    """The same for two keys that a file system may hold to be one: case-folded, in Unicode's form C."""
    return folded(key.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def shown(key: str) -> str:
    """The key in quotes, fit for a log or an answer, whatever it holds."""
    told = key if len(key) <= TOLD_CHARACTERS else f"{key[:TOLD_CHARACTERS]}…"
    return f"'{replaced(told, _escaped)}'"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _character_fault(key: str) -> str:
    try:
        key.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return "it has a NUL, a line break or another control character"
