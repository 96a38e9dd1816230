"""Text tag files: decoded as `bagit.txt` says, cut into lines; one line and one chunk in memory, never more."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

MAX_LINE_BYTES = 64 << 10
"""Of a manifest: a path of 4,096 bytes with each byte percent-encoded, a checksum, and room to spare."""

_ENCODING_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
_TEXT_ENCODINGS = re.compile(
    r"(utf-(8|16|32)(-[lb]e)?|ascii|iso8859-\d+|tis-620|cp\d+|hp-roman8|mac-\w+|koi8-[rtu]|kz1048|ptcp154"
    r"|(shift_jis|euc_jis)(_2004|x0213)?|euc_(jp|kr)|iso2022_(jp(_1|_2|_2004|_3|_ext)?|kr)|johab|gbk|gb2312|gb18030"
    r"|hz|big5(hkscs)?)\Z"
)
"""Python's names of what may stand in bagit.txt; it knows codecs that unpack or execute, which may not."""


class NotDecodable(ValueError):
    """The text is not in the encoding that it should be in."""


def known_encoding(name: str) -> str | None:
    """Python's name of a character encoding, None if we do not know it."""
    if not _ENCODING_NAME.match(name):
        return None
    try:
        canonical = codecs.lookup(name).name
    except LookupError:
        return None
    return canonical if _TEXT_ENCODINGS.match(canonical) else None


class Lines:
    """The lines of a tag file as UTF-8, without their ends (LF, CR or CRLF). One of `longest` bytes or more is cut
    to so many.

    Iterating raises NotDecodable. `had_bom` says afterwards whether a UTF-8 file began with a byte-order mark.
    """

    def __init__(self, chunks: Iterable[bytes], encoding: str, *, longest: int = MAX_LINE_BYTES) -> None:
        self._chunks = chunks
        self._encoding = encoding
        self._longest = longest
        self.had_bom = False

    def __iter__(self) -> Iterator[bytes]:
        rest, skipping, longest = b"", False, self._longest
        for chunk in self._utf8():
            data = rest + chunk
            cut = len(data) - data.endswith(b"\r")  # a CR at the end may be half of a CRLF
            end = max(data.rfind(b"\n", 0, cut), data.rfind(b"\r", 0, cut)) + 1
            for line in data[:end].splitlines():
                if not skipping:
                    yield line if len(line) < longest else line[:longest]
                skipping = False
            rest = data[end:]
            if len(rest) > longest:
                if not skipping:
                    yield rest[:longest]
                rest, skipping = data[cut:], True
        if rest and not skipping:
            yield rest.rstrip(b"\r\n")

    def _utf8(self) -> Iterator[bytes]:
        text = self._checked() if self._encoding in ("utf-8", "ascii") else self._recoded()
        for first in text:
            self.had_bom = first.startswith(codecs.BOM_UTF8)
            yield first[len(codecs.BOM_UTF8) :] if self.had_bom else first
            break
        yield from text

    def _checked(self) -> Iterator[bytes]:
        """The same bytes, once they have proved to be what they should be; ASCII costs next to nothing."""
        decoder = codecs.getincrementaldecoder(self._encoding)()
        clean = True
        for chunk in self._chunks:
            if not (clean and chunk.isascii()):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as reason:
                    raise NotDecodable(f"not {self._encoding}: {reason.reason}") from None
                clean = not decoder.getstate()[0]
            yield chunk
        if not clean:
            raise NotDecodable(f"not {self._encoding}: the last character is cut")

    def _recoded(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self._encoding)()
        try:
            for chunk in self._chunks:
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as reason:
            raise NotDecodable(f"not {self._encoding}: {reason}") from None
