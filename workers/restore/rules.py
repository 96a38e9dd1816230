"""Whether we hand a bag back to a node that asks for it: pure.

Declined are nodes that the operator refuses, or has no agreement with where there are agreements; ways that we do
not offer; bags that we have no copy of, and those larger than is handed out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dpn.outbound.settings import RestoreSettings
from dpn.registry.records import PROTOCOL


@dataclass(frozen=True)
class Asked:
    """What a node asks for. `size`: the bytes of our copy, None if we have none."""

    to_node: str
    protocol: str
    size: int | None


def refusal(asked: Asked, settings: RestoreSettings, restore_to: Collection[str]) -> str | None:
    """Why we decline, in words for the node that asks; None if we do not. `restore_to`: of our own node record."""
    if asked.to_node in settings.refuse:
        return "we do not hand bags to this node"
    if restore_to and asked.to_node not in restore_to:
        return "we have no agreement to restore bags to this node"
    if asked.protocol != PROTOCOL:
        return f"we hand bags out by {PROTOCOL} only"
    if asked.size is None:
        return "we keep no copy of this bag"
    if settings.max_bytes and asked.size > settings.max_bytes:
        return f"the bag has {asked.size} bytes: we hand out no more than {settings.max_bytes}"
    return None
