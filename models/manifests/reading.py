"""What carries our own copy of a bag back from its store: to check it, or to give it to another node."""

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
    """What is wrong with the copy; none while nothing is known to be."""
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


class RestoreFacts(Manifest):
    """What we accepted of a restore transfer; a later change of any of these stops the item."""

    restore_id: str
    from_node: str
    to_node: str
    bag: str
    protocol: str


class RestoreManifest(CheckManifest):
    """A bag for a node that asked for it: our copy, read and judged as in a check, then delivered."""

    transfer: RestoreFacts
    accepted: bool = False
    """Whether the requester has been told that it will get the bag."""
    link: str | None = None
    """Where the bag lies for the requester; noted before it lies there."""
    delivered: bool = False
    """Whether the requester has the link."""
    delivered_at: datetime | None = None
    """When it first had it."""

    @property
    def needs_no_staging(self) -> bool:
        """Whether the requester fetches what is offered, or there is nothing to offer."""
        return self.delivered or (self.judged and self.found is not None)

    @property
    def is_evidence(self) -> bool:
        """A good copy that nobody fetched is none: it is in the store."""
        return self.found is not None

    def forget_staged(self) -> None:
        """What was staged is gone, and is not offered: a good copy has to be read and judged again."""
        self.staged = None
        if self.found is None and not self.delivered:
            self.read_again()

    def read_again(self) -> None:
        """Forgets a verdict that was good: the next one is another check, with an id of its own."""
        self.staged = self.validation = self.check_id = None
        self.judged = self.recorded = self.delivered = False
