"""Notes may quote anybody: what is written is text that a terminal shows and a database takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpn.text import is_text
from dpn.work.notes import MAX_NOTE_CHARACTERS, printable

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
"""Surrogates, NUL and control characters included."""


@given(ANY_TEXT)
def test_a_note_is_text_and_can_be_encoded(text: str) -> None:
    note = printable(text)
    assert len(note) == len(text)
    assert "\0" not in note.encode().decode()
    assert is_text(note), "and on one line"


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), max_size=50))
def test_ordinary_words_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_a_note_has_an_end() -> None:
    assert len(printable("x" * 10 * MAX_NOTE_CHARACTERS)) == MAX_NOTE_CHARACTERS
    assert printable("x" * 20, 10) == "x" * 10
