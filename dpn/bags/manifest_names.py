"""What the name of a manifest says: of which algorithm it is, and of what. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from dpn.bags.digests import ALGORITHMS

DEFAULT_ALGORITHM = "sha256"
_MANIFEST = re.compile(rb"(tag)?manifest-([^/]+)\.txt", re.IGNORECASE)
_NOT_OF_AN_ALGORITHM = re.compile(rb"[^a-z0-9]")


class ManifestName(NamedTuple):
    """What a manifest's name says. It is exact if it is written as RFC 8493 §2.4 wants it: only then its file is a
    manifest by the standard."""

    algorithm: str
    """In lower case, letters and digits only."""
    of_tags: bool
    exact: bytes
    is_exact: bool


def manifest_name(name: bytes) -> ManifestName | None:
    """The parts of a manifest's name, however it is written; None if it is not a manifest's."""
    match = _MANIFEST.fullmatch(name)
    if match is None:
        return None
    algorithm = _NOT_OF_AN_ALGORITHM.sub(b"", match[2].lower())
    exact = b"%bmanifest-%b.txt" % (b"tag" if match[1] else b"", algorithm)
    return ManifestName(algorithm.decode(), match[1] is not None, exact, name == exact)


def is_manifest(name: bytes) -> bool:
    """Whether a file of this name is a manifest by the standard, of whatever algorithm."""
    said = manifest_name(name)
    return said is not None and said.is_exact


def manifest_algorithms(names: Iterable[bytes]) -> tuple[set[str], set[str]]:
    """The known algorithms of payload manifests, and those of tag manifests, by the names of a bag's files.

    Where no name says one, it is SHA-256.
    """
    payload, tags = set[str](), set[str]()
    for name in names:
        said = manifest_name(name)
        if said is not None and said.algorithm in ALGORITHMS:
            (tags if said.of_tags else payload).add(said.algorithm)
    return payload or {DEFAULT_ALGORITHM}, tags or {DEFAULT_ALGORITHM}
