"""Tag files of the form "label: value": bagit.txt, bag-info.txt, dpn-info.txt (RFC 8493 §2.1.1, 2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from dpn.bags.codes import Severity
from dpn.bags.findings import Findings
from dpn.bags.validation.text import Lines, NotDecodable, known_encoding

MAX_TAG_FILE_BYTES = 1 << 20
DECLARATION = b"bagit.txt"
SUPPORTED_VERSIONS = {"0.93", "0.94", "0.95", "0.96", "0.97", "1.0"}
VERSION_LABEL, ENCODING_LABEL = "BagIt-Version", "Tag-File-Character-Encoding"

_VERSION = re.compile(r"(0|[1-9]\d*)\.(\d+)\Z", re.ASCII)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one file in their order; labels may repeat."""

    pairs: tuple[tuple[str, str], ...] = ()

    def values(self, label: str, *, any_case: bool = False) -> list[str]:
        if any_case:
            return [value for key, value in self.pairs if key.lower() == label.lower()]
        return [value for key, value in self.pairs if key == label]

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


@dataclass(slots=True)
class _Parsed:
    pairs: list[tuple[str, str]] = field(default_factory=list)
    bad_lines: list[int] = field(default_factory=list)


def read_declaration(content: bytes, findings: Findings) -> Declaration:
    """Judge bagit.txt (RFC 8493 §2.1.1)."""
    if content.startswith(_BOM):
        findings.add("declaration-bom", "bagit.txt begins with a byte-order mark.", DECLARATION)
        content = content[len(_BOM) :]
    try:
        parsed = _parse(Lines([content], "utf-8"))
    except NotDecodable as reason:
        findings.add("declaration-malformed", f"bagit.txt is {reason}.", DECLARATION)
        return Declaration()
    tags = Tags(tuple(parsed.pairs))
    version = _version(tags, findings)
    encoding = _encoding(tags, findings)
    declaration = Declaration(version or "0.97", encoding or "utf-8")
    for number in parsed.bad_lines:
        findings.add("declaration-malformed", f"Line {number} is not 'label: value'.", DECLARATION)
    if not _is_exact(content, declaration):
        findings.add(
            "declaration-form", "bagit.txt is not exactly its two lines.", DECLARATION, declaration.severity
        )
    return declaration


def read_tags(chunks: Iterable[bytes], path: bytes, declaration: Declaration, findings: Findings) -> Tags:
    """Judge and parse a tag file; the caller has bounded its size."""
    lines = Lines(chunks, declaration.encoding)
    try:
        parsed = _parse(lines)
    except NotDecodable as reason:
        findings.add("tag-file-not-decodable", f"The file is {reason}.", path)
        return Tags()
    if lines.had_bom and declaration.encoding == "utf-8":
        findings.add("tag-file-bom", "A byte-order mark in UTF-8.", path, declaration.severity)
    for number in parsed.bad_lines:
        findings.add("tag-file-malformed", f"Line {number} is not 'label: value'.", path)
    return Tags(tuple(parsed.pairs))


def _parse(lines: Iterable[bytes | None]) -> _Parsed:
    """Labels and values, trimmed; a line that begins with white space goes on with the value before it."""
    parsed = _Parsed()
    open_tag = False
    for number, line in enumerate(lines, 1):
        text = line.decode() if line is not None else ""
        if line is not None and not text.strip():
            continue
        label, colon, value = text.partition(":")
        if open_tag and text[:1] in (" ", "\t"):
            key, so_far = parsed.pairs[-1]
            parsed.pairs[-1] = (key, f"{so_far} {text.strip()}".strip())
        elif colon and label.strip():
            parsed.pairs.append((label.strip(), value.strip()))
            open_tag = True
        else:
            parsed.bad_lines.append(number)
            open_tag = False
    return parsed


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
