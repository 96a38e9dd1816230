"""What is text, wherever words are taken in or shown."""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import Path

import pytest

from dpn.text import is_line, is_text, replaced, without_folders

ROOT = Path(__file__).resolve().parents[2]
OVERRIDES = {"LRO", "RLO"}


def test_no_text_are_controls_line_ends_halves_of_characters_and_overrides_and_nothing_more() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        is_none = (
            unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"}
            or unicodedata.bidirectional(character) in OVERRIDES
        )
        assert is_text(character) is not is_none, hex(code)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "no\u00a0break",
        "\u6771\u4eac\u3000\u5927\u5b66",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469",
        "co\u00adoperate",
        "\u05d0\u200f (1)",
        "\u2068\u05d0\u2069",
        "narrow\u202fno-break",
        "\u2764\ufe0f",
        "\U0001f3f4\U000e0067\U000e007f",
        "newer than this Python: \U0001fae8 \u088f",
        "a private mark: \ue000",
    ],
)
def test_ordinary_text_of_any_language_is_a_line(words: str) -> None:
    assert is_line(words)
    assert replaced(words, "?") == words


@pytest.mark.parametrize(
    "words", ["a\nb", "a\tb", "a\x7f", "a\x85b", "a\u2028b", "a\u2029b", "a\u202eb", "\udc80"]
)
def test_what_could_be_read_otherwise_is_no_text_and_is_replaced(words: str) -> None:
    assert not is_text(words)
    assert is_text(replaced(words, "?"))
    assert len(replaced(words, "?")) == len(words)


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u1680", "\u2003", "\u3000"])
def test_a_line_has_no_white_space_at_its_ends(blank: str) -> None:
    assert is_line(f"a{blank}b")
    assert not is_line(f"a{blank}")
    assert not is_line(f"{blank}a")


def test_nobody_has_another_test_for_text() -> None:
    own = re.compile(r"\.isprintable\(|unicodedata\.category")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("bin", "dpn", "models", "workers", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if own.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            "[Errno 5] Input/output error: '/srv/dpn/staging/items/7/3/x.tar'",
            "[Errno 5] Input/output error: '…/x.tar'",
        ),
        ("cannot read /srv/staging/items/7/x.tar: gone", "cannot read …/x.tar: gone"),
        ("(/srv/our staging/x.tar)", "(…/our staging/x.tar)"),
        ('"/srv/our staging/x.tar"', '"…/x.tar"'),
        (
            "rsync://host:873/module/x.tar and host:/srv/x.tar and ~/a/b",
            "rsync://host:873/module/x.tar and host:/srv/x.tar and ~/a/b",
        ),
        ("data/a/b is missing, and/or 1/2", "data/a/b is missing, and/or 1/2"),
    ],
)
def test_where_our_files_lie_is_nothing_for_strangers(words: str, shown: str) -> None:
    assert without_folders(words) == shown
