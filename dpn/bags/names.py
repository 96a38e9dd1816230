"""What is wrong with the name of a file in a bag. Pure; names are bytes, as tar and file systems have them."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_NAME_BYTES = 4096
MAX_PART_BYTES = 255
MAX_DEPTH = 256
UNSAFE = frozenset({"name-absolute", "name-traversal", "name-not-normal", "name-too-long"})
"""Codes of names that cannot be used at all."""

_PLAIN_PART = rb"(?!\.)[ -.0-\[\]-~]+"
"""Printable ASCII without '/' and '\\', no dot at its begin. (Python 3.11's first releases get `++` wrong.)"""
_PLAIN = re.compile(rb"(?!.*%%0[ADad])%b(?:/%b)*(?<! )" % (_PLAIN_PART, _PLAIN_PART))
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]|\\\\u00(?:[01][0-9a-fA-F]|7[fF]|[89][0-9a-fA-F])")
"""C0, DEL and C1, also written as an escape, as the DPN validator saw them (reference: DPN 3.5)."""
_LINE_END = re.compile("[\u2028\u2029]")
"""Where a reader that splits lines by Unicode's rules ends one, beside control characters."""
_ENCODED_LINE_END = re.compile("%0[ADad]")
_SUSPECT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\%]")
"""What one of these three begins with: nearly all names have none of it."""
_BLANKS_OF_OLD = ("\u180e", "\u200b", "\ufeff")
"""White space no longer, but some readers still strip it from a line, as all do with what is."""


def is_plain(name: bytes) -> bool:
    """True only for names with no fault at all; decides that for nearly all names, and at once."""
    return len(name) <= MAX_PART_BYTES and _PLAIN.fullmatch(name) is not None


def faults(name: bytes, *, of_folder: bool = False) -> Iterator[tuple[str, str]]:
    """Code and message of every fault of a name relative to the bag."""
    if not is_plain(name):
        yield from _length_faults(name)
        yield from _character_faults(name, of_folder=of_folder)


def own_faults(name: bytes, *, of_folder: bool = False) -> Iterator[tuple[str, str]]:
    """Those that its folder's name does not have already."""
    if is_plain(name):
        return
    folder, _, last = name.rpartition(b"/")
    inherited = set(faults(folder, of_folder=True)) if folder else set()
    found = faults(name, of_folder=of_folder)
    if inherited:
        yield from faults(last, of_folder=of_folder)
        found = (fault for fault in found if fault not in {*inherited, *faults(last, of_folder=of_folder)})
    yield from found


def is_safe(name: bytes) -> bool:
    """True for a relative path without NUL, empty, '.' or '..' parts, and of a length that can be unpacked."""
    return not any(code in UNSAFE for code, _ in faults(name))


def _length_faults(name: bytes) -> Iterator[tuple[str, str]]:
    if len(name) > MAX_NAME_BYTES or name.count(b"/") >= MAX_DEPTH:
        yield "name-too-long", f"The name has {len(name)} bytes and {name.count(b'/') + 1} parts."
    if max(map(len, name.split(b"/"))) > MAX_PART_BYTES:
        yield "name-part-too-long", f"A part of the name has more than {MAX_PART_BYTES} bytes."


def _character_faults(name: bytes, *, of_folder: bool) -> Iterator[tuple[str, str]]:
    parts = name.split(b"/")
    if name.startswith(b"/"):
        yield "name-absolute", "The name begins with '/'."
    elif b".." in parts:
        yield "name-traversal", "The name has a part '..'."
    elif b"" in parts or b"." in parts or b"\0" in name:
        yield "name-not-normal", "The name has an empty or '.' part, or a NUL."
    try:
        text = name.decode()
    except UnicodeDecodeError:
        yield "name-not-utf8", "The name is not UTF-8."
    else:
        if _SUSPECT.search(text):
            yield from _suspicions(text)
        if not of_folder and (text[-1:].isspace() or text.endswith(_BLANKS_OF_OLD)):  # a folder's ends no line
            yield "name-misread", "The name ends with white space, which others strip from a manifest's line."


def _suspicions(text: str) -> Iterator[tuple[str, str]]:
    if _CONTROL.search(text):
        yield "name-control-character", "The name has control characters, or what stands for them."
    if _LINE_END.search(text):
        yield "name-misread", "The name has a line separator, at which others end a manifest's line."
    if _ENCODED_LINE_END.search(text):
        yield "name-misread", "The name has what others read as an encoded line break."
