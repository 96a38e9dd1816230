"""Lists of paths: manifests, fetch.txt, checksums beside objects. One set of rules for all of them.

A path may be percent-encoded (RFC 8493 §2.1.3, 2.2.3), begin with './' or the '*' of md5sum, have blanks at its
end, and stand in another Unicode normalisation than the file has. Lines, their ends and a byte-order mark are
`Lines`'.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from dpn.bags.names import is_safe

Found = TypeVar("Found")

_PERCENT = re.compile(rb"%(0[AaDd]|25)")
_CHECKSUM = re.compile(rb"[0-9A-Fa-f]+")


class Resolved(NamedTuple, Generic[Found]):
    """What a list's path means. `path` need not be safe where nothing was found."""

    path: bytes
    found: Found | None
    form: str | None
    """How it is written, if not as the standard says."""


class PathList(Generic[Found]):
    """The files that a list speaks of, as two functions know them: by name, and by name in its normal form."""

    def __init__(
        self,
        find: Callable[[bytes], Found | None],
        find_normalized: Callable[[bytes], Found | None],
        *,
        encoded_first: bool,
    ) -> None:
        """`encoded_first`: a '%' is a sign, as from BagIt 1.0 on; else only where no file is called as written."""
        self._find = find
        self._find_normalized = find_normalized
        self._encoded_first = encoded_first

    def resolve(self, written: bytes) -> Resolved[Found]:
        """The file that a path means."""
        decoded = _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), written)
        paths = (decoded, written) if self._encoded_first else (written, decoded)
        for path in paths:
            if (found := self._find(path)) is not None:
                is_raw = self._encoded_first and path is written and decoded != written
                return Resolved(path, found, "a '%' that is not encoded" if is_raw else None)
        tidy = _tidied(decoded)
        if (found := self._find(tidy)) is not None:
            return Resolved(tidy, found, "a path with '*', './' or spaces around it")
        for path in (*paths, tidy):
            if (found := self._find_normalized(path)) is not None:
                return Resolved(path, found, "a name in another Unicode normalisation")
        return Resolved(tidy if is_safe(tidy) else decoded, None, None)


def no_entry(line: bytes) -> str | None:
    """What a line is that lists nothing."""
    content = line.lstrip()
    if not content:
        return "a blank line"
    return "a comment" if content.startswith(b"#") else None


def checksum_and_path(line: bytes, digest_bytes: int) -> tuple[bytes, bytes] | None:
    """A line's checksum, in lower case, and path as written; None if it is not 'checksum path' of such digests."""
    parts = line.split(None, 1)
    if len(parts) != 2 or len(parts[0]) != 2 * digest_bytes or not _CHECKSUM.fullmatch(parts[0]):
        return None
    return parts[0].lower(), parts[1]


def _tidied(path: bytes) -> bytes:
    """Without what md5sum and find write around it."""
    bare = path.removeprefix(b"*").rstrip()
    if bare.startswith(b"/"):
        return bare
    return b"/".join(part for part in bare.split(b"/") if part not in (b"", b"."))
