"""A source that may be read only where it lies: nobody who may write there can have something else read instead.

A path is a question asked anew each time: whoever owns a folder on the way can put a link in its place once it was
looked at, and take the link away before anybody looks again. So what leads to the source is held open, and the
folders of the source itself are compared by what nobody can set back: a folder that was moved, exchanged or
written to has another time of change (`st_ctime`). Links within a source are refused when it is bagged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from dpn.bags.errors import BagChanged
from dpn.packaging.disk_source import permission_is_waited_for

_HOLDING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def confined(resolved: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The name to read the source by while the `with` block lasts, and what raises BagChanged unless all that was
    read by that name until then lies where `resolved` says. Errors name it as `resolved` does.

    `resolved` is a path without links. Raises BagChanged if it is one no more, SourceUnavailable, OSError.
    """
    parent = _hold(resolved.parent)
    held = f"/proc/self/fd/{parent}/{resolved.name}"
    try:
        with permission_is_waited_for(held):
            before = _state(held)

        def require_unmoved() -> None:
            if _state(held) != before:
                raise _moved(held)

        yield held, require_unmoved
    except Exception as error:
        _name_rightly(error, held, str(resolved))
        raise
    finally:
        os.close(parent)


def _hold(folder: Path) -> int:
    """A descriptor of the folder, come to without a link."""
    descriptor = os.open("/", _HOLDING)
    for name in folder.parts[1:]:
        try:
            below = os.open(name, _HOLDING, dir_fd=descriptor)
        except (FileNotFoundError, NotADirectoryError):
            raise _moved(str(folder)) from None
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _state(source: str) -> bytes:
    """Of a folder and all folders in it, or of a file."""
    digest, waiting = blake2b(), [source]
    while waiting:
        path = waiting.pop()
        try:
            found = os.lstat(path)
            digest.update(f"{found.st_dev} {found.st_ino} {found.st_ctime_ns} {found.st_mode} ".encode())
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(path) as entries:
                    waiting += sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            raise _moved(path) from None
    return digest.digest()


def _moved(path: str) -> BagChanged:
    return BagChanged(f"{path} was moved or changed while it was being read: try again when it is at rest")


def _name_rightly(error: Exception, held: str, resolved: str) -> None:
    error.args = tuple(arg.replace(held, resolved) if isinstance(arg, str) else arg for arg in error.args)
    if isinstance(error, OSError) and error.filename is not None:
        error.filename = os.fsdecode(error.filename).replace(held, resolved)
