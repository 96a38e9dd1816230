"""What a message says: an item's id, nothing else; whatever else arrives is refused."""

from __future__ import annotations

LARGEST_ID = 2**63 - 1


def item_id_in(body: bytes) -> int:
    """The item id that a message carries: a decimal number and nothing else. Raises ValueError."""
    if not body.isdigit() or len(body) > len(str(LARGEST_ID)) or int(body) > LARGEST_ID:
        raise ValueError(f"not an item id: {body[:64]!r}")
    return int(body)
