"""A packaged bag that lies there already: of an attempt that died after naming it. It is proven anew."""

from __future__ import annotations

from pathlib import Path

from dpn.bags.hash_threads import OnProgress
from dpn.bags.identity import BagIdentity, read_identity
from dpn.bags.report import Report
from dpn.bags.validation.profiles import STRICT, load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import NotABag
from dpn.packaging.description import Description, Packaged

AS_PEERS_MAKE_THEM = "dpn"


def finished(
    description: Description, folder: Path, progress: OnProgress | None, cancellation: Cancellation
) -> Packaged | None:
    """The bag, if it is there, valid, and the one that is described. What else has its name is removed.

    Raises SourceRefused if that name is not a bag's: then nothing is looked at.
    """
    path = folder / description.tar_name()
    if not path.exists():
        return None
    try:
        identity = read_identity(path)
        report = judged(description, path, progress, cancellation)
    except NotABag:
        identity, report = None, None
    if report is None or identity is None or not report.valid or difference(description, identity) is not None:
        path.unlink()
        return None
    return packaged(path, report)


def judged(
    description: Description, path: Path, progress: OnProgress | None, cancellation: Cancellation
) -> Report:
    """What is to be said of the tar: what we build is held to the letter, what is taken as it is to the network's
    rules. Raises NotABag, BagChanged, OSError."""
    profile = load_profile(AS_PEERS_MAKE_THEM if description.as_is else STRICT)
    return validate(path, profile=profile, whole_file_sha256=True, progress=progress, cancellation=cancellation)


def difference(description: Description, identity: BagIdentity) -> str | None:
    """What the bag says otherwise than it was deposited, None if nothing. What a bag that is taken as it is says
    of its member is not asked: the original network's bags do not name one."""
    first = description.first_version_uuid or description.bag
    pairs: list[tuple[str, object, object]] = [
        ("uuid", identity.uuid.lower(), description.bag),
        ("local id", identity.local_id, description.local_id),
        ("version", identity.version, description.version),
        ("first version", identity.first_version_uuid.lower(), first),
        ("bag type", identity.bag_type, description.bag_type),
    ]
    if not description.as_is:
        pairs += [
            ("member", identity.member, description.member),
            ("ingest node", identity.ingest_node, description.ingest_node),
            ("rights", identity.rights, description.rights),
            ("interpretive", identity.interpretive, description.interpretive),
        ]
    for name, said, wanted in pairs:
        if said != wanted:
            return f"{name} is {said!r}, deposited was {wanted!r}"
    return None


def packaged(path: Path, report: Report) -> Packaged:
    """The answer for a valid tar."""
    assert report.sha256 is not None  # noqa: S101 - a valid tar was read to its end
    assert report.tag_manifest_sha256 is not None  # noqa: S101 - the profiles ask for one
    return Packaged(
        path=path,
        size=path.stat().st_size,
        sha256=report.sha256,
        tag_manifest_sha256=report.tag_manifest_sha256,
        files=report.files,
        payload_bytes=report.bytes,
        report=report,
    )
