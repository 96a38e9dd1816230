"""Text for people that may quote another node: made safe for a terminal, a log and a database."""

from __future__ import annotations

from dpn.text import replaced

MAX_NOTE_CHARACTERS = 4000


def printable(text: str, max_characters: int = MAX_NOTE_CHARACTERS) -> str:
    """The text on one line, without what a terminal would obey or a database refuses (PostgreSQL: NUL; both:
    surrogates): no peer writes a line that looks like ours."""
    return replaced(text[:max_characters].replace("\n", " "), "\N{REPLACEMENT CHARACTER}")
