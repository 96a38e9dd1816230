"""Tag files of the form "label: value": bagit.txt, bag-info.txt, dpn-info.txt (RFC 8493 §2.1.1, 2.2.2).

BagIt bounds neither a line nor a file: either may be of any size, and is read in the memory of what is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from dpn.bags.codes import Severity
from dpn.bags.findings import Findings
from dpn.bags.validation.text import Lines, NotDecodable, known_encoding

MAX_DECLARATION_BYTES = 1 << 20
MAX_KEPT_BYTES = 1 << 20
"""Of all tags of a file that are asked for; of any other line not even that."""
PAIR_BYTES = 200
"""What a tag costs beside its characters."""

RESERVED_LABELS = frozenset({
    "source-organization", "organization-address", "contact-name", "contact-phone", "contact-email",
    "external-description", "bagging-date", "external-identifier", "bag-size", "payload-oxum",
    "bag-group-identifier", "bag-count", "internal-sender-identifier", "internal-sender-description",
    "bagit-profile-identifier",
})  # fmt: skip
"""Of bag-info.txt: the same in any case (RFC 8493 §2.2.2). The last one is the BagIt Profiles' own."""

DECLARATION = b"bagit.txt"
SUPPORTED_VERSIONS = {"0.93", "0.94", "0.95", "0.96", "0.97", "1.0"}
VERSION_LABEL, ENCODING_LABEL = "BagIt-Version", "Tag-File-Character-Encoding"

_VERSION = re.compile(r"(0|[1-9]\d*)\.(\d+)\Z", re.ASCII)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags of one file in their order; labels may repeat."""

    pairs: tuple[tuple[str, str], ...] = ()
    reserved: frozenset[str] = frozenset()
    """Labels, in lower case, that are the same in any case."""

    def values(self, label: str) -> list[str]:
        if (lowered := label.lower()) in self.reserved:
            return [value for key, value in self.pairs if key.lower() == lowered]
        return [value for key, value in self.pairs if key == label]

    def has_in_other_letters(self, label: str) -> bool:
        """Whether there is one that differs in case, where case counts."""
        return any(key.lower() == label.lower() for key, _ in self.pairs) and not self.values(label)

    def first(self, label: str) -> str | None:
        return next(iter(self.values(label)), None)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What bagit.txt says. Unusable parts are taken as BagIt 0.97 in UTF-8, so that the rest can be judged."""

    version: str = "0.97"
    encoding: str = "utf-8"

    @property
    def is_final(self) -> bool:
        """True from BagIt 1.0 (RFC 8493) on, where the drafts' leniency ends."""
        return not self.version.startswith("0.")

    @property
    def severity(self) -> Severity:
        """Of what the drafts tolerated and the RFC forbids."""
        return Severity.ERROR if self.is_final else Severity.WARNING

    @property
    def info_file(self) -> bytes:
        return b"package-info.txt" if self.version in ("0.93", "0.94", "0.95") else b"bag-info.txt"


def read_declaration(content: bytes, findings: Findings) -> Declaration:
    """Judge bagit.txt (RFC 8493 §2.1.1)."""
    if content.startswith(_BOM):
        findings.add("declaration-bom", "bagit.txt begins with a byte-order mark.", DECLARATION)
        content = content[len(_BOM) :]
    bad_lines: list[int] = []
    try:
        lines = Lines([content], "utf-8", longest=MAX_KEPT_BYTES)
        tags = Tags(tuple((label, value) for label, value, _ in _pairs(lines, bad_lines.append)))
    except NotDecodable as reason:
        findings.add("declaration-malformed", f"bagit.txt is {reason}.", DECLARATION)
        return Declaration()
    version = _version(tags, findings)
    encoding = _encoding(tags, findings)
    declaration = Declaration(version or "0.97", encoding or "utf-8")
    for number in bad_lines:
        findings.add("declaration-malformed", f"Line {number} is not 'label: value'.", DECLARATION)
    if not _is_exact(content, declaration):
        findings.add(
            "declaration-form", "bagit.txt is not exactly its two lines.", DECLARATION, declaration.severity
        )
    return declaration


def read_tags(
    chunks: Iterable[bytes],
    path: bytes,
    declaration: Declaration,
    findings: Findings,
    asked: Collection[str] | None = None,
) -> Tags:
    """Judge a tag file, and give the tags whose label, in any case, is `asked` for; None: all of them."""
    lines = Lines(chunks, declaration.encoding, longest=MAX_KEPT_BYTES)
    wanted = None if asked is None else {label.lower() for label in asked}
    kept: list[tuple[str, str]] = []
    room = MAX_KEPT_BYTES

    def say_malformed(number: int) -> None:
        findings.add("tag-file-malformed", f"Line {number} is not 'label: value'.", path)

    try:
        for label, value, size in _pairs(lines, say_malformed):
            if wanted is None or label.lower() in wanted:
                room -= size + PAIR_BYTES
                if room < 0:
                    message = f"What is asked of the file has more than {MAX_KEPT_BYTES:,} bytes."
                    findings.add("tag-file-too-large", message, path)
                    break
                kept.append((label, value))
    except NotDecodable as reason:
        findings.add("tag-file-not-decodable", f"The file is {reason}.", path)
        return Tags()
    if lines.had_bom and declaration.encoding == "utf-8":
        findings.add("tag-file-bom", "A byte-order mark in UTF-8.", path, declaration.severity)
    return Tags(tuple(kept), RESERVED_LABELS if path == declaration.info_file else frozenset())


def _pairs(lines: Iterable[bytes], say_malformed: Callable[[int], None]) -> Iterator[tuple[str, str, int]]:
    """Label and value, trimmed, and their bytes; a line that begins with white space goes on with the value before
    it. Of a value of more than MAX_KEPT_BYTES the rest is left out."""
    label, parts, size = "", [""], 0
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "ignore")  # one that was cut may end within a character
        if not text.strip():
            continue
        if label and text[:1] in (" ", "\t"):
            size += len(line)
            if size <= MAX_KEPT_BYTES:
                parts.append(text.strip())
            continue
        if label:
            yield label, " ".join(parts).strip(), size
        begin, colon, rest = text.partition(":")
        label, parts, size = begin.strip() if colon else "", [rest.strip()], len(line)
        if not label:
            say_malformed(number)
    if label:
        yield label, " ".join(parts).strip(), size


def _version(tags: Tags, findings: Findings) -> str | None:
    values = tags.values(VERSION_LABEL)
    if len(values) != 1 or not _VERSION.match(values[0]):
        found = f"says {values[0]!r}" if values else "is missing"
        findings.add("declaration-malformed", f"{VERSION_LABEL} {found}; it must be one M.N.", DECLARATION)
        return None
    if values[0] not in SUPPORTED_VERSIONS:
        findings.add("version-unsupported", f"BagIt {values[0]} is not known here.", DECLARATION)
        return None
    return values[0]


def _encoding(tags: Tags, findings: Findings) -> str | None:
    values = tags.values(ENCODING_LABEL)
    if len(values) != 1 or not values[0]:
        message = f"{ENCODING_LABEL} must stand there once, with a value."
        findings.add("declaration-malformed", message, DECLARATION)
        return None
    encoding = known_encoding(values[0])
    if encoding is None:
        findings.add("encoding-unsupported", f"Unknown encoding {values[0][:40]!r}.", DECLARATION)
    return encoding


def _is_exact(content: bytes, declaration: Declaration) -> bool:
    """Two lines in their order; below 1.0 white space around the colon and blank lines are nothing to speak of."""
    lines = [line for line in content.splitlines() if declaration.is_final or line.strip()]
    labels = (VERSION_LABEL.encode(), ENCODING_LABEL.encode())
    if len(lines) != len(labels):
        return False
    if declaration.is_final:
        return all(
            re.match(re.escape(label) + rb": \S+\Z", line) for label, line in zip(labels, lines, strict=True)
        )
    return all(line.partition(b":")[0].strip() == label for label, line in zip(labels, lines, strict=True))
