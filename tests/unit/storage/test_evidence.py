"""When what a store says of an object is proof, and when it is not."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from dpn.s3.digests import base64_of, composite_sha256
from dpn.s3.plan import PartPlan
from dpn.storage.digests import Digester, Digests
from dpn.storage.evidence import Differs, Proven, Unproven, from_receipt, judge
from dpn.storage.s3.crc import crc64nvme
from dpn.storage.stored_object import Capabilities, StoredObject
from models.manifests import Receipt, StoreChecksum

NOW = datetime(2024, 1, 2, tzinfo=UTC)
CHECKS = Capabilities(refuses_wrong_sha256=True, shows_sha256=True)
ETAGS = Capabilities(etag_is_md5=True)
CRCS = Capabilities(shows_crc64nvme=True)
NOTHING = Capabilities()


def digests_of(content: bytes, part_size: int = 4) -> Digests:
    plan = PartPlan(len(content), part_size)
    digester = Digester(plan, md5=True, crc64nvme=crc64nvme)
    for part in plan.parts():
        digester.digest(part, [memoryview(content)[part.offset : part.offset + part.size]])
    return digester.digests()


OURS = digests_of(b"ten bytes.")
OTHER = digests_of(b"ten BYTES.")


def sha256(digests: Digests, kind: Literal["FULL_OBJECT", "COMPOSITE"] = "COMPOSITE") -> StoreChecksum:
    value = f"{composite_sha256(digests.part_sha256)}-{digests.plan.count}"
    return StoreChecksum(
        algorithm="SHA256", value=base64_of(digests.sha256) if kind == "FULL_OBJECT" else value, type=kind
    )


def crc(digests: Digests) -> StoreChecksum:
    return StoreChecksum(algorithm="CRC64NVME", value=digests.crc64nvme or "", type="FULL_OBJECT")


def stored(**changes: Any) -> StoredObject:
    values: dict[str, Any] = {"key": "k", "size": 10, "modified_at": NOW, "metadata": {"part_size": "4"}}
    return StoredObject(**{**values, **changes})


@pytest.mark.parametrize(
    ("shown", "trusted", "by"),
    [
        (stored(checksum=sha256(OURS)), CHECKS, "store-checksums"),
        (stored(checksum=sha256(OURS, "FULL_OBJECT")), CHECKS, "store-checksums"),
        (stored(checksum=crc(OURS)), CRCS, "store-checksums"),
        (stored(etag=OURS.etag), ETAGS, "etag"),
        (stored(etag=OURS.etag, checksum=sha256(OTHER)), ETAGS, "etag"),
    ],
)
def test_a_checksum_that_can_be_trusted_proves_the_copy(
    shown: StoredObject, trusted: Capabilities, by: str
) -> None:
    judgement = judge(shown, OURS, trusted)

    assert isinstance(judgement, Proven)
    assert judgement.by == by
    assert judgement.checksum == (shown.checksum if by == "store-checksums" else None)


@pytest.mark.parametrize(
    ("shown", "trusted"),
    [
        (stored(size=9, checksum=sha256(OURS)), CHECKS),
        (stored(checksum=sha256(OTHER)), CHECKS),
        (stored(checksum=sha256(OTHER, "FULL_OBJECT"), metadata={}), CHECKS),
        (stored(checksum=crc(OTHER), metadata={}), CRCS),
        (stored(etag=OTHER.etag), ETAGS),
    ],
)
def test_a_checksum_that_can_be_trusted_condemns_another_content(
    shown: StoredObject, trusted: Capabilities
) -> None:
    assert isinstance(judge(shown, OURS, trusted), Differs)


@pytest.mark.parametrize(
    ("shown", "trusted"),
    [
        (stored(), CHECKS),
        (stored(checksum=sha256(OURS), etag=OURS.etag), NOTHING),
        (stored(checksum=sha256(OTHER), etag=OTHER.etag), NOTHING),
        (stored(checksum=sha256(OURS)), Capabilities(refuses_wrong_sha256=True)),
        (stored(checksum=sha256(OURS)), Capabilities(shows_sha256=True)),
        (stored(checksum=crc(OURS)), CHECKS),
        (stored(checksum=sha256(digests_of(b"ten bytes.", 3)), metadata={"part_size": "3"}), CHECKS),
        (stored(checksum=sha256(digests_of(b"ten bytes.", 3)), metadata={}), CHECKS),
        (stored(etag=digests_of(b"ten bytes.", 3).etag, metadata={}), ETAGS),
        (stored(etag=hashlib.md5(b"ten bytes.").hexdigest()), ETAGS),  # noqa: S324
    ],
)
def test_what_cannot_be_trusted_or_is_of_other_parts_neither_proves_nor_condemns(
    shown: StoredObject, trusted: Capabilities
) -> None:
    assert isinstance(judge(shown, OURS, trusted), Unproven)


@pytest.mark.parametrize("claim", ["", "-4", "4.0", "٤", "4" * 30, "four", " 4"])
def test_a_part_size_that_is_no_number_is_no_claim(claim: str) -> None:
    assert stored(metadata={"part_size": claim}).claimed_part_size is None


def receipt(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "store": "main",
        "url": "s3://b/k",
        "key": "k",
        "size": 10,
        "sha256": OURS.sha256,
        "part_size": 4,
        "part_sha256": list(OURS.part_sha256),
        "etag": OURS.etag,
        "confirmed_at": NOW,
        "confirmed_by": "store-checksums",
    }
    return Receipt(**{**values, **changes})


@pytest.mark.parametrize(
    ("kept", "shown", "outcome"),
    [
        (receipt(store_checksum=sha256(OURS)), stored(checksum=sha256(OURS)), Proven),
        (receipt(store_checksum=sha256(OURS)), stored(checksum=sha256(OTHER)), Differs),
        (receipt(store_checksum=crc(OURS)), stored(checksum=crc(OURS)), Proven),
        (receipt(store_checksum=crc(OURS)), stored(checksum=crc(OTHER)), Differs),
        (receipt(confirmed_by="etag"), stored(etag=OURS.etag), Proven),
        (receipt(confirmed_by="etag"), stored(etag=OTHER.etag), Differs),
        (receipt(confirmed_by="read-back"), stored(etag=OURS.etag, checksum=sha256(OURS)), Unproven),
        (receipt(store_checksum=sha256(OURS), confirmed_by="read-back"), stored(checksum=sha256(OURS)), Proven),
    ],
)
def test_a_receipt_is_judged_by_what_was_found_trustworthy_when_it_was_made(
    kept: Receipt, shown: StoredObject, outcome: type
) -> None:
    assert isinstance(judge(shown, *from_receipt(kept)), outcome)


def test_composite_checksums_are_made_from_the_parts_digests() -> None:
    """As AWS describes it: the digest of the digests, then the number of parts."""
    parts = b"".join(hashlib.sha256(part).digest() for part in (b"ten ", b"byte", b"s."))

    assert sha256(OURS).value == base64.b64encode(hashlib.sha256(parts).digest()).decode() + "-3"
