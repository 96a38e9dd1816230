"""Text for people that may quote another node: made safe for a terminal, a log and a database."""

from __future__ import annotations

MAX_NOTE_CHARACTERS = 4000


def printable(text: str, max_characters: int = MAX_NOTE_CHARACTERS) -> str:
    """The text without what a terminal would obey or a database refuses (PostgreSQL: NUL; both: surrogates)."""
    shown = (c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:max_characters])
    return "".join(shown)
