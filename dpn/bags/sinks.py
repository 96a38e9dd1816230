"""Where a bag is built: straight into a tar, or into a folder. Same input, same bytes."""

# Names are bytes here, which pathlib does not have.
# ruff: noqa: PTH102, PTH103, PTH118, PTH120, PTH123

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from dpn.bags.tar_headers import BLOCK_BYTES, LARGEST_OCTAL_SIZE, ZERO_BLOCK
from dpn.files import make_durable, sync_folder

RECORD_BYTES = 20 * BLOCK_BYTES
_NAME_BYTES, _PREFIX_BYTES = 100, 155


class Sink(Protocol):
    """Takes a bag's files one after the other. Names are relative to the bag."""

    def begin_file(self, name: bytes, size: int) -> None: ...

    def write(self, data: bytes | memoryview) -> None: ...

    def end_file(self) -> None: ...

    def add_folder(self, name: bytes) -> None: ...

    def close(self) -> None:
        """Everything is on disk when this returns."""
        ...


class TarSink:
    """A PAX tar: ustar headers, an extended one only where a name or size needs it; owner, time and mode fixed."""

    def __init__(self, path: Path, root: str, modified_seconds: int) -> None:
        self._file: BinaryIO = path.open("xb", buffering=1 << 20)
        self._root = root.encode() + b"/"
        self._modified = modified_seconds
        self._padding = 0
        self._written = 0

    def begin_file(self, name: bytes, size: int) -> None:
        self._put(self._headers(self._root + name, b"0", size))
        self._padding = -size % BLOCK_BYTES

    def write(self, data: bytes | memoryview) -> None:
        self._put(data)

    def end_file(self) -> None:
        self._put(bytes(self._padding))

    def add_folder(self, name: bytes) -> None:
        self._put(self._headers(self._root + name + b"/", b"5", 0))

    def close(self) -> None:
        self._put(ZERO_BLOCK * 2)
        self._put(bytes(-self._written % RECORD_BYTES))
        make_durable(self._file)
        self._file.close()

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._written += len(data)

    def _headers(self, name: bytes, kind: bytes, size: int) -> bytes:
        records = b""
        split = _split(name)
        if split is None or not name.isascii():
            records += _record(b"path", name)
            split = (b"", name.decode("ascii", "replace").encode("ascii", "replace")[:_NAME_BYTES])
        if size > LARGEST_OCTAL_SIZE:
            records += _record(b"size", b"%d" % size)
        header = self._header(*split, kind, size)
        if not records:
            return header
        extended = self._header(b"", b"PaxHeaders/" + split[1][:80], b"x", len(records))
        return extended + records + bytes(-len(records) % BLOCK_BYTES) + header

    def _header(self, prefix: bytes, name: bytes, kind: bytes, size: int) -> bytes:
        shown_size = size if size <= LARGEST_OCTAL_SIZE else 0
        mode = b"0000755\0" if kind == b"5" else b"0000644\0"
        before = name.ljust(_NAME_BYTES, b"\0") + mode + b"0000000\0" * 2
        numbers = b"%011o\0%011o\0" % (shown_size, self._modified)
        after = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(167, b"\0")
        checksum = sum(before) + sum(numbers) + 8 * ord(" ") + sum(after)
        return before + numbers + b"%06o\0 " % checksum + after


class FolderSink:
    """The bag as a folder; files appear as they are written, so build it where nobody looks yet."""

    def __init__(self, path: Path) -> None:
        self._base = os.fsencode(path)
        os.mkdir(self._base)
        self._folders = {self._base}
        self._file: BinaryIO | None = None

    def begin_file(self, name: bytes, size: int) -> None:
        path = os.path.join(self._base, name)
        self._make(os.path.dirname(path))
        self._file = open(path, "xb")  # noqa: SIM115 - closed in end_file

    def write(self, data: bytes | memoryview) -> None:
        if self._file is not None:
            self._file.write(data)

    def end_file(self) -> None:
        if self._file is not None:
            make_durable(self._file)
            self._file.close()

    def add_folder(self, name: bytes) -> None:
        self._make(os.path.join(self._base, name))

    def close(self) -> None:
        for folder in self._folders:
            sync_folder(Path(os.fsdecode(folder)))

    def _make(self, folder: bytes) -> None:
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)


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
