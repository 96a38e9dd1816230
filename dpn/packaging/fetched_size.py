"""How much of a disk fetched objects take, each a file in a folder: more than their bytes, if they are small."""

from __future__ import annotations

DISK_BLOCK_BYTES = 4096
"""A file takes whole ones, on nearly every file system."""
INODE_BYTES = 512
"""Of a file that is made, where the file system has not set them aside; nowhere more by default."""
DIRECTORY_ENTRY_BYTES = 16
"""Beside the name; a folder is seldom less than half full (ext4, XFS)."""
LISTING_BYTES_PER_OBJECT = 512
LISTING_BYTES = 1 << 20


class FetchedSize:
    """Adds up; `bytes` is never less than what lies on the disk, the listing included."""

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
