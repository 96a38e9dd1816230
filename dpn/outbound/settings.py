"""The tables of what other nodes fetch from us: `[ingest.outbound.VOLUME]` and `[restore]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from dpn.setting_types import AbsolutePath, NamespaceName, Section
from dpn.storage.settings import Tier


class OutboundSettings(Section):
    """Where the bags of one staging volume lie for other nodes to fetch, and how those see them."""

    folder: AbsolutePath
    link: str
    form: Literal["hardlink", "symlink"] = "hardlink"

    @field_validator("link")
    @classmethod
    def _names_node_and_bag(cls, link: str) -> str:
        try:
            filled = link.format(node="the-node", bag="the-bag")
        except (KeyError, IndexError, ValueError):
            filled = ""
        if "the-bag.tar" not in filled:
            raise ValueError(
                "must say where {bag}.tar is fetched by {node}: dpn.{node}@dpn.example.org:outbound/{bag}.tar"
            )
        return link


class RestoreSettings(Section):
    """Which bags we hand back to other nodes that ask for them."""

    refuse: tuple[NamespaceName, ...] = ()
    max_bytes: Annotated[int, Field(ge=0)] = 0
    max_open_per_node: PositiveInt = 20
    keep_offered_days: PositiveFloat = 30.0
    retrieval_tier: Tier = "Bulk"
