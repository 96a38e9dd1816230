"""What is claimed of an object's whole content: by check values that everybody knows."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

pytest.importorskip("boto3")

from dpn.s3.checksums import RunningDigests, claimed

CONTENT = b"123456789"
MD5, PARTS = f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"', '"25f9e794323b453885f5181f1b624d0b-2"'
CHECK = {
    "CRC64NVME": "ae8b14860a799888",
    "CRC32C": "e3069283",
    "CRC32": "cbf43926",
    **{name.upper(): hashlib.new(name, CONTENT).hexdigest() for name in ("sha1", "sha256", "sha512", "md5")},
}


def said(algorithm: str, **more: Any) -> dict[str, Any]:
    return {f"Checksum{algorithm}": base64.b64encode(bytes.fromhex(CHECK[algorithm])).decode(), **more}


@pytest.mark.parametrize("algorithm", CHECK)
@pytest.mark.parametrize("sizes", [(9,), (1, 8), (4, 0, 5)])
def test_what_is_claimed_of_the_whole_is_what_its_bytes_give(algorithm: str, sizes: tuple[int, ...]) -> None:
    claims = claimed(said(algorithm, ChecksumType="FULL_OBJECT"), PARTS, etags_are_checksums=True)
    assert claims == {algorithm.lower(): CHECK[algorithm]}
    digests, at = RunningDigests(claims), 0
    for size in sizes:
        digests.update(CONTENT[at : at + size])
        at += size
    assert digests.found() == {**claims, "sha256": CHECK["SHA256"]}
    assert digests.size == len(CONTENT)


@pytest.mark.parametrize(
    ("answer", "etag"),
    [
        (said("CRC32", ChecksumType="COMPOSITE"), PARTS),
        (said("SHA256", ChecksumType="COMPOSITE"), PARTS),
        ({"ChecksumCRC32": "Nq9tsQ==-2"}, PARTS),
        ({"ChecksumCRC32": "Nq9tsQ==-2", "ChecksumType": "FULL_OBJECT"}, PARTS),
        (said("SHA256"), PARTS),
        ({"ChecksumCRC32": "no base64"}, PARTS),
        ({}, PARTS),
        ({"ServerSideEncryption": "aws:kms"}, MD5),
        ({"SSECustomerAlgorithm": "AES256"}, MD5),
    ],
)
def test_what_says_nothing_of_the_whole_is_no_claim(answer: dict[str, Any], etag: str) -> None:
    assert claimed(answer, etag, etags_are_checksums=True) == {}


def test_servers_that_tell_no_type_are_believed_where_there_is_but_one() -> None:
    assert claimed(said("CRC32"), MD5, etags_are_checksums=False) == {"crc32": CHECK["CRC32"]}
    assert claimed(said("CRC64NVME"), PARTS, etags_are_checksums=True) == {"crc64nvme": CHECK["CRC64NVME"]}


def test_an_entity_tag_is_an_md5_only_where_the_operator_says_so() -> None:
    assert claimed({}, MD5, etags_are_checksums=True) == {"md5": CHECK["MD5"]}
    assert claimed({}, MD5, etags_are_checksums=False) == {}
