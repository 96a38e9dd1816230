"""What carries our own copy of a bag to a node that asks for it."""

from __future__ import annotations

from datetime import datetime

from models.manifests.base import Manifest
from models.manifests.fixity import CheckManifest


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
    allowed_by: str | None = None
    """The operator who said yes to a node that has no right of its own to the bag."""
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

    def try_again(self) -> None:
        """The node that asked has all the time again to fetch the bag."""
        super().try_again()
        self.delivered_at = None

    def read_again(self) -> None:
        """Forgets a verdict that was good: the next one is another check, with an id of its own."""
        self.staged = self.validation = self.check_id = None
        self.judged = self.recorded = self.delivered = False
