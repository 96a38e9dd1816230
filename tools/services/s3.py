"""s3: versitygw on a folder. Real data on disk, checksums and conditional writes enforced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tools.services.process import Launch
from tools.services.programs import find_built
from tools.services.service import Home, NotReady, Service, http_get

REGION = "us-east-1"
HEALTH = "/-/healthy"
"""No bucket can have this name."""

POSIX_FLAGS = {
    "chuid", "chgid", "bucketlinks", "versioning-dir", "dir-perms", "sidecar", "concurrency", "nometa",
    "disableotmp", "disable-copy-file-range", "default-etag",
}  # fmt: skip
"""Flags of versitygw's posix command; all others are its global ones."""


class S3(Service):
    """An S3 server. `--set s3.FLAG=VALUE` passes `--FLAG=VALUE`; buckets are folders in the entry's `data`."""

    name = "s3"
    port_names = ("http",)

    def prepare(self, home: Home) -> Launch:
        data = home.folder("data")
        posix = _metadata_flags(home, data)
        general = [f"--port={home.address('http')}", f"--region={REGION}", f"--health={HEALTH}", "--quiet"]
        for flag, value in home.flags.items():
            (posix if flag in POSIX_FLAGS else general).append(f"--{flag}={value}")
        keys = {
            "ROOT_ACCESS_KEY_ID": home.secret("access_key"),
            "ROOT_SECRET_ACCESS_KEY": home.secret("secret_key"),
        }
        return Launch([find_built("versitygw"), *general, "posix", *posix, str(data)], keys)

    def entry(self, home: Home) -> dict[str, Any]:
        return {
            "endpoint": f"http://{home.address('http')}",
            "access_key": home.secret("access_key"),
            "secret_key": home.secret("secret_key"),
            "region": REGION,
            "data": str(home.path / "data"),
        }

    def check(self, entry: dict[str, Any]) -> None:
        answer = http_get(entry["endpoint"].removeprefix("http://"), HEALTH)
        if answer.strip() != "OK":
            raise NotReady(f"GET {entry['endpoint']}{HEALTH}: {answer[:100]!r}, not OK")


def _metadata_flags(home: Home, data: Path) -> list[str]:
    """Where object metadata goes: extended attributes, or a folder if the file system has none (old tmpfs)."""
    if _has_extended_attributes(data):
        return []
    return [f"--sidecar={home.folder('metadata')}"]


def _has_extended_attributes(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.probe", b"1")
        os.removexattr(folder, "user.probe")
    except OSError:
        return False
    return True
