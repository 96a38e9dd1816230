"""Entries of a bag from an S3 prefix: listed, fetched, then read where they were fetched to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dpn.bags.building.entries import Claims, Entry
from dpn.bags.building.source_bag import is_bag
from dpn.bags.errors import ClaimRefuted, SourceRefused, UnfitEntry
from dpn.bags.findings import shown
from dpn.bags.hash_threads import OnProgress
from dpn.bags.index import PAYLOAD_PREFIX
from dpn.cancellation import Cancellation
from dpn.errors import SourceChanged
from dpn.packaging.description import DEFAULT_SOURCE_NAME, check_source_name
from dpn.packaging.disk_source import local_entries
from dpn.packaging.errors import FetchDamaged
from dpn.packaging.location import BagLocation, FolderLocation, S3Location
from dpn.packaging.s3.connection import S3Source
from dpn.packaging.s3.fetch import Fetch
from dpn.packaging.s3.keys import check_key, is_folder_marker
from dpn.packaging.s3.listing import Listing, Object, open_listing
from dpn.packaging.s3.manifests import Manifests, open_manifests
from dpn.packaging.settings import DepositS3Settings

LISTING, OBJECTS, PARTIAL, BOOT = "listing.sqlite", "objects", "partial", "boot"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def object_sizes(
    location: S3Location, settings: DepositS3Settings, cancellation: Cancellation
) -> Iterator[tuple[bytes, int]]:
    """Name and size of every object that would be fetched. Raises SourceRefused, StoreUnavailable,
    Misconfigured."""
    for one in S3Source(location, settings).list(cancellation):
        if is_folder_marker(one):
            continue
        if complaint := check_key(one):
            raise SourceRefused(f"{location} cannot be bagged: {complaint}. Rename it and deposit it again.")
        yield one.key.encode(), one.size


def unfit_objects(
    location: S3Location, settings: DepositS3Settings, cancellation: Cancellation
) -> Iterator[UnfitEntry]:
    """Every object that no bag can hold, by its name alone. Raises SourceRefused if there is none at all,
    SourceUnavailable, Misconfigured."""
    listed = S3Source(location, settings).list(cancellation)
    with TemporaryDirectory() as folder, open_listing(Path(folder) / LISTING) as listing:
        for name, why in listing.take_in(listed, str(location)):
            yield UnfitEntry(f"{location}{shown(name)}", f"{why}. Rename it.")


@contextmanager
def fetched_entries(
    location: S3Location,
    folder: Path,
    source_name: str | None,
    settings: DepositS3Settings,
    progress: OnProgress | None,
    cancellation: Cancellation,
) -> Iterator[Iterator[Entry]]:
    """Fetches all that lies under the prefix into `folder`, where an earlier attempt may have begun, and gives the
    entries while the `with` block lasts.

    With a `bagit.txt` it is a bag, and held against its manifests; else its objects are the payload, and manifests
    beside them are kept as `<source_name>-tags/manifest-…`. Raises what `package` raises. If the source changed,
    `folder` is removed.
    """
    source = S3Source(location, settings)
    try:
        objects = folder.resolve() / OBJECTS
        with _listed(folder, source, cancellation) as listing:
            _fetch(source, listing, folder, settings, progress, cancellation)
            listing.compare(source.list(cancellation), str(location))
            with _held_against(listing, objects, location, source_name, cancellation) as entries:
                yield entries
    except SourceChanged:
        shutil.rmtree(folder)
        raise


@contextmanager
def _listed(folder: Path, source: S3Source, cancellation: Cancellation) -> Iterator[Listing]:
    """The listing that an earlier attempt fetched by; else a new one, with nothing fetched."""
    path = folder / LISTING
    if path.exists():
        with open_listing(path) as listing:
            if listing.complete:
                _forget_partial_of_other_boots(folder)
                yield listing
                return
    if folder.exists():
        shutil.rmtree(folder)
    for needed in (folder, folder / OBJECTS, folder / PARTIAL):
        needed.mkdir(mode=0o700)
    (folder / BOOT).write_text(_boot())
    with open_listing(path) as listing:
        listing.fill(source.list(cancellation), str(source.location))
        yield listing


def _forget_partial_of_other_boots(folder: Path) -> None:
    """What was half fetched may not have reached the disk when the machine went down; what is whole did, or has a
    checksum that tells."""
    if (folder / BOOT).read_text() != _boot():
        for partial in (folder / PARTIAL).iterdir():
            partial.unlink()
        (folder / BOOT).write_text(_boot())


def _boot() -> str:
    """What changes with every start of the machine."""
    return BOOT_ID.read_text()


def _fetch(
    source: S3Source,
    listing: Listing,
    folder: Path,
    settings: DepositS3Settings,
    progress: OnProgress | None,
    cancellation: Cancellation,
) -> None:
    for name in listing.folders():
        (folder / OBJECTS / name.decode()).mkdir(parents=True, exist_ok=True)
    Fetch(
        source,
        folder / OBJECTS,
        folder / PARTIAL,
        threads=settings.fetch_threads,
        etags_are_checksums=settings.etags_are_checksums,
        progress=progress,
        cancellation=cancellation,
    ).run(listing)


@contextmanager
def _held_against(
    listing: Listing, objects: Path, location: S3Location, source_name: str | None, cancellation: Cancellation
) -> Iterator[Iterator[Entry]]:
    """What was fetched, with what it was then and what the manifests claim of it."""

    def as_fetched(name: bytes) -> Claims:
        return _claims(listing.find(name))

    if is_bag(objects):
        bag = local_entries(
            BagLocation(objects), source_name, cancellation, claims_of=as_fetched, called=str(location)
        )
        with _damage_is_fetched_again(listing, objects, location), bag as entries:
            yield entries
        return
    tags_folder = f"{check_source_name(source_name or DEFAULT_SOURCE_NAME)}-tags/".encode()
    again = _damage_is_fetched_again(listing, objects, location)
    with again, open_manifests(listing, objects, str(location)) as manifests:

        def of_both(name: bytes) -> Claims:
            return _both(_claims(listing.find(name)), manifests, name, location)

        payload = local_entries(FolderLocation(objects), None, cancellation, claims_of=of_both)
        with payload as entries:
            yield _manifests_aside(entries, manifests, tags_folder)


def _manifests_aside(entries: Iterator[Entry], manifests: Manifests, tags_folder: bytes) -> Iterator[Entry]:
    for entry in entries:
        name = entry.name.removeprefix(PAYLOAD_PREFIX)
        yield entry._replace(name=tags_folder + name) if name in manifests.names else entry


def _claims(found: Object | None) -> Claims:
    if found is None:
        raise SourceChanged("a file was fetched that is not in the listing: it is fetched anew")
    return Claims(found.size, found.checksums or {})


def _both(fetched: Claims, manifests: Manifests, name: bytes, location: S3Location) -> Claims:
    """As it was fetched comes first: if it still is, a fault that a manifest finds was in the source."""
    claimed = manifests.claimed(name)
    for algorithm, digest in claimed.items():
        if fetched.digests.get(algorithm, digest) != digest:
            where = f"{location}{name.decode()}"
            raise ClaimRefuted(where, algorithm, digest, fetched.digests[algorithm])
    return Claims(fetched.size, {**fetched.digests, **claimed})


@contextmanager
def _damage_is_fetched_again(listing: Listing, objects: Path, location: S3Location) -> Iterator[None]:
    """A fetched file that is not what it was when it was fetched is removed: the fault is ours, not the
    depositor's."""
    try:
        yield
    except ClaimRefuted as error:
        path = Path(error.where)
        if not path.is_relative_to(objects):
            raise
        name = str(path.relative_to(objects))
        found = listing.find(name.encode())
        if found is None or error.claim not in {"size", *(found.checksums or {})}:
            raise ClaimRefuted(f"{location}{name}", error.claim, error.claimed, error.found) from error
        path.unlink()
        raise FetchDamaged(
            f"{path} is not what was fetched: {error.claim} is {error.found}, and was {error.claimed}. It is "
            "fetched again; if that happens more often, have this volume's disk looked at."
        ) from error
