"""What the processes of a network find around them: this very code, and nothing that could steer a node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tools.network.errors import Unusable

FOREIGN_PREFIXES = ("DPN_", "AWS_", "RSYNC_")
FOREIGN_SUFFIXES = ("_PROXY",)
"""Variables of our own environment that would steer a node from outside its settings file."""


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what could steer a node, and with this very code to be found by Python."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(FOREIGN_PREFIXES) and not name.upper().endswith(FOREIGN_SUFFIXES)
    }
    paths = [str(checkout()), *filter(None, [environment.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def checkout() -> Path:
    """The folder that holds the packages dpn, workers and models."""
    return Path(__file__).resolve().parents[2]


def find_program(name: str, package: str) -> str:
    """Where a program is. Raises Unusable."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    if found is None:
        raise Unusable(f"there is no program {name} on this machine: install {package}")
    return found
