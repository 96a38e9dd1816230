"""fetch.txt: a bag to be kept has nothing left to fetch (RFC 8493 §2.2.3). Nothing is ever fetched."""

from __future__ import annotations

from collections.abc import Iterable

from dpn.bags.findings import Findings
from dpn.bags.index import PAYLOAD_PREFIX, FileIndex
from dpn.bags.names import is_safe
from dpn.bags.path_list import PathList
from dpn.bags.validation.tags import Declaration
from dpn.bags.validation.text import Lines, NotDecodable

FETCH_FILE = b"fetch.txt"
LONGEST_LINE_BYTES = 1 << 20
"""An address may be long, and the path comes after it."""


def check_fetch(chunks: Iterable[bytes], declaration: Declaration, index: FileIndex, findings: Findings) -> None:
    """Judge each line, and the whole: whether all that it lists is there."""
    lines = Lines(chunks, declaration.encoding, longest=LONGEST_LINE_BYTES)
    paths = PathList(index.find, index.find_normalized, encoded_first=declaration.is_final)
    is_complete = True
    try:
        for at, line in enumerate(lines, 1):
            if line.strip():
                is_complete = _check_line(at, line, paths, findings) and is_complete
    except NotDecodable as reason:
        findings.add("tag-file-not-decodable", f"The file is {reason}.", FETCH_FILE)
        return
    if lines.had_bom and declaration.encoding == "utf-8":
        findings.add("tag-file-bom", "A byte-order mark in UTF-8.", FETCH_FILE, declaration.severity)
    if is_complete:
        findings.add("fetch-not-needed", "All that it lists is in the bag: nothing is fetched.", FETCH_FILE)


def _check_line(at: int, line: bytes, paths: PathList[int], findings: Findings) -> bool:
    """Whether its file is there."""
    parts = line.split(None, 2)
    if len(parts) != 3 or len(line) >= LONGEST_LINE_BYTES or not (parts[1] == b"-" or parts[1].isdigit()):
        findings.add("fetch-malformed", f"Line {at} is not 'url length path'.", FETCH_FILE)
        return False
    path, number, _ = paths.resolve(parts[2])
    if not is_safe(path) or not path.startswith(PAYLOAD_PREFIX):
        findings.add("fetch-path-unsafe", f"Line {at} names a path outside the payload.", path)
        return False
    if number is None:
        findings.add("fetch-file-missing", "Listed in fetch.txt, not in the bag.", path)
    return number is not None
