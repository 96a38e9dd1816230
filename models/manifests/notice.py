"""What tells another node that a transfer between us was given up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.manifests.base import ItemManifest


class NoticeManifest(ItemManifest):
    """A cancellation that we owe the owner of a transfer: of a replication to us, or of a restore from us."""

    kind: Literal["replication", "restore"] = "replication"
    replication_id: str
    """The transfer's id, whichever kind it is."""
    cancel_reason: Literal["reject", "bag_invalid", "fixity_reject", "other"]
    cancel_reason_detail: str = Field(max_length=255)
    caused_by_item: int | None
    """None for what was declined before there was an item."""
