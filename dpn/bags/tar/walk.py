"""Goes from header to header through an uncompressed tar and yields its files and folders; unpacks nothing.

Everything else that a tar can hold is a finding. Memory does not depend on what the headers claim: a size is only
compared with the file's, an extended header is read up to 1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dpn.bags.findings import Findings, shown
from dpn.bags.tar.headers import (
    BLOCK_BYTES,
    DEVICE_TYPES,
    DIRECTORY_TYPE,
    GNU_LONG_LINK_TYPE,
    GNU_LONG_NAME_TYPE,
    HARD_LINK_TYPE,
    LARGEST_OCTAL_SIZE,
    LINK_TYPES,
    OLD_REGULAR_TYPE,
    PAX_GLOBAL_TYPE,
    PAX_TYPE,
    REGULAR_TYPES,
    SPARSE_TYPE,
    ZERO_BLOCK,
    DamagedHeader,
    DamagedPax,
    Header,
    IncrementalDump,
    link_target,
    parse_header,
    parse_pax,
    pax_size,
)

MAX_EXTENDED_BYTES = 1 << 20
"""Of a PAX header or GNU long name: room for extended attributes, far more than any name."""
_EXTENDED_TYPES = (PAX_TYPE, PAX_GLOBAL_TYPE, GNU_LONG_NAME_TYPE, GNU_LONG_LINK_TYPE)
_SIZE_IGNORED_TYPES = (*LINK_TYPES, *DEVICE_TYPES, DIRECTORY_TYPE)
SPARSE = "A sparse file, whose holes are left out. Pack the bag again without GNU tar's --sparse."
_TOLD = {
    HARD_LINK_TYPE: "A hard link: another name of {target}, under which alone its content stands. Pack the bag "
    "again with GNU tar's --hard-dereference.",
    b"2": "A symbolic link to {target}. Put the content in its place, or pack the bag again with GNU tar's "
    "--dereference.",
    b"V": "The label of the archive, no file of the bag. Pack the bag again without GNU tar's --label.",
    b"D": "The list of a folder in an incremental dump. Pack the bag again without GNU tar's --incremental.",
    b"M": "The rest of a file that begins in another archive. Pack the bag again without GNU tar's "
    "--multi-volume.",
}
_GLOBAL_KEYS_REFUSED = {b"path", b"linkpath", b"size", b"hdrcharset"}


class Blocks(Protocol):
    """Where the walk reads. Positions only grow, apart from small steps back that a reader holds in memory."""

    size: int

    def block(self, position: int) -> bytes:
        """512 bytes at a position that is a multiple of 512; fewer only at the end of the file."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes, for extended headers."""
        ...


class TarMember(NamedTuple):
    """A file or folder. `header` is where its first header lies, extended headers included."""

    name: bytes
    is_file: bool
    header: int
    offset: int
    size: int


class Unreadable(Exception):
    """Nothing after this point can be trusted; code and message of the finding."""

    def __init__(self, code: str, message: str, name: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.name = name


@dataclass(slots=True)
class _Extended:
    """What extended headers said about the member that follows them."""

    start: int
    pax: dict[bytes, bytes] = field(default_factory=dict)
    long_name: bytes | None = None
    name_unknown: bool = False


class TarWalk:
    """Iterate to walk. Afterwards `complete` says whether the end of the archive was reached, `end` where.
    `when_hard_link` is told the name of each."""

    def __init__(
        self,
        blocks: Blocks,
        findings: Findings,
        start: int = 0,
        when_hard_link: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._blocks = blocks
        self._findings = findings
        self._start = start
        self._when_hard_link = when_hard_link
        self.complete = False
        self.end = 0

    def __iter__(self) -> Iterator[TarMember]:
        try:
            yield from self._members()
            self.complete = True
        except Unreadable as reason:
            self._findings.add(reason.code, reason.message, reason.name)

    def _members(self) -> Iterator[TarMember]:
        blocks, position = self._blocks, self._start
        extended: _Extended | None = None
        while True:
            block = blocks.block(position)
            if len(block) < BLOCK_BYTES or block == ZERO_BLOCK:
                if extended is not None:
                    raise Unreadable("tar-truncated", "The archive ends after an extended header.")
                return self._end_of_archive(block, position)
            header = _parsed(block, position)
            if header.type in _EXTENDED_TYPES:
                extended = self._extended(header, position, extended or _Extended(position))
                position += BLOCK_BYTES + _padded(header.size)
                continue
            offset = position + BLOCK_BYTES
            member: TarMember | None
            if extended is None and header.type == REGULAR_TYPES[0] and header.name[-1:] != b"/":  # nearly always
                member, stored = TarMember(header.name, True, position, offset, header.size), header.size
            else:
                member, stored = self._unusual(header, offset, extended or _Extended(position))
            position = offset + _padded(stored)
            if position > blocks.size:
                there = max(0, blocks.size - offset)
                message = f"The member has {stored:,} bytes, of which the file holds {there:,}."
                raise Unreadable("tar-truncated", message, header.name)
            if member is not None:
                yield member
            extended = None

    def _unusual(self, header: Header, offset: int, extended: _Extended) -> tuple[TarMember | None, int]:
        """A member with all that headers before it say; None if a bag has no such thing. And what it takes up."""
        name, size = self._name_of(header, extended), _size_of(header, extended)
        stored = self._stored_size(header, name, size)
        if extended.name_unknown:
            return None, stored
        if header.type in REGULAR_TYPES and not name.endswith(b"/"):
            return TarMember(name, True, extended.start, offset, size), stored
        if header.type == DIRECTORY_TYPE or header.type in REGULAR_TYPES:
            return TarMember(name.rstrip(b"/") or name, False, extended.start, offset, 0), stored
        target = extended.pax.get(b"linkpath") or link_target(self._blocks.block(offset - BLOCK_BYTES))
        self._findings.add(_code(header.type), _told(header.type, target), name)
        if header.type == HARD_LINK_TYPE:
            self._when_hard_link(name)
        return None, stored

    def _extended(self, header: Header, position: int, extended: _Extended) -> _Extended:
        """Read one extended header. Only its first megabyte, and only one of a kind."""
        if position + BLOCK_BYTES + _padded(header.size) > self._blocks.size:
            raise Unreadable("tar-truncated", "The file ends inside an extended header.")
        if header.size > MAX_EXTENDED_BYTES:
            self._findings.add("tar-pax-too-large", f"An extended header of {header.size:,} bytes.")
            extended.name_unknown = extended.name_unknown or header.type != PAX_GLOBAL_TYPE
            return extended
        data = self._blocks.read(position + BLOCK_BYTES, header.size)
        if header.type == GNU_LONG_NAME_TYPE:
            if extended.long_name is not None or extended.pax:
                raise Unreadable("tar-ambiguous", "Two extended headers name one member.")
            extended.long_name = data.rstrip(b"\0")
        elif header.type in (PAX_TYPE, PAX_GLOBAL_TYPE):
            records = _records(data)
            if header.type == PAX_TYPE:
                if extended.pax or extended.long_name is not None:
                    raise Unreadable("tar-ambiguous", "Two extended headers describe one member.")
                extended.pax = records
            elif _GLOBAL_KEYS_REFUSED & records.keys() or _is_sparse(records):
                raise Unreadable("tar-ambiguous", "A global extended header renames or resizes all members.")
        return extended

    def _name_of(self, header: Header, extended: _Extended) -> bytes:
        """The member's name under its extended headers."""
        if _is_sparse(extended.pax):
            raise Unreadable("tar-sparse", SPARSE, extended.pax.get(b"path", header.name))
        name = extended.pax.get(b"path", extended.long_name if extended.long_name is not None else header.name)
        if not name:
            raise Unreadable("tar-ambiguous", "An extended header takes the member's name away.")
        return name

    def _stored_size(self, header: Header, name: bytes, size: int) -> int:
        """How many bytes follow the header; what readers disagree about is refused."""
        if header.type == SPARSE_TYPE:
            raise Unreadable("tar-sparse", SPARSE, name)
        if name.endswith(b"/") and header.type in REGULAR_TYPES and header.type != OLD_REGULAR_TYPE:
            raise Unreadable("tar-ambiguous", "A file whose name ends with '/': to some readers a folder.", name)
        if header.type in _SIZE_IGNORED_TYPES or name.endswith(b"/"):
            if size:  # some readers skip as much, others do not
                raise Unreadable(_code(header.type), f"A member without content claims {size:,} bytes.", name)
            return 0
        return size

    def _end_of_archive(self, block: bytes, position: int) -> None:
        self.end = position
        if block and len(block) < BLOCK_BYTES:
            raise Unreadable("tar-truncated", "The file ends inside a header.")
        if not block:
            self._findings.add("tar-end-missing", "The file ends without the two blocks of zeros.")
            return
        second = self._blocks.block(position + BLOCK_BYTES)
        if 0 < len(second) < BLOCK_BYTES:
            raise Unreadable("tar-truncated", "The file ends inside the second of the two blocks of zeros.")
        if not second:
            self._findings.add("tar-end-missing", "The file ends with one block of zeros; there must be two.")


def _code(kind: bytes) -> str:
    """The finding for a member of this type."""
    if kind in LINK_TYPES:
        return "tar-link"
    if kind in DEVICE_TYPES:
        return "tar-device"
    return "tar-ambiguous" if kind == DIRECTORY_TYPE or kind in REGULAR_TYPES else "tar-special"


def _told(kind: bytes, target: bytes) -> str:
    """What a member of this type is, and what to do."""
    message = _TOLD.get(kind, f"A member of type {kind.decode('latin-1')!r}: a bag has files and folders only.")
    return message.replace("{target}", shown(target) or "")


def _parsed(block: bytes, position: int) -> Header:
    try:
        return parse_header(block)
    except IncrementalDump as reason:
        raise Unreadable("tar-ambiguous", f"At byte {position:,}: {reason}.") from None
    except DamagedHeader as reason:
        raise Unreadable("tar-header-damaged", f"At byte {position:,}: {reason}.") from None


def _records(data: bytes) -> dict[bytes, bytes]:
    try:
        return parse_pax(data)
    except DamagedPax as reason:
        raise Unreadable("tar-pax-damaged", f"{str(reason).capitalize()}.") from None


def _size_of(header: Header, extended: _Extended) -> int:
    """The member's size; a PAX record counts, but may contradict the header only where that cannot hold it."""
    record = extended.pax.get(b"size")
    if record is None:
        return header.size
    try:
        size = pax_size(record)
    except DamagedPax as reason:
        raise Unreadable("tar-pax-damaged", f"{str(reason).capitalize()}.") from None
    if size <= LARGEST_OCTAL_SIZE and size != header.size:
        raise Unreadable("tar-ambiguous", "Header and extended header disagree about the size.", header.name)
    return size


def _is_sparse(records: dict[bytes, bytes]) -> bool:
    return any(key.startswith(b"GNU.sparse.") for key in records)


def _padded(size: int) -> int:
    return size + -size % BLOCK_BYTES
