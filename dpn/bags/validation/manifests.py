"""Payload and tag manifests, line by line against the digests of what is really there (RFC 8493 §2.1.3, 2.2.1).

A manifest of any size is judged in the memory of one chunk and one byte a file.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress

from dpn.bags.codes import Severity
from dpn.bags.contents import Contents
from dpn.bags.digests import UNFORGEABLE, Column
from dpn.bags.findings import Findings
from dpn.bags.index import PAYLOAD_PREFIX
from dpn.bags.manifest_names import is_manifest
from dpn.bags.names import is_safe
from dpn.bags.path_list import PathList, checksum_and_path, no_entry
from dpn.bags.validation.tags import Declaration
from dpn.bags.validation.text import MAX_LINE_BYTES, Lines, NotDecodable


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One manifest of the bag, with an algorithm that we know. `counts`: it is one by its name, too."""

    name: bytes
    number: int
    column: Column
    of_tags: bool
    counts: bool


class ManifestCheck:
    """Compares one manifest with the bag. `listed` has a byte a file of the bag: 1 if the manifest names it."""

    def __init__(
        self, manifest: ManifestFile, contents: Contents, declaration: Declaration, findings: Findings
    ) -> None:
        self._manifest = manifest
        self._contents = contents
        self._declaration = declaration
        self._findings = findings
        self._column = manifest.column
        index = contents.index
        self._paths = PathList(index.find, index.find_normalized, encoded_first=declaration.is_final)
        self._of_tags = manifest.of_tags
        self._wrong = set[int]()
        self._forms = set[str]()
        self.listed = bytearray(len(contents.index))

    def run(self) -> bytearray:
        """Judge every line; returns `listed`."""
        lines = Lines(self._contents.chunks(self._manifest.number), self._declaration.encoding)
        find, listed = self._contents.index.find, self.listed
        try:
            for at, line in enumerate(lines, 1):
                parts = line.split(None, 1)
                number = find(parts[1]) if len(parts) == 2 else None
                if number is not None and not listed[number] and self._fits(number, parts[0], parts[1]):
                    listed[number] = 1
                else:
                    self._look_closer(at, line)
        except NotDecodable as reason:
            self._add("tag-file-not-decodable", f"The manifest is {reason}.")
        if lines.had_bom and self._declaration.encoding == "utf-8":
            self._add("tag-file-bom", "A byte-order mark in UTF-8.", severity=self._declaration.severity)
        return self.listed

    def _fits(self, number: int, checksum: bytes, path: bytes) -> bool:
        """The plain case: a file of the right kind, listed with the checksum that it has."""
        if path.startswith(PAYLOAD_PREFIX) is self._of_tags:
            return False
        if b"%" in path and self._declaration.is_final:
            return False  # means another name
        return self._column.says(number, checksum)

    def _look_closer(self, at: int, line: bytes) -> None:
        if (nothing := no_entry(line)) is not None:
            self._note_form(nothing, at)
        elif len(line) >= MAX_LINE_BYTES:
            self._add("manifest-line-too-long", f"Line {at} is too long.")
        elif (entry := checksum_and_path(line, self._column.width)) is None:
            self._add("manifest-line-malformed", f"Line {at} is not 'checksum path' for {self._column.algorithm}.")
        else:
            self._judge(at, *entry)

    def _judge(self, at: int, checksum: bytes, written: bytes) -> None:
        path, number, form = self._paths.resolve(written)
        if form is not None:
            self._note_form(form, at)
        if not is_safe(path):
            return self._add("manifest-path-unsafe", f"Line {at} names a path that no bag may have.", written)
        if self._is_misplaced(path):
            return None
        if number is None and path in self._contents.index.hard_links:
            return None
        if number is None:
            code = "tag-file-missing" if self._of_tags else "payload-file-missing"
            return self._add(code, f"Listed in {self._manifest.name.decode()}, not in the bag.", path)
        digest = self._column.get(number)
        fits = digest is not None and digest.hex().encode() == checksum
        if self.listed[number]:
            self._repeated(number, path, fits=fits)
        self.listed[number] = 1
        if not fits:
            self._wrong.add(number)
            code = "tag-checksum-mismatch" if self._of_tags else "payload-checksum-mismatch"
            found = digest.hex() if digest is not None else "nothing"
            self._add(code, f"{self._column.algorithm} is {found}, the manifest says {checksum.decode()}.", path)
        return None

    def _is_misplaced(self, path: bytes) -> bool:
        if not self._of_tags and not path.startswith(PAYLOAD_PREFIX):
            self._add("manifest-path-misplaced", "A payload manifest lists what is not payload.", path)
            return True
        if self._of_tags and path.startswith(PAYLOAD_PREFIX):
            self._add("manifest-path-misplaced", "A tag manifest lists payload.", path)
            return True
        if self._of_tags and is_manifest(path) and path.startswith(b"tag"):
            message = "A tag manifest lists a tag manifest."
            self._add("manifest-path-misplaced", message, path, severity=self._declaration.severity)
        return False

    def _repeated(self, number: int, path: bytes, *, fits: bool) -> None:
        if fits is (number not in self._wrong):
            message = f"Listed twice in {self._manifest.name.decode()}."
            self._add("manifest-entry-repeated", message, path, severity=self._declaration.severity)
        else:
            self._add("manifest-entry-conflicting", f"Listed twice in {self._manifest.name.decode()}.", path)

    def _note_form(self, what: str, at: int) -> None:
        """One finding a manifest and form: a manifest written by md5sum has the same in every line."""
        if what not in self._forms:
            self._forms.add(what)
            self._add("manifest-form", f"{what.capitalize()} (line {at}).")

    def _add(
        self, code: str, message: str, path: bytes | None = None, *, severity: Severity | None = None
    ) -> None:
        self._findings.add(code, message, self._manifest.name if path is None else path, severity)


def report_unlisted_payload(
    contents: Contents, listed: Mapping[ManifestFile, bytearray], declaration: Declaration, findings: Findings
) -> None:
    """Payload files that stand in no payload manifest; from BagIt 1.0 on, that do not stand in each."""
    payload = contents.index.is_payload
    if declaration.is_final:
        for manifest, files in listed.items():
            for number in _unlisted(payload, [files]):
                message = f"Not listed in {manifest.name.decode()}."
                findings.add("payload-file-unlisted", message, contents.name_of(number))
    elif listed:
        for number in _unlisted(payload, list(listed.values())):
            findings.add("payload-file-unlisted", "Not listed in any manifest.", contents.name_of(number))


def proves_payload(contents: Contents, of_tags: bytearray, listed: Mapping[ManifestFile, bytearray]) -> bool:
    """Whether the digest of a tag manifest, which lists `of_tags`, proves all of the payload: each file stands in
    a payload manifest that it lists, with a checksum that nobody can forge."""
    pinned = [
        files
        for manifest, files in listed.items()
        if of_tags[manifest.number] and manifest.column.algorithm in UNFORGEABLE
    ]
    return bool(pinned) and next(_unlisted(contents.index.is_payload, pinned), None) is None


def proves_tags(contents: Contents, of_tags: bytearray, tag_manifests: Iterable[ManifestFile]) -> bool:
    """Whether a tag manifest, which lists `of_tags`, lists every tag file but the tag manifests themselves."""
    wanted = bytearray(0 if payload else 1 for payload in contents.index.is_payload)
    for manifest in tag_manifests:
        wanted[manifest.number] = 0
    return next(_unlisted(wanted, [of_tags]), None) is None


def report_unlisted_tags(contents: Contents, listed: list[bytearray], findings: Findings) -> None:
    """Tag files that stand in no tag manifest; for manifests there are other findings."""
    if not listed:
        return
    tags = bytearray(0 if payload else 1 for payload in contents.index.is_payload)
    for number in _unlisted(tags, listed):
        name = contents.name_of(number)
        if not is_manifest(name):
            findings.add("tag-file-unlisted", "Not listed in any tag manifest.", name)


def _unlisted(wanted: bytearray, listed: list[bytearray]) -> Iterator[int]:
    seen = bytearray(map(max, *listed)) if len(listed) > 1 else listed[0]
    return compress(range(len(wanted)), map(operator.gt, wanted, seen))
