"""Makes the headers of a PAX tar: ustar, an extended one only where a name or size needs it; owner, time and mode
are fixed. Pure: values in, bytes out."""

from __future__ import annotations

from struct import Struct
from zlib import adler32

from dpn.bags.tar.headers import BLOCK_BYTES, DIRECTORY_TYPE, LARGEST_OCTAL_SIZE, PAX_TYPE

_NAME_BYTES, _PREFIX_BYTES = 100, 155
_OWNERS = b"0000000\0" * 2
_FILE_MODE, _FOLDER_MODE = b"0000644\0" + _OWNERS, b"0000755\0" + _OWNERS
_AFTER_KIND = bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
_CHECKSUM_AS_SPACES = 8 * ord(" ")
_pack = Struct(f"100s24s12s12s8s1s{len(_AFTER_KIND)}s167s").pack


class HeaderMaker:
    """For all members of one tar: they have one time."""

    def __init__(self, modified_seconds: int) -> None:
        self._modified = b"%011o\0" % modified_seconds
        self._fixed_sum = sum(self._modified) + sum(_AFTER_KIND) + _CHECKSUM_AS_SPACES

    def headers(self, name: bytes, kind: bytes, size: int) -> bytes:
        """What comes before a member's content."""
        if len(name) <= _NAME_BYTES and size <= LARGEST_OCTAL_SIZE and name.isascii():  # nearly always
            return self._header(b"", name, kind, size)
        split = _split(name)
        records = b""
        if split is None or not name.isascii():
            records += _record(b"path", name)
            split = (b"", name.decode("ascii", "replace").encode("ascii", "replace")[:_NAME_BYTES])
        if size > LARGEST_OCTAL_SIZE:
            records += _record(b"size", b"%d" % size)
        header = self._header(*split, kind, size)
        if not records:
            return header
        extended = self._header(b"", b"PaxHeaders/" + split[1][:80], PAX_TYPE, len(records))
        return extended + records + bytes(-len(records) % BLOCK_BYTES) + header

    def _header(self, prefix: bytes, name: bytes, kind: bytes, size: int) -> bytes:
        """One header of 512 bytes; name and prefix are ASCII and fit."""
        mode = _FOLDER_MODE if kind == DIRECTORY_TYPE else _FILE_MODE
        digits = b"%011o\0" % (size if size <= LARGEST_OCTAL_SIZE else 0)
        # The lower half of an Adler-32 of few bytes is their sum and one; it costs a tenth of `sum`.
        checksum = self._fixed_sum - 1 + (adler32(b"".join((name, mode, digits, kind, prefix))) & 0xFFFF)
        return _pack(name, mode, digits, self._modified, b"%06o\0 " % checksum, kind, _AFTER_KIND, prefix)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name of a ustar header; None if they do not hold this name."""
    if len(name) <= _NAME_BYTES:
        return b"", name
    cut = name.find(b"/", len(name) - _NAME_BYTES - 1, _PREFIX_BYTES + 1)
    return (name[:cut], name[cut + 1 :]) if 0 < cut < len(name) - 1 else None


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record; its length counts its own digits."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d" % length + body
