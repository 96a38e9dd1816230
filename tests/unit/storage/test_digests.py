"""Digests of a file and of its parts from one reading; compared with the plain ones."""

from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from dpn.s3.digests import composite_sha256
from dpn.s3.plan import PartPlan
from dpn.storage.digests import Digester
from dpn.storage.s3.crc import crc64nvme


@given(st.binary(max_size=200), st.integers(1, 70), st.integers(1, 30))
def test_digests_are_those_of_the_whole_and_of_every_part(
    content: bytes, part_size: int, buffer_size: int
) -> None:
    plan = PartPlan(len(content), part_size)
    digester = Digester(plan, md5=True, crc64nvme=crc64nvme)
    for part in plan.parts():
        piece = memoryview(content)[part.offset : part.offset + part.size]
        digester.digest(part, [piece[at : at + buffer_size] for at in range(0, len(piece), buffer_size)])

    digests = digester.digests()

    pieces = [content[at : at + part_size] for at in range(0, len(content), part_size)] or [b""]
    assert digests.sha256 == hashlib.sha256(content).hexdigest()
    assert list(digests.part_sha256) == [hashlib.sha256(piece).hexdigest() for piece in pieces]
    assert digests.crc64nvme == base64.b64encode(crc64nvme(memoryview(content), 0).to_bytes(8, "big")).decode()
    md5s = [hashlib.md5(piece).digest() for piece in pieces]  # noqa: S324
    assert digests.etag == (
        md5s[0].hex() if len(md5s) == 1 else f"{hashlib.md5(b''.join(md5s)).hexdigest()}-{len(md5s)}"  # noqa: S324
    )
    sha256s = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    assert composite_sha256(digests.part_sha256) == base64.b64encode(hashlib.sha256(sha256s).digest()).decode()


def test_crc64nvme_is_the_published_one() -> None:
    """The check value of CRC-64/NVME in the NVM Express NVM Command Set specification, §5.2.1.3.4."""
    assert crc64nvme(memoryview(b"123456789"), 0) == 0xAE8B14860A799888
    assert crc64nvme(memoryview(b"456789"), crc64nvme(memoryview(b"123"), 0)) == 0xAE8B14860A799888
