"""Where a deposit's content lies, and of what kind it is."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from dpn.bags.building.source_bag import is_bag, open_source_bag, root_tag_files
from dpn.bags.errors import SourceRefused
from dpn.errors import NotABag
from dpn.packaging.description import DEFAULT_SOURCE_NAME, check_source_name
from dpn.packaging.errors import SourceUnavailable

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""What a bucket may be called, by the oldest and widest of S3's rules."""
_INFO_SUFFIX = b"-info.txt"
_BAGITS_OWN = (b"bag-info.txt", b"package-info.txt")


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """A folder: what is in it becomes the payload."""

    path: Path


@dataclass(frozen=True, slots=True)
class BagLocation:
    """A bag of any kind, as a folder or in a tar."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Location:
    """What lies under a prefix; it ends in a slash."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


Location = FolderLocation | BagLocation | S3Location


def locate(source: str) -> Location:
    """What `source` names, by looking at it; of S3 only the address is looked at.

    Raises SourceRefused (it cannot be a deposit), SourceUnavailable (nothing is there now), OSError.
    """
    if "://" in source:
        return s3_location(source)
    path = Path(source)
    if not path.is_absolute():
        raise SourceRefused(f"{source!r}: give an absolute path, for the worker starts elsewhere than you")
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        return BagLocation(path) if is_bag(path) else FolderLocation(path)
    if not stat.S_ISREG(mode):
        raise SourceRefused(f"{source} is neither a folder nor a file: deposit what it stands for")
    try:
        with open_source_bag(path):
            return BagLocation(path)
    except NotABag as error:
        raise SourceRefused(
            f"{source} is a file, and no bag in an uncompressed tar: put it into a folder, deposit that ({error})"
        ) from error


def s3_location(source: str) -> S3Location:
    """`s3://bucket/prefix/`; raises SourceRefused for anything else, a whole bucket included."""
    scheme, _, rest = source.partition("://")
    if scheme.lower() != "s3":
        raise SourceRefused(f"{source!r}: a source is a path, or s3://bucket/prefix/")
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise SourceRefused(f"{source!r} names no bucket: say s3://bucket/prefix/")
    if not prefix.strip("/"):
        raise SourceRefused(f"{source} has an empty prefix: name what is to be deposited, not the whole bucket")
    return S3Location(bucket, prefix if prefix.endswith("/") else f"{prefix}/")


def source_name_of(bag: Path) -> str:
    """What a bag's own tag files are best called: a bag with an `aptrust-info.txt` comes from `aptrust`.

    Raises NotABag, OSError.
    """
    for name in root_tag_files(bag):
        if name.endswith(_INFO_SUFFIX) and name not in _BAGITS_OWN:
            try:
                return check_source_name(name.removesuffix(_INFO_SUFFIX).decode())
            except (SourceRefused, UnicodeDecodeError):
                continue
    return DEFAULT_SOURCE_NAME


def service_of(location: Location) -> str:
    """The name of the source's breaker."""
    return f"source:{location.bucket if isinstance(location, S3Location) else location.path}"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceUnavailable(
            f"source:{path}", "there is nothing: mount its disk, or cancel the deposit and submit it rightly"
        ) from None
    except PermissionError:
        raise SourceUnavailable(
            f"source:{path}", "we may not look at it: let the user that runs the workers read it"
        ) from None
