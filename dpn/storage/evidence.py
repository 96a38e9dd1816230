"""Whether what a store says of an object proves that it holds a given file. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dpn.s3.digests import base64_of, composite_sha256
from dpn.s3.plan import PartPlan
from dpn.storage.digests import Digests
from dpn.storage.stored_object import Capabilities, Proof, StoredObject
from models.manifests import Receipt, StoreChecksum


@dataclass(frozen=True)
class Proven:
    """The object is the file."""

    by: Proof
    checksum: StoreChecksum | None = None


@dataclass(frozen=True)
class Differs:
    """The object is another file."""

    why: str


@dataclass(frozen=True)
class Unproven:
    """The store says too little: only reading the object tells."""

    why: str


Judgement = Proven | Differs | Unproven


def judge(stored: StoredObject, expected: Digests, trusted: Capabilities) -> Judgement:
    """Compares the size, then the strongest of the store's checksums that can be trusted."""
    if stored.size != expected.plan.size:
        return Differs(f"it has {stored.size} bytes instead of {expected.plan.size}")
    judgement: Judgement = Unproven("the store shows no checksum of its own")
    if stored.checksum and _trusts(trusted, stored.checksum):
        judgement = _judge_checksum(stored, stored.checksum, expected)
    if isinstance(judgement, Unproven) and trusted.etag_is_md5 and stored.etag and expected.etag:
        judgement = _judge_etag(stored, stored.etag, expected)
    return judgement


def from_receipt(receipt: Receipt) -> tuple[Digests, Capabilities]:
    """What a receipt says was stored, and which of the store's words were found to be true then."""
    checksum = receipt.store_checksum
    digests = Digests(
        plan=PartPlan(receipt.size, receipt.part_size),
        sha256=receipt.sha256,
        part_sha256=tuple(receipt.part_sha256),
        crc64nvme=checksum.value if checksum and checksum.algorithm == "CRC64NVME" else None,
        etag=receipt.etag,
    )
    by_sha256 = checksum is not None and checksum.algorithm == "SHA256"
    return digests, Capabilities(
        refuses_wrong_sha256=by_sha256,
        shows_sha256=by_sha256,
        shows_crc64nvme=digests.crc64nvme is not None,
        etag_is_md5=receipt.confirmed_by == "etag",
    )


def _trusts(trusted: Capabilities, checksum: StoreChecksum) -> bool:
    if checksum.algorithm == "SHA256":
        return trusted.refuses_wrong_sha256 and trusted.shows_sha256
    return checksum.algorithm == "CRC64NVME" and trusted.shows_crc64nvme


def _judge_checksum(stored: StoredObject, checksum: StoreChecksum, expected: Digests) -> Judgement:
    wanted = _expected_value(checksum, expected)
    if wanted is None:
        return Unproven(f"its {checksum.algorithm} is of another kind than ours")
    # Composite checksums end in the number of parts, at most stores.
    if checksum.value in (wanted, wanted.partition("-")[0]):
        return Proven("store-checksums", checksum)
    why = f"its {checksum.algorithm} is {checksum.value} instead of {wanted}"
    return Differs(why) if checksum.type == "FULL_OBJECT" or _in_same_parts(stored, expected) else Unproven(why)


def _expected_value(checksum: StoreChecksum, expected: Digests) -> str | None:
    if checksum.algorithm == "CRC64NVME":
        return expected.crc64nvme if checksum.type == "FULL_OBJECT" else None
    if checksum.type == "FULL_OBJECT":
        return base64_of(expected.sha256)
    return f"{composite_sha256(expected.part_sha256)}-{expected.plan.count}"


def _judge_etag(stored: StoredObject, etag: str, expected: Digests) -> Judgement:
    wanted = expected.etag or ""
    if etag == wanted:
        return Proven("etag")
    why = f"its entity tag is {etag} instead of {wanted}"
    same_form = etag.partition("-")[2] == wanted.partition("-")[2]
    return Differs(why) if same_form and _in_same_parts(stored, expected) else Unproven(why)


def _in_same_parts(stored: StoredObject, expected: Digests) -> bool:
    """The same file sent in other parts has other composite checksums: that alone condemns nothing."""
    return stored.claimed_part_size == expected.plan.part_size
