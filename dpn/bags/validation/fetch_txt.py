"""fetch.txt: a bag to be kept has nothing left to fetch, and may name nothing but the web (RFC 8493 §2.2.3)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from dpn.bags.findings import Findings
from dpn.bags.index import PAYLOAD_PREFIX, FileIndex
from dpn.bags.names import is_safe
from dpn.bags.validation.text import Lines, NotDecodable

FETCH_FILE = b"fetch.txt"
_WEB_SCHEMES = {"http", "https", "ftp", "ftps"}


def check_fetch(chunks: Iterable[bytes], encoding: str, index: FileIndex, findings: Findings) -> None:
    """Judge each line; nothing is ever fetched."""
    try:
        for at, line in enumerate(Lines(chunks, encoding), 1):
            if line.strip():
                _check_line(at, line, index, findings)
    except NotDecodable as reason:
        findings.add("tag-file-not-decodable", f"The file is {reason}.", FETCH_FILE)


def _check_line(at: int, line: bytes, index: FileIndex, findings: Findings) -> None:
    parts = line.split(None, 2)
    if len(parts) != 3 or not (parts[1] == b"-" or parts[1].isdigit()):
        findings.add("fetch-malformed", f"Line {at} is not 'url length path'.", FETCH_FILE)
        return
    url, _, path = parts
    if not is_safe(path) or not path.startswith(PAYLOAD_PREFIX):
        findings.add("fetch-path-unsafe", f"Line {at} names a path outside the payload.", path)
    elif index.find(path) is None and index.find(path.rstrip()) is None:
        findings.add("fetch-file-missing", "Listed in fetch.txt, not in the bag.", path)
    if not _is_on_the_web(url):
        findings.add("fetch-url-unsafe", f"Line {at} has an address that is not http, https or ftp.", FETCH_FILE)


def _is_on_the_web(url: bytes) -> bool:
    try:
        parts = urlsplit(url.decode())
        return parts.scheme in _WEB_SCHEMES and bool(parts.hostname)
    except ValueError:
        return False
