"""What the name of a manifest says, and which names say nothing."""

from __future__ import annotations

import hashlib

import pytest

from dpn.bags.digests import ALGORITHMS
from dpn.bags.manifest_names import is_manifest, manifest_name


@pytest.mark.parametrize(
    ("name", "algorithm", "of_tags", "is_exact"),
    [
        (b"manifest-sha256.txt", "sha256", False, True),
        (b"tagmanifest-md5.txt", "md5", True, True),
        (b"manifest-crc32.txt", "crc32", False, True),
        (b"manifest-SHA256.txt", "sha256", False, False),
        (b"manifest-sha256.TXT", "sha256", False, False),
        (b"Manifest-sha256.txt", "sha256", False, False),
        (b"manifest-sha-1.txt", "sha1", False, False),
        (b"manifest-sha3_256.txt", "sha3256", False, False),
        (b"TagManifest-BLAKE2b-512.txt", "blake2b512", True, False),
        (b"manifest-my notes.txt", "mynotes", False, False),
    ],
)
def test_a_manifest_is_known_by_its_name_in_whatever_letters(
    name: bytes, algorithm: str, of_tags: bool, is_exact: bool
) -> None:
    said = manifest_name(name)
    assert said is not None
    assert (said.algorithm, said.of_tags, said.is_exact) == (algorithm, of_tags, is_exact)
    assert is_manifest(name) is is_exact
    assert is_manifest(said.exact)


@pytest.mark.parametrize(
    "name", [b"._manifest-md5.txt", b"a/manifest-md5.txt", b"manifest-md5.txt\n", b"manifest.txt", b"manifest-md5"]
)
def test_other_names_are_no_manifests(name: bytes) -> None:
    assert manifest_name(name) is None


@pytest.mark.parametrize("name", sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}))
def test_every_algorithm_that_this_python_always_has_is_known(name: str) -> None:
    said = manifest_name(b"manifest-%b.txt" % name.encode())
    assert said is not None
    assert ALGORITHMS[said.algorithm](b"x").hexdigest() == hashlib.new(name, b"x").hexdigest()
