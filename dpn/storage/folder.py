"""The Store over a folder: `file:///srv/dpn/store`.

An object is a read-only file `<uuid>.tar` with `<uuid>.tar.json` beside it: the metadata and digests it was stored
with. The bag is written under a temporary name, made durable, dropped from the page cache and read back; only then
does it get its name, which must be free. A full or failing disk is the store's outage, never the bag's fault.
"""

from __future__ import annotations

import errno
import logging
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import Misconfigured, StoreMismatch, StoreUnavailable
from dpn.files import is_temporary, make_durable, new_file, publish_new
from dpn.settings import StoreSettings
from dpn.storage.base import (
    READ_BYTES,
    Capabilities,
    Checkpoint,
    Fence,
    Progress,
    StoredObject,
    check_key,
)
from dpn.storage.digests import Digester, Digests
from dpn.storage.errors import SourceChanged, SourceUnreadable, StoreConflict, StoreMissing
from dpn.storage.plan import PartPlan, plan_parts
from dpn.storage.sidecar import SIDECAR_SUFFIX, read_sidecar, write_sidecar
from dpn.storage.source import Source, open_source
from models.manifests import Receipt, UploadState

READ_ONLY = 0o444
PROBE_PREFIX = ".dpn-probe-"
FULL = {errno.ENOSPC, errno.EDQUOT}
WRONG_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP, errno.ENOSYS}
_log = logging.getLogger(__name__)


class FolderStore:
    """See dpn.storage.base.Store for what it promises."""

    def __init__(self, settings: StoreSettings, *, clock: Clock) -> None:
        self.name = settings.name
        self._service = f"store:{settings.name}"
        self._folder = Path(unquote(urlsplit(settings.url).path))
        self._part_size = settings.part_size_bytes
        self._clock = clock

    def probe(self) -> Capabilities:
        """Gives a file a name, then tries to give another the same name."""
        probe = self._folder / f"{PROBE_PREFIX}{secrets.token_hex(8)}"
        with self._troubles():
            try:
                self._publish_empty(probe)
                self._publish_empty(probe)
            except FileExistsError:
                return Capabilities(refuses_overwriting=True, may_delete=True)
            finally:
                probe.unlink(missing_ok=True)
        raise Misconfigured(f"{self._service}: {self._folder} lets one file take another's name: use another disk")

    def put(
        self,
        source: Path,
        key: str,
        *,
        sha256: str,
        metadata: Mapping[str, str],
        resume: UploadState | None,
        checkpoint: Checkpoint,
        cancellation: Cancellation,
        fence: Fence = lambda: None,
        progress: Progress | None = None,
    ) -> Receipt:
        if resume:
            checkpoint(None)  # of the time when the settings named another store
        path = self._path(key)
        if self.head(key):
            return self._adopt(path, sha256, cancellation)
        with open_source(source) as file:
            plan = plan_parts(file.size, self._part_size)
            self._refuse_without_room(file.size)
            with self._troubles(), new_file(path, permissions=READ_ONLY) as (copy, temporary):
                digests = _copy(file, plan, copy, cancellation, progress)
                if digests.sha256 != sha256:
                    raise SourceChanged(
                        f"{source.name} has SHA-256 {digests.sha256}, it was validated with {sha256}: "
                        "nothing was stored, the bag is fetched again"
                    )
                make_durable(copy)
                self._compare(temporary, digests, cancellation)
                write_sidecar(path, metadata, digests)
                fence()
                try:
                    publish_new(temporary, path)
                except FileExistsError:
                    return self._adopt(path, sha256, cancellation)
        return self._receipt(path, digests)

    def head(self, key: str) -> StoredObject | None:
        path = self._path(key)
        with self._troubles():
            # Asked first: a disk that is not mounted must not look like an empty store.
            self._folder.stat()
            try:
                found = path.lstat()
            except FileNotFoundError:
                return None
        if not S_ISREG(found.st_mode):
            raise Misconfigured(f"{self._service}: {path} is not a regular file: move it away")
        return StoredObject(
            key=key,
            size=found.st_size,
            modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
            metadata=read_sidecar(path),
        )

    def confirm(
        self, receipt: Receipt, *, read_back: bool = False, cancellation: Cancellation | None = None
    ) -> Receipt:
        """Always reads every byte: a folder shows no checksums."""
        path = self._path(receipt.key)
        if path.as_uri() != receipt.url:
            raise Misconfigured(
                f"{receipt.url} is not in this store ({path.as_uri()} would be): correct store.url"
            )
        stored = self.head(receipt.key)
        if stored is None:
            raise StoreMissing(f"{receipt.url} is not there any more")
        if stored.size != receipt.size:
            raise StoreMismatch(f"{receipt.url} has {stored.size} bytes instead of {receipt.size}")
        expected = Digests(PartPlan(receipt.size, receipt.part_size), receipt.sha256, tuple(receipt.part_sha256))
        self._compare(path, expected, cancellation or Cancellation())
        return receipt.model_copy(update={"confirmed_at": self._clock.now(), "confirmed_by": "read-back"})

    def read(self, key: str, *, chunk_size: int = READ_BYTES) -> Iterator[bytes]:
        if self.head(key) is None:
            raise StoreMissing(f"{self._service}: no object {key}")
        with self._troubles(), self._path(key).open("rb", buffering=0) as file:
            while chunk := file.read(chunk_size):
                yield chunk

    def abort_abandoned_uploads(self, *, older_than: timedelta, keep: Collection[str]) -> int:
        """Removes what crashes left: temporary files and sidecars that never got their object."""
        removed = 0
        before = (self._clock.now() - older_than).timestamp()
        with self._troubles():
            for path in list(self._folder.iterdir()):
                if _is_left_over(path) and path.lstat().st_mtime < before:
                    _log.info("removing %s, left over by a crash", path)
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _path(self, key: str) -> Path:
        return self._folder / check_key(key)

    def _publish_empty(self, path: Path) -> None:
        with new_file(path) as (file, temporary):
            make_durable(file)
            publish_new(temporary, path)

    def _refuse_without_room(self, size: int) -> None:
        with self._troubles():
            free = shutil.disk_usage(self._folder).free
        if free < size:
            raise StoreUnavailable(
                self._service, f"{self._folder} has {free} bytes left for a bag of {size}: free or add some"
            )

    def _adopt(self, path: Path, sha256: str, cancellation: Cancellation) -> Receipt:
        """The receipt for an object that was there before us, if it proves to be this very bag."""
        digests = self._digest(path, None, cancellation)
        if digests.sha256 != sha256:
            raise StoreConflict(
                f"{path.as_uri()} holds another content, of SHA-256 {digests.sha256} instead of {sha256}. "
                "It is not overwritten: compare the two, move the wrong one away, then retry the item"
            )
        return self._receipt(path, digests)

    def _compare(self, path: Path, expected: Digests, cancellation: Cancellation) -> None:
        # In one piece: hashing the parts as well would double the work, and tells only where a mismatch is.
        in_one_piece = PartPlan(expected.plan.size, max(1, expected.plan.size))
        found = self._digest(path, in_one_piece, cancellation)
        if found.sha256 == expected.sha256:
            return
        parts = self._digest(path, expected.plan, cancellation).part_sha256
        wrong = [
            str(number)
            for number, (ours, theirs) in enumerate(zip(expected.part_sha256, parts, strict=False), 1)
            if ours != theirs
        ]
        raise StoreMismatch(
            f"{path}: read back, its SHA-256 is {found.sha256} instead of {expected.sha256}; "
            f"wrong parts of {expected.plan.part_size} bytes: {', '.join(wrong) or 'none'}"
        )

    def _digest(self, path: Path, plan: PartPlan | None, cancellation: Cancellation) -> Digests:
        """The digests of what is on the disk, in the parts that we would make if no plan is given."""
        try:
            with open_source(path) as file:
                file.leave_cache()
                plan = plan or plan_parts(file.size, self._part_size)
                digester = Digester(plan)
                for part in plan.parts():
                    digester.digest(part, file.buffers(part, cancellation.check))
                return digester.digests()
        except SourceUnreadable as error:
            raise self._trouble(error) from error
        except SourceChanged as error:
            raise StoreMismatch(f"{path} is cut short or no regular file: {error}") from error

    def _receipt(self, path: Path, digests: Digests) -> Receipt:
        return Receipt(
            store=self.name,
            url=path.as_uri(),
            key=path.name,
            size=digests.plan.size,
            sha256=digests.sha256,
            part_size=digests.plan.part_size,
            part_sha256=list(digests.part_sha256),
            confirmed_at=self._clock.now(),
            confirmed_by="read-back",
        )

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except SourceUnreadable:
            raise
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> Misconfigured | StoreUnavailable:
        if error.errno in WRONG_FOLDER:
            return Misconfigured(
                f"{self._service}: {error}: {self._folder} must be there (mounted?), writable for this user, "
                "and on a file system with hard links"
            )
        remedy = f": free or add space in {self._folder}" if error.errno in FULL else ": look at its disk"
        return StoreUnavailable(self._service, f"{error}{remedy}")


def _copy(
    source: Source, plan: PartPlan, copy: BinaryIO, cancellation: Cancellation, progress: Progress | None
) -> Digests:
    """Writes all of `source`; answers the digests of what was written."""
    digester = Digester(plan)

    def written(buffers: Iterator[memoryview]) -> Iterator[memoryview]:
        for buffer in buffers:
            copy.write(buffer)
            yield buffer

    for part in plan.parts():
        digester.digest(part, written(source.buffers(part, cancellation.check)))
        if progress:
            progress(part.offset + part.size, plan.size)
    return digester.digests()


def _refers_to_nothing(path: Path) -> bool:
    return (
        path.name.endswith(SIDECAR_SUFFIX) and not path.with_name(path.name.removesuffix(SIDECAR_SUFFIX)).exists()
    )


def _is_left_over(path: Path) -> bool:
    return is_temporary(path.name) or path.name.startswith(PROBE_PREFIX) or _refers_to_nothing(path)
