"""How much room packaging a source will take, by its names and sizes; no content is read."""

from __future__ import annotations

from collections.abc import Iterable

from dpn.bags import SourceRefused, TarSize, open_source_bag
from dpn.cancellation import Cancellation
from dpn.packaging.description import Description, Estimate
from dpn.packaging.disk_source import permission_is_waited_for
from dpn.packaging.fetched_size import FetchedSize
from dpn.packaging.location import BagLocation, FolderLocation, S3Location, locate
from dpn.packaging.walk import folder_sizes
from dpn.settings import DepositS3Settings

TAGS_FOLDER = b"x" * 37
"""As long as the longest `<source_name>-tags/`."""


def estimate(
    description: Description, *, s3: DepositS3Settings, cancellation: Cancellation | None = None
) -> Estimate:
    """What packaging will need on the staging volume, for the reservation.

    A source that grows afterwards needs more. Raises SourceRefused, SourceUnavailable, Misconfigured, NotABag,
    BagChanged, OSError.
    """
    with permission_is_waited_for(description.source):
        return _estimate(description, s3, cancellation or Cancellation())


def _estimate(description: Description, s3: DepositS3Settings, cancellation: Cancellation) -> Estimate:
    location = locate(description.source)
    if description.as_is:
        if isinstance(location, S3Location) or location.path.is_dir():
            raise SourceRefused(f"{description.source} is no bag in a tar: only such a one is taken as it is")
        size = location.path.stat().st_size
        return Estimate(files=1, source_bytes=size, staging_bytes=size)
    tar, fetched_bytes = TarSize(), 0
    if isinstance(location, S3Location):
        fetched_bytes = _add_objects(tar, location, s3, cancellation)
    else:
        for name, size in _sizes(location, cancellation):
            tar.add(name, size)
    return Estimate(
        files=tar.files,
        source_bytes=tar.content_bytes,
        staging_bytes=tar.bytes + tar.manifest_bytes + fetched_bytes,  # the manifest grows in a file of its own
    )


def _add_objects(tar: TarSize, location: S3Location, s3: DepositS3Settings, cancellation: Cancellation) -> int:
    """Answers how many bytes the objects take as files of their own, before they are in the tar."""
    from dpn.packaging.s3 import object_sizes

    fetched = FetchedSize()
    for key, size in object_sizes(location, s3, cancellation):
        tar.add(b"data/" + TAGS_FOLDER + key, size)
        fetched.add(key, size)
    return fetched.bytes


def _sizes(location: FolderLocation | BagLocation, cancellation: Cancellation) -> Iterable[tuple[bytes, int]]:
    if isinstance(location, FolderLocation):
        for name, size in folder_sizes(location.path, cancellation):
            yield b"data/" + name, size
    else:
        with open_source_bag(location.path, cancellation=cancellation) as bag:
            for name, _, size in bag.sizes():
                cancellation.check()
                yield TAGS_FOLDER + name, size
