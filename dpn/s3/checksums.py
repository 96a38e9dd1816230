"""What a server says of an object's whole content, and what its bytes turned out to be."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from awscrt import checksums

OURS = "sha256"
"""Reckoned of every object while it is fetched: what a bag's manifest needs anyway proves the file until then."""

_FIELDS = {
    "ChecksumSHA512": "sha512",
    "ChecksumSHA256": "sha256",
    "ChecksumSHA1": "sha1",
    "ChecksumMD5": "md5",
    "ChecksumCRC64NVME": "crc64nvme",
    "ChecksumCRC32C": "crc32c",
    "ChecksumCRC32": "crc32",
}
_NEVER_OF_PARTS = "crc64nvme"
_MD5 = re.compile(r'"?([0-9a-f]{32})"?\Z')
_OF_PARTS = re.compile(r'-[0-9]+"?\Z')


def claimed(answer: Mapping[str, Any], etag: str, *, etags_are_checksums: bool) -> dict[str, str]:
    """By algorithm, in hexadecimal, what an answer to GET or HEAD says of the whole content.

    Not what is reckoned from its parts' checksums (S3's composite ones): that says nothing without knowing the
    parts; and no entity tag that depends on a key.
    """
    found: dict[str, str] = {}
    for field, algorithm in _FIELDS.items():
        value = answer.get(field)
        if value and _is_of_whole(value, algorithm, answer.get("ChecksumType"), etag):
            try:
                found[algorithm] = base64.b64decode(value, validate=True).hex()
            except binascii.Error:
                continue
    encrypted = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
    md5 = _MD5.match(etag)
    if md5 and etags_are_checksums and not encrypted and not answer.get("SSECustomerAlgorithm"):
        found["md5"] = md5[1]
    return found


class RunningDigests:
    """Of one object's bytes, from the first one on: those that are claimed, and ours."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self.size = 0
        self._hashers = {algorithm: _new(algorithm) for algorithm in {OURS, *algorithms}}

    def update(self, data: bytes) -> None:
        self.size += len(data)
        for hasher in self._hashers.values():
            hasher.update(data)

    def found(self) -> dict[str, str]:
        """By algorithm, in hexadecimal."""
        return {algorithm: hasher.hexdigest() for algorithm, hasher in self._hashers.items()}


class _Crc:
    """As hashlib has it, for a checksum that is a function of what came before."""

    def __init__(self, function: Callable[[bytes, int], int], digits: int) -> None:
        self._function = function
        self._digits = digits
        self._value = 0

    def update(self, data: Any) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return bytes.fromhex(self.hexdigest())

    def hexdigest(self) -> str:
        return f"{self._value:0{self._digits}x}"


_CRCS: dict[str, tuple[Callable[[bytes, int], int], int]] = {
    "crc64nvme": (checksums.crc64nvme, 16),
    "crc32c": (checksums.crc32c, 8),
    "crc32": (checksums.crc32, 8),
}


def _new(algorithm: str) -> Any:
    if algorithm in _CRCS:
        return _Crc(*_CRCS[algorithm])
    return hashlib.new(algorithm, usedforsecurity=algorithm != "md5")


def _is_of_whole(value: str, algorithm: str, kind: str | None, etag: str) -> bool:
    if "-" in value:
        return False
    if kind:
        return kind == "FULL_OBJECT"
    return algorithm == _NEVER_OF_PARTS or not _OF_PARTS.search(etag)
