"""Digests as S3 spells them. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable


def composite_sha256(part_sha256: Iterable[str]) -> str:
    """The SHA-256 of the parts' SHA-256s as base64: S3's checksum of type COMPOSITE, without its count."""
    return base64_of(hashlib.sha256(bytes.fromhex("".join(part_sha256))).hexdigest())


def base64_of(digest_hex: str) -> str:
    """A digest as HTTP headers want it."""
    return base64.b64encode(bytes.fromhex(digest_hex)).decode("ascii")
