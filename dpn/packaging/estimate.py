"""How much room packaging a source will take, by its names and sizes; no content is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dpn.bags.building.source_bag import open_source_bag
from dpn.bags.errors import SourceRefused
from dpn.bags.tar.size import TarSize
from dpn.cancellation import Cancellation
from dpn.packaging.description import Description, Estimate
from dpn.packaging.disk_source import permission_is_waited_for
from dpn.packaging.location import BagLocation, FolderLocation, S3Location, locate
from dpn.packaging.settings import DepositS3Settings

TAGS_FOLDER = b"x" * 37
"""As long as the longest `<source_name>-tags/`."""
DISK_BLOCK_BYTES = 4096
"""A file takes whole ones, on nearly every file system."""
INODE_BYTES = 512
"""Of a file that is made, where the file system has not set them aside; nowhere more by default."""
DIRECTORY_ENTRY_BYTES = 16
"""Beside the name; a folder is seldom less than half full (ext4, XFS)."""
LISTING_BYTES_PER_OBJECT = 512
LISTING_BYTES = 1 << 20


def estimate(
    description: Description, *, s3: DepositS3Settings, cancellation: Cancellation | None = None
) -> Estimate:
    """What packaging will need on the staging volume, for the reservation.

    A source that grows afterwards needs more. Raises SourceRefused, ServiceUnavailable, Misconfigured, NotABag,
    BagChanged, OSError.
    """
    with permission_is_waited_for(description.source):
        return _estimate(description, s3, cancellation or Cancellation())


def folder_sizes(folder: Path, cancellation: Cancellation) -> Iterator[tuple[bytes, int]]:
    """Every file and folder, by its name within `folder`; no link is followed. Raises OSError."""
    base = os.fsencode(folder)
    waiting = [base]
    while waiting:
        cancellation.check()
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                size = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                yield entry.path[len(base) + 1 :], size
                if is_folder:
                    waiting.append(entry.path)


def _estimate(description: Description, s3: DepositS3Settings, cancellation: Cancellation) -> Estimate:
    location = locate(description.source)
    if description.as_is:
        if isinstance(location, S3Location) or location.path.is_dir():
            raise SourceRefused(f"{description.source} is no bag in a tar: only such a one is taken as it is")
        size = location.path.stat().st_size
        return Estimate(files=1, source_bytes=size, staging_bytes=size)
    tar, fetched_bytes = TarSize(), 0
    if isinstance(location, S3Location):
        fetched_bytes = _add_objects(tar, location, s3, cancellation)
    else:
        for name, size in _sizes(location, cancellation):
            tar.add(name, size)
    return Estimate(
        files=tar.files,
        source_bytes=tar.content_bytes,
        staging_bytes=tar.bytes + tar.manifest_bytes + fetched_bytes,  # the manifest grows in a file of its own
    )


def _add_objects(tar: TarSize, location: S3Location, s3: DepositS3Settings, cancellation: Cancellation) -> int:
    """Returns how many bytes the objects take as files of their own, before they are in the tar."""
    from dpn.packaging.s3 import object_sizes

    fetched = _FetchedSize()
    for key, size in object_sizes(location, s3, cancellation):
        tar.add(b"data/" + TAGS_FOLDER + key, size)
        fetched.add(key, size)
    return fetched.bytes


def _sizes(location: FolderLocation | BagLocation, cancellation: Cancellation) -> Iterable[tuple[bytes, int]]:
    if isinstance(location, FolderLocation):
        for name, size in folder_sizes(location.path, cancellation):
            yield b"data/" + name, size
    else:
        with open_source_bag(location.path, cancellation=cancellation) as bag:
            for name, _, size in bag.sizes():
                cancellation.check()
                yield TAGS_FOLDER + name, size


class _FetchedSize:
    """How much of a disk fetched objects take, each a file in a folder: more than their bytes, if they are small.

    `bytes` is never less than what lies on the disk, the listing included.
    """

    def __init__(self) -> None:
        self.bytes = LISTING_BYTES
        self._folders: list[bytes] = []

    def add(self, key: bytes, size: int) -> None:
        """In the order of the keys, as S3 lists them, each folder counts once; in another one too often."""
        *folders, name = key.split(b"/")
        known = 0
        for folder, last in zip(folders, self._folders, strict=False):
            if folder != last:
                break
            known += 1
        for made in folders[known:]:
            self._add_file(made, DISK_BLOCK_BYTES)
        self._add_file(name, size)
        self.bytes += LISTING_BYTES_PER_OBJECT + len(key)
        self._folders = folders

    def _add_file(self, name: bytes, size: int) -> None:
        blocks = -(-size // DISK_BLOCK_BYTES)
        self.bytes += blocks * DISK_BLOCK_BYTES + INODE_BYTES + 2 * (DIRECTORY_ENTRY_BYTES + len(name))
