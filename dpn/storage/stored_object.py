"""What a store says of one object, and what it was seen to do with checksums and conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from models.manifests import StoreChecksum

CONTENT_TYPE = "application/x-tar"
READ_BYTES = 1024 * 1024
CLAIMED_SHA256 = "sha256"
CLAIMED_PART_SIZE = "part_size"
"""Metadata names that a store adds: claims that tell how to prove an object, never proof."""

Progress = Callable[[int, int], None]
"""Is told bytes done and bytes in all."""
Proof = Literal["store-checksums", "etag", "read-back"]


@dataclass(frozen=True)
class StoredObject:
    """What a store says of one object, without reading it."""

    key: str
    size: int
    modified_at: datetime
    etag: str | None = None
    version_id: str | None = None
    storage_class: str = "STANDARD"
    checksum: StoreChecksum | None = None
    restore: str | None = None
    """`x-amz-restore` as the store sent it; what it means, dpn.storage.availability tells."""
    archive_status: str | None = None
    """`x-amz-archive-status`: the archive tier of an object in INTELLIGENT_TIERING."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def claimed_part_size(self) -> int | None:
        """The part size that whoever stored it says to have used."""
        text = self.metadata.get(CLAIMED_PART_SIZE, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


@dataclass(frozen=True)
class Capabilities:
    """What a store was seen to do. Nothing here is believed from documentation or version numbers."""

    refuses_wrong_sha256: bool = False
    """A part whose bytes do not match the SHA-256 sent with it is refused."""
    shows_sha256: bool = False
    """The object's SHA-256 (of one piece), or that of its parts' SHA-256, can be asked for afterwards."""
    shows_crc64nvme: bool = False
    """The object's CRC64NVME can be asked for, reckoned by the store itself: none was sent."""
    etag_is_md5: bool = False
    """The entity tag is the MD5 of the bytes (of the parts' MD5s for several parts)."""
    refuses_overwriting: bool = False
    """`If-None-Match: *` (or the file system's own exclusive naming) holds when an object becomes visible."""
    replaces_on_condition: bool = False
    """`If-Match` holds when an object takes another's place: a replaced one is never replaced again unseen."""
    may_delete: bool = False
    """We could remove the probe. A writer that may not is safer, and leaves a tiny object a probe."""

    @property
    def proof(self) -> Proof:
        """The strongest proof of a copy to be had."""
        if (self.refuses_wrong_sha256 and self.shows_sha256) or self.shows_crc64nvme:
            return "store-checksums"
        return "etag" if self.etag_is_md5 else "read-back"
