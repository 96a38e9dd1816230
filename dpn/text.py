"""What counts as text, wherever somebody's words are taken in or shown: one test for all.

Whatever a script, a language or an emoji needs is text: blanks of any width, joiners, marks of direction,
characters newer than this Python. Only what ends a line, moves a cursor, overrides the direction in which others
are read, or is half a character is not. And which names a file system may hold to be one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff]")
"""Unicode's categories Cc, Zl, Zp and Cs, which never gain a member, and the two bidirectional overrides."""

QUOTED_PATH = re.compile(r"""(['"])/[^'"]*?([^'"/]*)\1""")
PATH = re.compile(r"""(?<![\w:/.@~-])/(?:[^\s'"/]+/)+""")
"""Of a file of ours; not what follows a host's name or a scheme. All but its last name."""

NOT_A_LINE = "line breaks, control characters or spaces at its ends"
"""What is wrong with words that `is_line` refuses."""


def is_text(words: str) -> bool:
    """Whether all of it is text, on one line."""
    return NOT_TEXT.search(words) is None


def is_line(words: str) -> bool:
    """Whether it is text that comes back the same from a file of lines: no white space at its ends."""
    return is_text(words) and words == words.strip()


def without_folders(words: str) -> str:
    """The words as a stranger may read them: of each path on this machine its last name alone."""
    return PATH.sub("…/", QUOTED_PATH.sub(r"\1…/\2\1", words))


def replaced(words: str, by: str | Callable[[re.Match[str]], str]) -> str:
    """The words with something else in place of each character that is not text."""
    return NOT_TEXT.sub(by, words)


def folded(name: bytes) -> bytes:
    """The same for two names of files that a file system may hold to be one: normalised (NFC) and case-folded."""
    if name.isascii():
        return name.lower()
    text = unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).casefold()
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")


def normalized(name: bytes) -> bytes:
    """The name in normalisation form C; what is not UTF-8 stays as it is."""
    return unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
