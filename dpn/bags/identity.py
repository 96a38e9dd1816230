"""What a copy needs to know of a bag before it is validated, read in place: its fixity and who it says it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dpn.bags.errors import NotABag
from dpn.bags.findings import Findings
from dpn.bags.hash_threads import READ_BYTES
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.walk import TarMember, TarWalk
from dpn.bags.validation.tags import Declaration, Tags, read_tags
from dpn.cancellation import Cancellation

DPN_INFO = "dpn-tags/dpn-info.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
_ASKED = (
    "DPN-Object-ID", "Local-ID", "Version-Number", "First-Version-Object-ID", "Bag-Type", "Ingest-Node-Name",
    "Interpretive-Object-ID", "Rights-Object-ID", "Member-ID",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BagIdentity:
    """Who a bag says it is, from dpn-info.txt: a claim, no proof. `bag_type` is data, interpretive or rights."""

    uuid: str
    local_id: str
    version: int
    first_version_uuid: str
    bag_type: str
    ingest_node: str
    interpretive: tuple[str, ...] = ()
    rights: tuple[str, ...] = ()
    member: str | None = None


def tag_manifest_sha256(path: Path, bag_name: str, *, cancellation: Cancellation | None = None) -> str:
    """The bag's DPN fixity: the SHA-256 of `<bag_name>/tagmanifest-sha256.txt` in a tar.

    Reads the headers up to that file, and the file, in the memory of one chunk. Raises NotABag if it is not there
    or the tar is damaged before it; OSError.
    """
    with TarFile(path) as tar:
        member = _find(tar, f"{bag_name}/{TAG_MANIFEST}".encode(), cancellation)
        hasher = sha256()
        for chunk in tar.chunks(member.offset, member.size):
            hasher.update(chunk)
            if cancellation is not None:
                cancellation.check()
        return hasher.hexdigest()


def read_identity(path: Path) -> BagIdentity:
    """Who the bag in a folder or tar says it is. Raises NotABag if it does not say; OSError."""
    tags = _dpn_info(path)
    version = _required(tags, "Version-Number", path)
    if not (version.isascii() and version.isdigit() and 0 < int(version[:10]) < 10**9):
        raise NotABag(f"{path}: Version-Number in {DPN_INFO} is {version[:40]!r}, not a positive number")
    return BagIdentity(
        uuid=_required(tags, "DPN-Object-ID", path),
        local_id=_required(tags, "Local-ID", path),
        version=int(version),
        first_version_uuid=_required(tags, "First-Version-Object-ID", path),
        bag_type=_required(tags, "Bag-Type", path).lower(),
        ingest_node=_required(tags, "Ingest-Node-Name", path),
        interpretive=tuple(filter(None, tags.values("Interpretive-Object-ID"))),
        rights=tuple(filter(None, tags.values("Rights-Object-ID"))),
        member=tags.first("Member-ID") or None,
    )


def _dpn_info(path: Path) -> Tags:
    chunks = _from_folder(path) if path.is_dir() else _from_tar(path)
    findings = Findings()
    tags = read_tags(chunks, DPN_INFO.encode(), Declaration(), findings, _ASKED)
    if findings.errors:
        raise NotABag(f"{path}: {DPN_INFO} cannot be read: {findings.kept()[0].message}")
    return tags


def _from_folder(path: Path) -> Iterator[bytes]:
    try:
        fd = os.open(path / DPN_INFO, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotABag(f"{path} has no {DPN_INFO}") from None
    with os.fdopen(fd, "rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


def _from_tar(path: Path) -> Iterator[bytes]:
    with TarFile(path) as tar:
        member = _find(tar, DPN_INFO.encode(), None, below_root=True)
        yield from tar.chunks(member.offset, member.size)


def _find(
    tar: TarFile, wanted: bytes, cancellation: Cancellation | None, *, below_root: bool = False
) -> TarMember:
    tar.require_tar()
    findings = Findings()
    for member in TarWalk(tar, findings):
        if cancellation is not None:
            cancellation.check()
        if member.is_file and wanted == (member.name.partition(b"/")[2] if below_root else member.name):
            return member
    errors = [finding.message for finding in findings.kept() if finding.code != "tar-end-missing"]
    reason = f" ({errors[0]})" if errors else ""
    raise NotABag(f"{tar.path} has no {wanted.decode()}{reason}")


def _required(tags: Tags, label: str, path: Path) -> str:
    value = tags.first(label)
    if not value:
        raise NotABag(f"{path}: {DPN_INFO} does not say {label}")
    return value
