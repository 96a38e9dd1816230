"""What a folder store keeps beside an object: the metadata and digests it was stored with, as JSON.

Claims, not proof: they tell a person or a later program what the file is meant to be, should all else be lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from dpn.files import replace_file
from dpn.storage.digests import Digests
from dpn.storage.stored_object import CLAIMED_PART_SIZE, CLAIMED_SHA256

SIDECAR_SUFFIX = ".json"
MAX_BYTES = 8 * 1024 * 1024
_log = logging.getLogger(__name__)


def write_sidecar(path: Path, metadata: Mapping[str, str], digests: Digests) -> None:
    """Writes the sidecar of the object at `path`. Raises OSError."""
    claims = {CLAIMED_SHA256: digests.sha256, CLAIMED_PART_SIZE: str(digests.plan.part_size)}
    document = {
        "metadata": {**metadata, **claims},
        "size": digests.plan.size,
        "part_sha256": digests.part_sha256,
    }
    with replace_file(_beside(path)) as file:
        file.write(json.dumps(document, indent=1).encode())


def read_sidecar(path: Path) -> dict[str, str]:
    """The metadata of the object at `path`; empty, with a warning, if its sidecar is missing or damaged."""
    try:
        with _beside(path).open("rb") as file:
            metadata = json.loads(file.read(MAX_BYTES))["metadata"]
        return {str(name): str(value) for name, value in metadata.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        _log.warning("%s: its sidecar cannot be read: %s", path, error)
        return {}


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)
