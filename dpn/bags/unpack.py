"""Unpacks a bag from its tar: plain files and folders under the bag's own name, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dpn.bags.errors import NotABag
from dpn.bags.findings import Findings
from dpn.bags.names import is_safe
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.walk import TarMember, TarWalk
from dpn.cancellation import Cancellation
from dpn.files import sync_folder, write_all

SUFFIX = ".tar"


def unpack(
    tar: Path,
    folder: Path,
    *,
    cancellation: Cancellation | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Unpacks `<name>.tar` as `<name>/` in `folder`, where nothing of that name may be; returns the bag's folder.

    Every file is made anew and is durable when this returns: nothing that is there is written to, no link made,
    no mode, owner or time taken over. `folder` must be the caller's alone. The tar should have been validated;
    whatever a valid bag cannot hold is refused all the same. `progress` hears the bytes written so far.

    Raises NotABag (what was unpacked until then stays), OSError, and what `cancellation` was given.
    """
    name = tar.name.removesuffix(SUFFIX)
    findings = Findings()
    with TarFile(tar) as source:
        source.require_tar()
        unpacking = _Unpacking(source, folder, name, cancellation, progress)
        unpacking.make_root()
        walk = TarWalk(source, findings)
        for member in walk:
            unpacking.add(member)
        source.check_unchanged()
    if findings.errors or not walk.complete:
        first = next((finding.message for finding in findings.kept()), "it ends too early")
        raise NotABag(f"{tar} holds what no bag may: {first}")
    unpacking.sync_folders()
    return folder / name


class _Unpacking:
    """A tar on its way into a folder."""

    def __init__(
        self,
        tar: TarFile,
        folder: Path,
        name: str,
        cancellation: Cancellation | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._tar = tar
        self._top = folder
        self._name = os.fsencode(name)
        self._cancellation = cancellation
        self._progress = progress
        self._written = 0
        self._folders: set[bytes] = set()

    def make_root(self) -> None:
        """Raises FileExistsError."""
        self._place(self._name).mkdir()
        self._folders.add(self._name)

    def add(self, member: TarMember) -> None:
        name = member.name.removeprefix(b"./")
        if name == b"." and not member.is_file:
            return
        root, _, below = name.partition(b"/")
        if not is_safe(name) or root != self._name or (member.is_file and not below):
            shown = ascii(member.name[:100].decode("utf-8", "backslashreplace"))
            raise NotABag(f"{self._tar.path} holds {shown}, which is not in its folder {self._name.decode()}")
        if member.is_file:
            self._make_folder(name.rpartition(b"/")[0])
            self._write(member, name)
        else:
            self._make_folder(name)

    def _make_folder(self, name: bytes) -> None:
        if name in self._folders:
            return
        self._make_folder(name.rpartition(b"/")[0])
        self._place(name).mkdir()
        self._folders.add(name)

    def _write(self, member: TarMember, name: bytes) -> None:
        with self._place(name).open("xb", buffering=0) as file:
            for chunk in self._tar.chunks(member.offset, member.size):
                self._tick(len(chunk))
                write_all(file, chunk)
            self._tick(0)
            os.fsync(file.fileno())

    def _tick(self, count: int) -> None:
        if self._cancellation is not None:
            self._cancellation.check()
        self._written += count
        if self._progress is not None:
            self._progress(self._written)

    def sync_folders(self) -> None:
        for name in (*self._folders, b""):
            sync_folder(self._place(name))

    def _place(self, name: bytes) -> Path:
        return self._top / os.fsdecode(name)
