"""How large a tar becomes that is built of files of known names and sizes."""

from __future__ import annotations

from dpn.bags.tar.headers import BLOCK_BYTES

_HEADERS_BYTES = BLOCK_BYTES
_LONG_HEADERS_BYTES = 3 * BLOCK_BYTES
_SHORT_NAME_BYTES = 60
_MANIFEST_LINE_BYTES = 64 + len(b"  \n")
_OWN_FILES_BYTES = 64 << 10


class TarSize:
    """Adds up; `bytes` is never less than the tar will have, and hardly more."""

    def __init__(self) -> None:
        self.files = 0
        self.content_bytes = 0
        self._members_bytes = 0
        self.manifest_bytes = 0

    def add(self, name: bytes, size: int) -> None:
        """A file of the bag, payload or not. One name goes to the header, one to a manifest."""
        long = len(name) > _SHORT_NAME_BYTES or not name.isascii()
        headers = _LONG_HEADERS_BYTES + len(name) if long else _HEADERS_BYTES
        self.files += 1
        self.content_bytes += size
        self._members_bytes += headers + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        self.manifest_bytes += _MANIFEST_LINE_BYTES + len(name)

    @property
    def bytes(self) -> int:
        """Of the whole tar, our own tag files and manifests included."""
        return self._members_bytes + self.manifest_bytes + _OWN_FILES_BYTES
