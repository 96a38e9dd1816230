"""What is to be done with one object, by what is known of both ends: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from dpn.objects.root import ObjectInfo

SAME_TIME = timedelta(seconds=1)
"""Some file systems and stores keep whole seconds."""


class Overwrite(StrEnum):
    """What happens to an object that is at the target already."""

    IF_DIFFERENT = "if_different"
    NEVER = "never"
    ALWAYS = "always"


class Verification(StrEnum):
    """What must be found of a copy before it counts."""

    NONE = "none"
    SIZE = "size"
    CHECKSUM = "checksum"
    """A checksum of all its bytes that the target itself has compared, or shows."""
    FULL_READ = "full_read"
    """SHA-256 of what was read at the source, and of what is read back from the target."""


class Verdict(StrEnum):
    """What follows."""

    COPY = "copy"
    SKIP = "skip"
    REFUSE = "refuse"


def judge(source: ObjectInfo, target: ObjectInfo | None, overwrite: Overwrite) -> Verdict:
    """Whether an object is to be copied to where `target` is, if anything is."""
    if target is None or overwrite is Overwrite.ALWAYS:
        return Verdict.COPY
    if is_same(source, target):
        return Verdict.SKIP
    return Verdict.REFUSE if overwrite is Overwrite.NEVER else Verdict.COPY


def is_same(source: ObjectInfo, target: ObjectInfo) -> bool:
    """Whether both count as the same content: equal size and hashes, or size and time where no hash is known of
    both."""
    if source.size != target.size:
        return False
    if common := source.hashes.keys() & target.hashes.keys():
        return all(source.hashes[name].lower() == target.hashes[name].lower() for name in common)
    return abs(source.modified_at - target.modified_at) <= SAME_TIME


def differing_hash(wanted: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first algorithm by which they differ; None if they are equal in all that both know."""
    common = sorted(wanted.keys() & found.keys())
    return next((name for name in common if wanted[name].lower() != found[name].lower()), None)
