"""Digests of a file as a whole and of its parts, taken together from the same buffers.

Because both come from the same bytes, a store that proves every part's SHA-256 holds a file of the whole's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dpn.s3.digests import base64_of
from dpn.s3.plan import Part, PartPlan

Crc = Callable[[memoryview, int], int]


@dataclass(frozen=True)
class PartDigest:
    """One part's digests as hex."""

    part: Part
    sha256: str
    md5: str | None = None


@dataclass(frozen=True)
class Digests:
    """All that is needed to recognise a file in a store. Hex, but `crc64nvme` as stores show it."""

    plan: PartPlan
    sha256: str
    part_sha256: tuple[str, ...]
    crc64nvme: str | None = None
    etag: str | None = None


class Digester:
    """Takes digests part by part, in order. `crc64nvme` is the function to use, none to leave it out."""

    def __init__(self, plan: PartPlan, *, md5: bool = False, crc64nvme: Crc | None = None) -> None:
        self._plan = plan
        self._whole = hashlib.sha256()
        self._md5 = md5
        self._crc_function = crc64nvme
        self._crc = 0
        self._parts: list[PartDigest] = []

    def digest(self, part: Part, buffers: Iterable[memoryview]) -> PartDigest:
        """Reads the part's buffers to their end."""
        # One part is the whole: no need to reckon the same digest twice.
        sha256 = self._whole if self._plan.whole else hashlib.sha256()
        md5 = hashlib.md5(usedforsecurity=False) if self._md5 else None
        for buffer in buffers:
            sha256.update(buffer)
            if sha256 is not self._whole:
                self._whole.update(buffer)
            if md5:
                md5.update(buffer)
            if self._crc_function:
                self._crc = self._crc_function(buffer, self._crc)
        digest = PartDigest(part, sha256.hexdigest(), md5.hexdigest() if md5 else None)
        self._parts.append(digest)
        return digest

    def digests(self) -> Digests:
        """The digests of all, once every part has been read."""
        return Digests(
            plan=self._plan,
            sha256=self._whole.hexdigest(),
            part_sha256=tuple(part.sha256 for part in self._parts),
            crc64nvme=base64_of(f"{self._crc:016x}") if self._crc_function else None,
            etag=_etag([part.md5 for part in self._parts if part.md5]) if self._md5 else None,
        )


def _etag(part_md5: list[str]) -> str:
    if len(part_md5) == 1:
        return part_md5[0]
    return f"{hashlib.md5(bytes.fromhex(''.join(part_md5)), usedforsecurity=False).hexdigest()}-{len(part_md5)}"
