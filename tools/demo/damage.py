"""Does to a stored copy what disks and people do, behind its node's back."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.storage.stores import open_store
from tools.demo.copies import chunks_of
from tools.network.backends import Backends
from tools.network.errors import Broken
from tools.network.node import RunningNode

PAYLOAD = "/data/"


class Damage(StrEnum):
    BIT_FLIP = "bit flip in the payload"
    DELETED = "deleted"


@dataclass(frozen=True)
class Spoiler:
    """Spoils copies in the stores of a demo's nodes."""

    backends: Backends
    cancellation: Cancellation

    def spoil(self, node: RunningNode, bag: str, damage: Damage) -> None:
        """The node's copy of the bag is damaged when this returns; nothing but reading it shows that.

        Raises Broken if the copy cannot be damaged like that, OSError, and what the store raises.
        """
        key, path = f"{bag}.tar", self.backends.file_of(node.place, f"{bag}.tar")
        if damage is Damage.DELETED:
            if path is not None:
                path.unlink()
            else:
                self.backends.delete_object(node.place, key)
        elif path is not None:
            flip_a_bit(path)
        else:
            self._rewrite(node, key)

    def _rewrite(self, node: RunningNode, key: str) -> None:
        """For a store whose files cannot be reached: the object with a bit flipped takes its own place."""
        fetched = node.place.directory / f"{key}.spoilt"
        store = open_store(node.settings.needed_store(), clock=SystemClock())
        try:
            with fetched.open("wb") as file:
                for chunk in chunks_of(
                    store, key, lambda: self.backends.ask_for_restore(node.place, key), self.cancellation
                ):
                    file.write(chunk)
            flip_a_bit(fetched)
            self.backends.overwrite_object(node.place, key, fetched)
        finally:
            fetched.unlink(missing_ok=True)


def flip_a_bit(tar: Path) -> None:
    """Flips one bit in the middle of a payload file; the file's time stays, as when a disk rots. Raises Broken."""
    position, found = _in_payload(tar), tar.stat()
    tar.chmod(found.st_mode | 0o200)
    with tar.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))
    tar.chmod(found.st_mode)
    os.utime(tar, ns=(found.st_atime_ns, found.st_mtime_ns))


def _in_payload(tar: Path) -> int:
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            if member.isreg() and PAYLOAD in member.name and member.size > 0:
                return member.offset_data + member.size // 2
    raise Broken(f"{tar} has no payload to damage")
