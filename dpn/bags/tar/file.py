"""The bytes of a tar on disk: read where they lie, never beyond what the file really has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from dpn.bags.errors import BagChanged, NotABag
from dpn.bags.hash_threads import READ_BYTES
from dpn.bags.tar.headers import BLOCK_BYTES, ZERO_BLOCK, DamagedHeader, IncrementalDump, parse_header


class TarFile:
    """An open file. Raises BagChanged where it is shorter than it was when opened; OSError as the disk says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._opened_as = os.fstat(self.fd)
        self.size = self._opened_as.st_size
        if not stat.S_ISREG(self._opened_as.st_mode):
            os.close(self.fd)
            raise NotABag(f"{path} is neither a file nor a folder")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def block(self, position: int) -> bytes:
        """The 512 bytes of a header; fewer only at the end of the file."""
        return self.read(position, BLOCK_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`; fewer only at the end of the file."""
        wanted = min(length, max(0, self.size - offset))
        data = os.pread(self.fd, wanted, offset)
        while len(data) < wanted:
            more = os.pread(self.fd, wanted - len(data), offset + len(data))
            if not more:
                raise self.changed()
            data += more
        return data

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill the view from `offset` on; fewer bytes only at the end of the file. Returns how many."""
        wanted = min(len(view), max(0, self.size - offset))
        done = 0
        while done < wanted:
            count = os.preadv(self.fd, [view[done:wanted]], offset + done)
            if not count:
                raise self.changed()
            done += count
        return done

    def chunks(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes from `offset` on, piece by piece. The caller has checked that the file has them."""
        end = offset + length
        while offset < end:
            data = self.read(offset, min(READ_BYTES, end - offset))
            yield data
            offset += len(data)

    def check_unchanged(self) -> None:
        """Raises BagChanged if the file was written to since it was opened."""
        now, then = os.fstat(self.fd), self._opened_as
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise self.changed()

    def changed(self) -> BagChanged:
        return BagChanged(f"{self.path} changed while it was being read: validate it again when it is at rest")

    def require_tar(self) -> None:
        """Raises NotABag unless the file begins with a tar header."""
        block = self.block(0)
        if len(block) < BLOCK_BYTES or block == ZERO_BLOCK:
            raise NotABag(f"{self.path} is not a tar, or an empty one ({self.size:,} bytes)")
        try:
            parse_header(block)
        except IncrementalDump:
            return  # a tar that cannot be read: who walks through it says why
        except DamagedHeader as reason:
            raise NotABag(f"{self.path} is not an uncompressed tar: {reason}") from None
