"""One tar header and one PAX header, parsed as strictly as the format allows. Pure: bytes in, values out.

Formats: ustar and PAX (POSIX.1-2008), GNU long names, old V7. Where two readers could understand a header
differently it is refused, so that nobody can show us other files than the next reader sees.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

BLOCK_BYTES = 512
ZERO_BLOCK = bytes(BLOCK_BYTES)

OLD_REGULAR_TYPE = b"\0"
"""A file, or a folder if its name ends with '/'."""
REGULAR_TYPES = (b"0", OLD_REGULAR_TYPE, b"7")
DIRECTORY_TYPE = b"5"
PAX_TYPE, PAX_GLOBAL_TYPE = b"x", b"g"
GNU_LONG_NAME_TYPE, GNU_LONG_LINK_TYPE = b"L", b"K"
SPARSE_TYPE = b"S"
USTAR_MAGIC, GNU_MAGIC = b"ustar\x0000", b"ustar  \0"
HARD_LINK_TYPE = b"1"
LINK_TYPES = (HARD_LINK_TYPE, b"2")
DEVICE_TYPES = (b"3", b"4", b"6")

_FIELDS = struct.Struct("100s24s12s12s8s1s100x8s64x16s155s12x")
_CHECKSUM_AS_SPACES = 8 * 32
_LINK_BYTES = slice(157, 257)
_NUMBER_BYTES, _TIME_BYTES = 8, 12
_POSITIVE, _NEGATIVE = 0x80, 0xFF
_LARGEST_NUMBER = 2**63 - 1
LARGEST_OCTAL_SIZE = 8**11 - 1
"""What twelve bytes of octal digits hold: 8 GiB less one."""


class DamagedHeader(ValueError):
    """These 512 bytes are not a tar header; the text says why."""


class IncrementalDump(DamagedHeader):
    """A header of GNU tar that other readers understand otherwise, as it writes them for --listed-incremental."""


class DamagedPax(ValueError):
    """These bytes are not PAX records; the text says why."""


class Header(NamedTuple):
    """One header as it stands: what PAX or GNU headers before it say is not yet applied."""

    name: bytes
    type: bytes
    size: int


def parse_header(block: bytes) -> Header:
    """The header in a block of 512 bytes. Raises DamagedHeader."""
    name, owner, size, time, checksum, kind, magic, device, prefix = _FIELDS.unpack(block)
    if not _checksum_fits(block, checksum):
        raise DamagedHeader("the header's checksum is wrong")
    # A bag has no use for these. But readers in use stop without a word at a header where one is damaged.
    _check_numbers(owner + device)
    _check_number(time)
    name = name.partition(b"\0")[0]
    if prefix[0]:
        if magic == GNU_MAGIC and _are_times(prefix):
            raise IncrementalDump(
                "times of access and change stand where other readers look for a part of the name: this is an "
                "incremental dump of GNU tar (--listed-incremental): pack the bag again without that option"
            )
        if magic != USTAR_MAGIC:
            raise DamagedHeader("there are bytes where only some readers look for a part of the name")
        name = prefix.partition(b"\0")[0] + b"/" + name
    return Header(name, kind, _number(size))


def link_target(block: bytes) -> bytes:
    """What a link's header says that it leads to; extended headers may say otherwise."""
    return block[_LINK_BYTES].partition(b"\0")[0]


def _are_times(prefix: bytes) -> bool:
    try:
        for at in range(0, 2 * _TIME_BYTES, _TIME_BYTES):
            _number(prefix[at : at + _TIME_BYTES], signed=True)
    except DamagedHeader:
        return False
    return True


@lru_cache(maxsize=256)
def _check_numbers(fields: bytes) -> None:
    """Raises DamagedHeader unless all of these are numbers; few values come again and again."""
    for at in range(0, len(fields), _NUMBER_BYTES):
        _number(fields[at : at + _NUMBER_BYTES], signed=True)


@lru_cache(maxsize=256)
def _check_number(field: bytes) -> None:
    _number(field, signed=True)


def _checksum_fits(block: bytes, field: bytes) -> bool:
    """The header's bytes add up, its own checksum field taken as spaces (some old tars add signed bytes)."""
    try:
        claimed = _number(field)
    except DamagedHeader:
        return False
    if block.isascii():  # then either sum is below Adler-32's modulus, and its lower half is that sum and one
        return ((adler32(block) - adler32(field)) & 0xFFFF) + _CHECKSUM_AS_SPACES == claimed
    unsigned = sum(block) - sum(field) + _CHECKSUM_AS_SPACES
    signed = unsigned - 256 * sum(1 for byte in block[:148] + block[156:] if byte > 127)
    return claimed in (unsigned, signed)


def _number(field: bytes, *, signed: bool = False) -> int:
    """A number as octal digits, or in base 256 as GNU tar writes what octal cannot hold; 63 bits at most."""
    digits = field.rstrip(b"\0 ")
    if digits.isdigit():  # as nearly everybody writes it
        return _octal(digits)
    if field[0] & 0x80:
        number = int.from_bytes(field[1:]) - (1 << 8 * len(field) - 8 if field[0] == _NEGATIVE else 0)
        if field[0] not in (_POSITIVE, _NEGATIVE) or abs(number) > _LARGEST_NUMBER or (number < 0 and not signed):
            raise DamagedHeader("a negative or absurd number")
        return number
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if not digits.isdigit():
        raise DamagedHeader("a number is not octal")
    return _octal(digits)


def _octal(digits: bytes) -> int:
    try:
        return int(digits, 8)
    except ValueError:
        raise DamagedHeader("a number is not octal") from None


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header ("length key=value\\n"). Raises DamagedPax; also where a key stands twice."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits = data[at : data.find(b" ", at, at + 10)] if b" " in data[at : at + 10] else b""
        if not digits.isdigit():
            raise DamagedPax("a record does not begin with its length")
        end = at + int(digits)
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= at + len(digits) + 1 or data[end - 1 : end] != b"\n" or not equals or not key:
            raise DamagedPax("a record is not 'length key=value'")
        if key in records:
            raise DamagedPax("a key stands twice")
        records[key] = value
        at = end
    return records


def pax_size(value: bytes) -> int:
    """The decimal size in a PAX record. Raises DamagedPax."""
    if not value.isdigit() or len(value) > 19:
        raise DamagedPax("a size is not a number")
    return int(value)
