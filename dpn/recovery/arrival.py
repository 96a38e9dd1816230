"""Receives a bag that another node hands back, and judges it: what comes is hostile until it is proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpn.bags.identity import read_identity
from dpn.bags.validation.profiles import Profile
from dpn.bags.validation.settings import ValidationSettings
from dpn.bags.validation.verdict import judge
from dpn.cancellation import Cancellation
from dpn.errors import LinkRefused, NotABag
from dpn.recovery.errors import NotOffered
from dpn.registry.records import PROTOCOL, RestoreRecord
from dpn.transfer.link import parse_link
from dpn.transfer.rsync import FetchResult, fetch
from dpn.transfer.settings import RsyncSource, TransferSettings
from models.manifests import ValidationResult

SIZE_SLACK_BYTES = 1024**3
"""How much larger than its record a bag may be where `transfer.size_mismatch` is `warn`."""

REPACKED_SLACK_BYTES = 16 * 1024**2
REPACKED_SLACK_SHARE = 50
"""How much larger than the registered bag a tar may be that its holder has packed anew: so many bytes, and this
part of its size. Other headers take some hundred bytes a file."""

UNPROVEN = (
    "its tag manifest does not list its payload manifest, so the registered digest does not prove the payload, "
    "and we keep no copy with the same SHA-256"
)


@dataclass(frozen=True)
class Judged:
    """A bag that came, and what is wrong with it: nothing if it is the one that was asked for, whole and valid."""

    validation: ValidationResult
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.problems


def receive(
    record: RestoreRecord,
    destination: Path,
    *,
    source: RsyncSource,
    transfer: TransferSettings,
    size: int,
    cancellation: Cancellation,
    progress: Callable[[int], None] | None = None,
    keep_open: tuple[int, ...] = (),
) -> FetchResult:
    """Fetches the bag from where the request's link says into `destination`; a second try goes on with the first.

    `source` is where the node that was asked may have its bags: a link that leads elsewhere is refused. No more
    bytes come than the registered `size` (and some slack where transfer.size_mismatch is `warn`). What came is not
    judged yet. Raises NotOffered, LinkRefused, and what dpn.transfer.fetch does, service `rsync:<node>`.
    """
    if record.link is None:
        raise NotOffered(f"{record.from_node} has not said yet where bag {record.bag} lies")
    if record.protocol != PROTOCOL:
        raise LinkRefused(
            "protocol", f"request {record.restore_id} is for {record.protocol}: we only speak {PROTOCOL}"
        )
    return fetch(
        parse_link(record.link, source, bag=record.bag),
        destination,
        service=f"rsync:{record.from_node}",
        settings=transfer,
        source=source,
        max_bytes=size + (SIZE_SLACK_BYTES if transfer.size_mismatch == "warn" else 0),
        cancellation=cancellation,
        keep_open=keep_open,
        progress=progress,
    )


def judge_received(
    path: Path,
    *,
    bag: str,
    size: int | None,
    tag_manifest_sha256: str | None,
    profile: Profile | None,
    validation: ValidationSettings,
    cancellation: Cancellation,
    known_sha256: str | None = None,
    accept_unproven: bool = False,
) -> Judged:
    """Whether the tar (or folder) at `path` is the bag that was asked for: reads all of it.

    It must be a valid bag by the profile, say of itself that it is `bag`, have the registered `size` (none: any)
    and the registered digest of its tag manifest, without which nothing shows what it is. The file must be called
    as the bag is. The digest must prove the payload, too, or else the tar be the one that `known_sha256` tells:
    who gave it may have changed payload and payload manifest. `accept_unproven`: not even that.
    Raises OSError, BagChanged, and what `cancellation` was given: an I/O error is never a verdict.
    """
    judged = judge(path, profile, validation, cancellation)
    known = known_sha256 is not None and judged.sha256 == known_sha256
    judged = judged.model_copy(update={"payload_proven": bool(judged.payload_proven) or known})
    problems = [] if judged.valid else [f"the bag is invalid: {judged.first_error}"]
    problems += _another_bag(path, bag) + _another_size(path, size)
    if tag_manifest_sha256 is None:
        problems.append("our registry has no digest of its tag manifest: nothing shows that it is the bag")
    elif judged.tag_manifest_sha256 != tag_manifest_sha256.lower():
        has = judged.tag_manifest_sha256 or "none that could be read"
        problems.append(f"its tag manifest has digest {has}, registered is {tag_manifest_sha256}")
    if judged.valid and not judged.payload_proven and not accept_unproven:
        problems.append(UNPROVEN)
    return Judged(judged, tuple(problems))


def is_same_content(judged: ValidationResult, tag_manifest_sha256: str) -> bool:
    """Whether the tag manifest of this digest proves every file of the bag: then it is the same bag, whatever tar
    it was packed into. The digest has to be one that we took ourselves, of the bag as it was."""
    return (
        judged.valid
        and judged.payload_proven is True
        and judged.tags_proven is True
        and judged.tag_manifest_sha256 == tag_manifest_sha256.lower()
    )


def repacked_size(size: int) -> int:
    """The most bytes that a bag of `size` may have in another tar."""
    return size + REPACKED_SLACK_BYTES + size // REPACKED_SLACK_SHARE


def _another_bag(path: Path, bag: str) -> list[str]:
    try:
        says = read_identity(path).uuid
    except NotABag as error:
        return [f"it does not say which bag it is: {error}"]
    return [] if says.lower() == bag else [f"it says that it is bag {says[:100]!a}, not {bag}"]


def _another_size(path: Path, size: int | None) -> list[str]:
    if size is None or path.is_dir():
        return []
    has = path.stat().st_size
    return [] if has == size else [f"it has {has} bytes, registered are {size}"]
