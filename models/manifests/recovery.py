"""What carries a good copy of a bag from another node to us: to repair ours, or to see that it can be had."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from models.manifests.base import BagManifest, Manifest
from models.manifests.fixity import CopyFacts


class AskedNode(Manifest):
    """A node that was asked for its copy, under a restore transfer of ours; kept before the transfer is made."""

    node: str
    restore_id: str
    asked_at: datetime
    round: int = 0
    """Of which round of asking it is: see `RecoveryManifest.retries`."""
    ended: str | None = None
    """Why nothing came of it; None while it may still come."""


class RecoveryManifest(BagManifest):
    """A recovery's state: which bag, why, who was asked, what came. A repair's receipt is of the new object."""

    bag: str
    size: int
    tag_manifest_sha256: str
    """The digest that what comes must have: the registered one."""
    purpose: Literal["repair", "drill"]
    bad: CopyFacts | None = None
    """A repair's: our copy that was found bad."""
    found: str | None = None
    """A repair's: what was found wrong with it, in the words of the check."""
    only_node: str | None = None
    """A drill's: the node that is tried; no other one is asked."""
    found_at: datetime | None = None
    """A repair's: when the reading began that found it; None if no reading has. What lies there since later was
    not read."""
    asked: list[AskedNode] = Field(default_factory=list)
    retries: int = 0
    """How often an operator had the item tried again: each time, those that gave nothing may be asked anew."""
    replacing: bool = False
    """A repair's: whether our copy may have been replaced already, by a worker that died before saying so."""
    good_again: bool = False
    """A repair's: whether our copy was good by itself when it was to be replaced, and was left as it is."""
    kept_version: str | None = None
    """A repair's: the version of the bad object that the bucket's history keeps."""
    replaced: bool = False
    """A repair's: whether the new object is in our books."""
    check_item: int | None = None
    """A repair's: the item that checks the new object."""
    finished: bool = False
    """Whether the node that gave the bag knows that we have it."""

    @property
    def asking(self) -> AskedNode | None:
        """The node that was asked last or, once one offers the bag, that one; None if nothing comes of it."""
        return self.asked[-1] if self.asked and self.asked[-1].ended is None else None

    @property
    def hopes(self) -> list[AskedNode]:
        """All that were asked and of whom something may still come, in the order in which they were asked."""
        return [one for one in self.asked if one.ended is None]

    @property
    def is_repacked(self) -> bool:
        """A repair's: whether what came is the bag in another tar than the one that we had stored."""
        bad, judged = self.bad, self.validation
        return bad is not None and judged is not None and bad.sha256 != judged.sha256

    def turn_to(self, asked: AskedNode) -> None:
        """It is this node's bag that is fetched."""
        self.asked = [*(one for one in self.asked if one.restore_id != asked.restore_id), asked]

    @property
    def tried(self) -> list[AskedNode]:
        """Who has been asked in this round."""
        return [one for one in self.asked if one.round == self.retries]

    @property
    def needs_no_staging(self) -> bool:
        """Whether what came has been put where it belongs, or has been proven and is needed no more."""
        return self.receipt is not None or self.finished

    def try_again(self) -> None:
        super().try_again()
        self.retries += 1
