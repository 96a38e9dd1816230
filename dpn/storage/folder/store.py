"""The Store over a folder: `file:///srv/dpn/store`.

An object is a read-only file `<uuid>.tar` with `<uuid>.tar.json` beside it: the metadata and digests it was stored
with. The bag is written under a temporary name, made durable, dropped from the page cache and read back; only then
does it get its name, which must be free. A full or failing disk is the store's outage, never the bag's fault.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import Misconfigured, StoreMismatch, StoreMissing, StoreUnavailable
from dpn.files import make_durable, new_file, publish_new, sync_folder
from dpn.s3.plan import Part, PartPlan, plan_parts
from dpn.storage.availability import Availability, RestoreRequested
from dpn.storage.digests import Digests
from dpn.storage.errors import ObjectReplaced, StagedChanged, StoreConflict
from dpn.storage.fetch import Wanted
from dpn.storage.folder.disk import PROBE_PREFIX, Disk
from dpn.storage.folder.files import compare, copy_with_digests, digests_on_disk, take_place
from dpn.storage.folder.sidecar import read_sidecar, write_sidecar
from dpn.storage.retrieval import Retrieved, choose_plan, refuse_other_size, retrieve
from dpn.storage.settings import StoreSettings, Tier
from dpn.storage.source import open_source
from dpn.storage.store import Checkpoint, Fence, Replaced
from dpn.storage.stored_object import CLAIMED_SHA256, READ_BYTES, Capabilities, Progress, StoredObject
from models.manifests import Receipt, UploadState

READ_ONLY = 0o444
_log = logging.getLogger(__name__)


class FolderStore:
    """See dpn.storage.store.Store for what it promises."""

    def __init__(self, settings: StoreSettings, *, clock: Clock) -> None:
        self.name = settings.name
        self._disk = Disk(f"store:{settings.name}", Path(unquote(urlsplit(settings.url).path)))
        self._part_size = settings.part_size_bytes
        self._threads = settings.retrieve_threads
        self._clock = clock

    def probe(self) -> Capabilities:
        """Gives a file a name, then tries to give another the same name."""
        probe = self._disk.folder / f"{PROBE_PREFIX}{secrets.token_hex(8)}"
        with self._disk.troubles():
            try:
                self._publish_empty(probe)
                self._publish_empty(probe)
            except FileExistsError:
                return Capabilities(refuses_overwriting=True, may_delete=True)
            finally:
                probe.unlink(missing_ok=True)
        raise Misconfigured(
            f"{self._disk.service}: {self._disk.folder} lets one file take another's name: use another disk"
        )

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
        path = self._disk.path(key)
        if self.head(key):
            return self._adopt(path, sha256, metadata, cancellation, fence)
        write = partial(self._write, source, path, sha256, metadata, cancellation, fence, progress)
        try:
            return write(publish_new)
        except FileExistsError:
            return self._adopt(path, sha256, metadata, cancellation, fence)

    def replace(
        self,
        source: Path,
        key: str,
        *,
        sha256: str,
        metadata: Mapping[str, str],
        bad: StoredObject | None,
        resume: UploadState | None,
        checkpoint: Checkpoint,
        cancellation: Cancellation,
        fence: Fence = lambda: None,
        progress: Progress | None = None,
    ) -> Replaced:
        if resume:
            checkpoint(None)  # of the time when the settings named another store
        path = self._disk.path(key)
        if (found := self.head(key)) and (good := self._good_already(path, sha256, metadata, cancellation, fence)):
            return Replaced(good)
        _refuse_another(path, found, bad)
        write = partial(self._write, source, path, sha256, metadata, cancellation, fence, progress)

        def exchange(temporary: Path, path: Path) -> None:
            found = self.head(key)
            _refuse_another(path, found, bad)
            (take_place if found else publish_new)(temporary, path)

        try:
            return Replaced(write(exchange))
        except FileExistsError as error:
            raise ObjectReplaced(f"{path.as_uri()} is there again by now: check it") from error

    def head(self, key: str) -> StoredObject | None:
        return self._disk.head(key)

    def keys(self) -> Iterator[str]:
        yield from self._disk.keys()

    def marker(self) -> str | None:
        return self._disk.marker()

    def mark(self, text: str) -> None:
        self._disk.mark(text)

    def confirm(
        self, receipt: Receipt, *, read_back: bool = False, cancellation: Cancellation | None = None
    ) -> Receipt:
        """Always reads every byte: a folder shows no checksums."""
        path = self._disk.path(receipt.key)
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
            raise StoreMissing(f"{self._disk.service}: no object {key}")
        with self._disk.troubles(), self._disk.path(key).open("rb", buffering=0) as file:
            while chunk := file.read(chunk_size):
                yield chunk

    def availability(self, key: str, *, version_id: str | None = None) -> Availability:
        stored = self.head(key)
        if stored is None:
            return Availability("missing", f"{self._disk.path(key).as_uri()} is not there")
        return Availability("available", "a file", storage_class=stored.storage_class, stored=stored)

    def request_restore(
        self,
        key: str,
        *,
        tier: Tier,
        days: int,
        faster: bool = False,
        version_id: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> RestoreRequested:
        found = self.availability(key)
        if found.stored is None:
            raise StoreMissing(f"{self._disk.service}: {found.why}")
        return RestoreRequested("already-available", found.why, found.storage_class)

    def retrieve(
        self,
        key: str,
        target: Path,
        *,
        receipt: Receipt | None = None,
        cancellation: Cancellation,
        progress: Progress | None = None,
    ) -> Retrieved:
        path, stored = self._disk.path(key), self.head(key)
        if stored is None:
            raise StoreMissing(f"{path.as_uri()} is not there")
        refuse_other_size(path.as_uri(), stored, receipt)
        plan = choose_plan(stored, receipt, self._part_size)
        with ExitStack() as open_file:
            with self._disk.reading_objects():
                source = open_file.enter_context(open_source(path))

            def read(part: Part, stop: Cancellation) -> Iterator[memoryview]:
                with self._disk.reading_objects():
                    yield from source.buffers(part, stop.check)

            wanted = Wanted(path.as_uri(), stored, receipt, plan, threads=self._threads)
            return retrieve(wanted, read, target, cancellation=cancellation, progress=progress)

    def open_in_place(self, key: str) -> Path | None:
        if self.head(key) is None:
            raise StoreMissing(f"{self._disk.path(key).as_uri()} is not there")
        return self._disk.path(key)

    def abort_abandoned_uploads(self, *, older_than: timedelta, keep: Collection[str]) -> int:
        """Removes what crashes left: temporary files and sidecars that never got their object."""
        return self._disk.remove_left_overs(self._clock.now() - older_than)

    def _publish_empty(self, path: Path) -> None:
        with new_file(path) as (file, temporary):
            make_durable(file)
            publish_new(temporary, path)

    def _write(
        self,
        source: Path,
        path: Path,
        sha256: str,
        metadata: Mapping[str, str],
        cancellation: Cancellation,
        fence: Fence,
        progress: Progress | None,
        publish: Callable[[Path, Path], None],
    ) -> Receipt:
        """Writes, syncs and reads back a copy of `source`, then has it published. Raises FileExistsError, too."""
        with open_source(source) as file:
            plan = plan_parts(file.size, self._part_size)
            self._disk.refuse_without_room(file.size)
            with self._disk.troubles(), new_file(path, permissions=READ_ONLY) as (copy, temporary):
                digests = copy_with_digests(file, plan, copy, cancellation, progress)
                if digests.sha256 != sha256:
                    raise StagedChanged(
                        f"{source.name} has SHA-256 {digests.sha256}, it was validated with {sha256}: "
                        "nothing was stored, the bag is fetched again"
                    )
                make_durable(copy)
                self._compare(temporary, digests, cancellation)
                fence()
                publish(temporary, path)
                # Only who gave the object its name says what it is: a late holder would say it of another's.
                write_sidecar(path, metadata, digests)
        return self._receipt(path, digests)

    def _good_already(
        self, path: Path, sha256: str, metadata: Mapping[str, str], cancellation: Cancellation, fence: Fence
    ) -> Receipt | None:
        """The receipt of what is there, if a repair before us came to its end."""
        try:
            digests = self._digest(path, self._part_size, cancellation)
        except (StoreMismatch, StoreUnavailable) as error:
            # A bad sector, for one: what cannot be read is not good, and is replaced by what can.
            _log.warning("%s cannot be read, and is taken for bad: %s", path, error)
            return None
        return self._finished(path, digests, metadata, fence) if digests.sha256 == sha256 else None

    def _adopt(
        self, path: Path, sha256: str, metadata: Mapping[str, str], cancellation: Cancellation, fence: Fence
    ) -> Receipt:
        """The receipt for an object that was there before us, if it proves to be this very bag."""
        digests = self._digest(path, self._part_size, cancellation)
        if digests.sha256 != sha256:
            raise StoreConflict(
                f"{path.as_uri()} holds another content, of SHA-256 {digests.sha256} instead of {sha256}. "
                "It is not overwritten: compare the two, move the wrong one away, then retry the item"
            )
        return self._finished(path, digests, metadata, fence)

    def _finished(self, path: Path, digests: Digests, metadata: Mapping[str, str], fence: Fence) -> Receipt:
        """The receipt of what proved to be this bag. Who published it may have died, or its disk failed, before
        the name was durable and the sidecar written."""
        with self._disk.troubles():
            sync_folder(path.parent)
            if read_sidecar(path).get(CLAIMED_SHA256) != digests.sha256:
                fence()
                write_sidecar(path, metadata, digests)
        return self._receipt(path, digests)

    def _compare(self, path: Path, expected: Digests, cancellation: Cancellation) -> None:
        with self._disk.reading_objects():
            compare(path, expected, cancellation)

    def _digest(self, path: Path, plan: PartPlan | int, cancellation: Cancellation) -> Digests:
        with self._disk.reading_objects():
            return digests_on_disk(path, plan, cancellation)

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


def _refuse_another(path: Path, found: StoredObject | None, bad: StoredObject | None) -> None:
    """Raises ObjectReplaced for an object that nobody has found bad."""
    if found and (bad is None or (found.size, found.modified_at) != (bad.size, bad.modified_at)):
        raise ObjectReplaced(f"{path.as_uri()} is not the object that was found bad: check it again")
