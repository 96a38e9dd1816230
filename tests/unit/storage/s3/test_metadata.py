"""Metadata of any text as HTTP headers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpn.storage.s3.metadata import MAX_TOTAL_BYTES, decode_metadata, encode_metadata

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)


@given(st.dictionaries(names, texts.filter(lambda text: len(text) < 20), max_size=6))
def test_short_texts_come_back_as_they_were(metadata: dict[str, str]) -> None:
    assert decode_metadata(encode_metadata(metadata)) == metadata


@given(st.dictionaries(names, st.text(), max_size=8))
@example({"local_id": "\ud800" * 3000})
@example({"member": "a  b\r\nx-amz-acl: public-read", "local_id": "%41" * 2000})
def test_headers_are_short_plain_ascii_whatever_the_text(metadata: dict[str, str]) -> None:
    encoded = encode_metadata(metadata)

    assert sum(len(name) + len(value) for name, value in encoded.items()) <= MAX_TOTAL_BYTES
    for value in encoded.values():
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value


@given(st.text(min_size=300, max_size=400))
def test_a_text_cut_to_fit_says_so_and_is_cut_between_characters(text: str) -> None:
    text = text.encode(errors="replace").decode()

    [value] = decode_metadata(encode_metadata({"local_id": text})).values()

    assert value.endswith("…")
    assert text.startswith(value.removesuffix("…"))


@pytest.mark.parametrize("name", ["", "From", "a b", "é", "a:b", "_a", "a" * 100])
def test_a_name_that_is_no_plain_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="metadata name"):
        encode_metadata({name: "x"})
