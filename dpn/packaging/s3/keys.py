"""Which keys of objects can become names of files in a bag. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dpn.bags.building.sources import refuse_unfit_name
from dpn.bags.errors import SourceRefused
from dpn.bags.findings import shown
from dpn.bags.names import faults
from dpn.s3.pages import ListedObject

LONGEST_TOLD = 120


def is_folder_marker(listed: ListedObject) -> bool:
    """Whether the object only stands for a folder, as consoles make them: a key that ends in '/', no content."""
    return listed.size == 0 and (not listed.key or listed.key.endswith("/")) and _is_fit(listed.key.rstrip("/"))


def check_key(listed: ListedObject) -> str | None:
    """The key and what is wrong with it, None if it can be a file's name."""
    return next((refusal(*fault) for fault in key_faults(listed)), None)


def key_faults(listed: ListedObject) -> Iterator[tuple[bytes, str]]:
    """The name, and each thing that is wrong with it."""
    try:
        name = listed.key.encode()
    except UnicodeEncodeError:
        yield listed.key.encode("utf-8", "surrogatepass"), "it is not UTF-8"
        return
    if listed.key.endswith("/") or not listed.key:
        yield name, f"it is called like a folder, and has {listed.size:,} bytes"
        return
    for _, message in faults(name):
        yield name, message[0].lower() + message[1:].rstrip(".")


def refusal(name: bytes, why: str) -> str:
    text = shown(name) or ""
    return f"{text[:LONGEST_TOLD]!r}: {why}"


def _is_fit(key: str) -> bool:
    if not key:
        return True
    try:
        refuse_unfit_name(key.encode(), key, of_folder=True)
    except (SourceRefused, UnicodeEncodeError):
        return False
    return True
