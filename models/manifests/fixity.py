"""What carries our own copy of a bag back from its store, to prove it."""

from __future__ import annotations

from datetime import datetime

from models.manifests.base import BagManifest, Manifest, Receipt


class CopyFacts(Manifest):
    """The copy that is to be read, as it was known when the item was made."""

    bag: str
    store: str
    key: str
    size: int
    sha256: str
    tag_manifest_sha256: str
    receipt: Receipt


class RestoreRequest(Manifest):
    """What was asked of a cold store."""

    tier: str
    days: int
    requested_at: datetime
    taken: bool = False
    """Whether the store is known to have taken the request."""


class CheckManifest(BagManifest):
    """A fixity check's state: which copy, how it was fetched, what was found. It makes no receipt."""

    copied: CopyFacts
    check_id: str | None = None
    """The id that its FixityCheck record gets; none: the item's identifier."""
    away: bool = False
    """Whether the copy is brought to a staging volume even where it could be read in place."""
    restore: RestoreRequest | None = None
    readable_until: datetime | None = None
    """When what was restored from cold storage goes cold again."""
    in_place: bool = False
    """Whether the copy is read where it lies."""
    began_at: datetime | None = None
    """When the reading began that the verdict comes from."""
    found: str | None = None
    """What is wrong with the copy; None while nothing is known to be."""
    judged: bool = False
    """Whether the verdict stands: bad if anything was found. It is not taken again."""
    recorded: bool = False
    """Whether the FixityCheck record is in our registry."""

    @property
    def needs_no_staging(self) -> bool:
        """Whether all that is left to do is to say what was found."""
        return self.judged

    def forget_staged(self) -> None:
        """What was staged is gone. A verdict outlives the bytes that it was taken from."""
        self.staged = None
        if not self.judged:
            self.validation = None
