"""Files that are whole or not there: after a crash at any moment a name holds the old content or the new, never
a part of it, and what a function here has answered survives a power cut.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

WRITE_BYTES = 32 << 10
"""At a time. For more, the system takes larger pieces of memory, and those a virtual machine's host has often
taken back: to get them again takes longer than the copying."""
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors that say that there is no room on a disk: nobody's fault, and gone once there is."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp\Z")


@contextmanager
def replace_file(path: Path, *, permissions: int = 0o644) -> Iterator[BinaryIO]:
    """A new content for `path`, written in full before it takes the name; of several writers the last one wins.

    If the block raises, `path` stays as it was. A crash leaves at most a temporary file beside it
    (`is_temporary` knows its name). Raises OSError.
    """
    with new_file(path, permissions=permissions) as (file, temporary):
        yield file
        make_durable(file)
        temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def new_file(path: Path, *, permissions: int = 0o644) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file in the folder of `path`, open for writing; gone after the block unless renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def publish_new(temporary: Path, path: Path) -> None:
    """Gives a finished file of the same folder its name, which must be free; the temporary name goes.

    Raises FileExistsError if `path` is there, whoever made it and however late; OSError where the file system
    knows no hard links. The content must be durable before (`make_durable`).
    """
    os.link(temporary, path)
    temporary.unlink()
    sync_folder(path.parent)


def write_all(file: BinaryIO | FileIO, data: bytes | bytearray | memoryview) -> None:
    """Every byte of `data`, also where the file takes only some at a time. Raises OSError."""
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done : done + WRITE_BYTES])


def make_durable(file: BinaryIO) -> None:
    """Everything written to `file` is on disk when this returns.

    After an OSError the kernel may have dropped what it could not write: write the file anew, never only sync.
    """
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Names made, replaced or removed in `folder` survive a power cut when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one of ours under way, or left over by a crash."""
    return _TEMPORARY.match(name) is not None
