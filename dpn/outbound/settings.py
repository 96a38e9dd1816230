"""The tables of what other nodes fetch from us: `[ingest.outbound.VOLUME]` and `[restore]`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from dpn.setting_types import AbsolutePath, NamespaceName, Section
from dpn.storage.settings import Tier


class OutboundSettings(Section):
    """Where the bags of one staging volume lie for other nodes to fetch, and how those see them."""

    folder: AbsolutePath
    link: str
    form: Literal["hardlink", "symlink"] = "hardlink"
    group: str | None = None
    """Of the system: who alone, besides our own user, may look into a node's folder."""

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

    @field_validator("group")
    @classmethod
    def _is_a_nodes_own(cls, group: str | None) -> str | None:
        if group is not None and (group.count("{node}"), group.count("{"), group.count("}")) != (1, 1, 1):
            raise ValueError("must have {node} in it, once: dpn.{node}")
        return group

    @model_validator(mode="after")
    def _hides_nothing_that_must_be_seen(self) -> Self:
        if self.group is not None and self.form == "symlink":
            raise ValueError("group: the nodes' accounts must see .bags, too, with form symlink: say hardlink")
        return self


class RestoreSettings(Section):
    """Which bags we hand back to other nodes that ask for them."""

    refuse: tuple[NamespaceName, ...] = ()
    max_bytes: Annotated[int, Field(ge=0)] = 0
    max_open_per_node: PositiveInt = 20
    keep_offered_days: PositiveFloat = 30.0
    retrieval_tier: Tier = "Bulk"
