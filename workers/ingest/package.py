"""package: turns a deposit's source into a valid DPN bag, as a tar on a staging volume.

The same deposit makes the same bytes: packaged again, after a crash or the loss of its volume, it is the same bag.
What is in our store and our registry is packaged again only for the nodes that have not fetched it yet: where its
source is gone, too, it waits for a person, and goes on once enough of them say that they have it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dpn.audit.trail import EventType
from dpn.bags.errors import SourceRefused
from dpn.database import Sessions
from dpn.errors import Interrupted, ServiceUnavailable
from dpn.ingest.settings import IngestSettings
from dpn.ingest.submission import is_in, require_named_over_http
from dpn.packaging.confined_source import confined
from dpn.packaging.description import Description, Packaged
from dpn.packaging.errors import SourceUnavailable
from dpn.packaging.estimate import estimate
from dpn.packaging.location import locate
from dpn.packaging.package import FETCHED_OBJECTS, package
from dpn.staging.folders import StagingFolder
from dpn.staging.staging import Staging
from dpn.text import is_line
from dpn.work.outcomes import Done, Fail, Outcome, Wait
from models.manifests import DepositFacts, IngestContact, IngestManifest, StagedFile, ValidationResult
from workers.ingest.asked import stored_at, transfers_of
from workers.stage import Job


@dataclass(frozen=True)
class PackageStage:
    """See the module's docstring. `node` is ours, `our_folders` are those where it keeps bags on their way."""

    node: str
    staging: Staging
    settings: IngestSettings
    sessions: Sessions
    poll_seconds: float
    our_folders: Collection[Path] = ()
    name: str = "package"

    def run(self, job: Job[IngestManifest]) -> Outcome:
        manifest, deposit = job.manifest, job.manifest.deposit
        if manifest.staged is not None and manifest.validation is not None and self.staging.holds(manifest.staged):
            return Done("packaged already")
        manifest.forget_staged()
        stored = stored_at(transfers_of(self.sessions, manifest), manifest) if manifest.needs_no_staging else []
        wanted = self.settings.replicate_to_count
        if manifest.needs_no_staging and len(stored) >= wanted:
            return Done("the wanted copies exist: nobody needs it packaged again")
        try:
            with self._source(deposit) as (source, require_unmoved):
                packaged, staged = self._package(job, deposit, source, require_unmoved)
        except (ServiceUnavailable, SourceRefused) as error:
            if not manifest.needs_no_staging:
                raise
            # Its own remedy is for a deposit that can still be cancelled.
            why = f"{deposit.source} is away" if isinstance(error, SourceUnavailable) else str(error)
            told = f"{len(stored) + 1} of {wanted + 1} copies exist, ours among them; "
            lost = "what other nodes were to fetch is lost, and it cannot be packaged again"
            then = "put the source back as it was; it goes on by itself, also once the wanted copies exist"
            return Wait(self.poll_seconds, f"{told}{lost}: {why}; {then}", needs_attention=True)
        receipt = manifest.receipt
        if receipt is not None and receipt.sha256 != packaged.sha256:
            return Fail(
                f"packaged again, the bag is another one than is stored at {receipt.url}: its source has changed. "
                "Put the source back as it was, or deposit what it is now as a new version"
            )
        manifest.staged = staged
        manifest.validation = _judged(packaged)
        job.add_event(
            EventType.PACKING,
            deposit.bag,
            "success",
            source=deposit.source,
            files=packaged.files,
            payload_bytes=packaged.payload_bytes,
            size=packaged.size,
            sha256=packaged.sha256,
        )
        job.add_event(
            EventType.VALIDATION,
            deposit.bag,
            "success",
            profile=packaged.report.profile,
            errors=packaged.report.errors,
            warnings=packaged.report.warnings,
        )
        return Done(f"packaged: {packaged.files} files, {packaged.size} bytes")

    @contextmanager
    def _source(self, deposit: DepositFacts) -> Iterator[tuple[str, Callable[[], None]]]:
        """What to read, and what raises BagChanged if something else was read: of a deposit that was named over
        HTTP, by whomever, nothing but what lies in the folders that may be named so."""
        if "://" in deposit.source:
            yield deposit.source, lambda: None
            return
        resolved = Path(deposit.source).resolve()
        self._require_fit(resolved)
        if not deposit.named_over_http:
            yield deposit.source, lambda: None
            return
        require_named_over_http(str(resolved), self.settings.source_folders)
        try:
            resolved.lstat()
        except OSError:
            locate(deposit.source)  # says what to do
        with confined(resolved) as held:
            yield held

    def _require_fit(self, source: Path) -> None:
        """Raises SourceRefused for what would grow while it is read. Looked at now: there may be a link since it
        was submitted."""
        for folder in (folder.resolve() for folder in self.our_folders):
            if is_in(source, folder) or is_in(folder, source):
                raise SourceRefused(
                    f"{source} lies in {folder}, or around it, where bags on their way are kept: copy it "
                    "elsewhere and deposit that"
                )

    def _package(
        self, job: Job[IngestManifest], deposit: DepositFacts, source: str, require_unmoved: Callable[[], None]
    ) -> tuple[Packaged, StagedFile]:
        contact = self._contact(job.manifest.contact)
        description = replace(self._description(deposit, contact), source=source)
        description.require_fit()
        job.manifest.contact = contact
        job.save(f"looking at {deposit.source}")
        needed = estimate(description, s3=self.settings.s3, cancellation=job.cancellation)
        item = job.claim.item_id
        volume = self.staging.reserve_room(
            item,
            needed.staging_bytes,
            token=job.claim.token,
            begun_on=job.staging_volume,
            large_tree=FETCHED_OBJECTS if _is_fetched(description) else None,
        )
        job.staging_volume = volume
        job.save(f"packaging {needed.files} files, {needed.source_bytes} bytes, on volume {volume}")
        with self.staging.folder(volume, item, job.claim.token) as folder:
            made = folder.path / description.tar_name()
            if deposit.named_over_http:
                made.unlink(missing_ok=True)  # of a worker that was killed before it knew what it had read
            packaged = self._packaged(job, description, folder)
            try:
                require_unmoved()
            except BaseException:
                made.unlink(missing_ok=True)
                raise
            staged = StagedFile(
                volume=volume,
                path=str(self.staging.relative(volume, packaged.path)),
                size=packaged.size,
                tag_manifest_sha256=packaged.tag_manifest_sha256,
            )
        self.staging.lower(item, packaged.size)
        return packaged, staged

    def _packaged(self, job: Job[IngestManifest], description: Description, folder: StagingFolder) -> Packaged:
        """What was fetched is counted when there is an end to it for now: a source may be away for weeks, and
        others shall not wait for room that is taken already. If the worker stops, the next attempt counts it."""

        def count_fetched() -> None:
            if _is_fetched(description):
                self.staging.note_tree(folder, FETCHED_OBJECTS)

        if not folder.adopted:
            count_fetched()
        job.progress.begin(f"packaging {job.manifest.deposit.source}")
        try:
            return package(
                description,
                folder.path,
                s3=self.settings.s3,
                progress=job.progress.reach,
                when_fetched=count_fetched,
                cancellation=job.cancellation,
            )
        except Interrupted:
            raise
        except Exception:
            count_fetched()
            raise

    def _contact(self, kept: IngestContact | None) -> IngestContact:
        """What the bag was described with before; one that no bag can have is asked of the settings again."""
        if kept is not None and all(map(is_line, (kept.node_address, kept.contact_name, kept.contact_email))):
            return kept
        settings = self.settings
        return IngestContact(
            node_address=settings.node_address,
            contact_name=settings.contact_name,
            contact_email=settings.contact_email,
        )

    def _description(self, deposit: DepositFacts, contact: IngestContact) -> Description:
        return Description(
            bag=deposit.bag,
            source=deposit.source,
            member=deposit.member,
            local_id=deposit.local_id,
            bagging_date=deposit.bagging_date,
            ingest_node=self.node,
            source_name=deposit.source_name,
            as_is=deposit.as_is,
            bag_type=deposit.bag_type,
            version=deposit.version,
            first_version_uuid=deposit.first_version_uuid,
            rights=tuple(deposit.rights),
            interpretive=tuple(deposit.interpretive),
            title=deposit.title,
            node_address=contact.node_address,
            contact_name=contact.contact_name,
            contact_email=contact.contact_email,
        )


def _is_fetched(description: Description) -> bool:
    return "://" in description.source


def _judged(packaged: Packaged) -> ValidationResult:
    return ValidationResult(
        valid=True,
        profile=packaged.report.profile or "none",
        files=packaged.report.files,
        bytes=packaged.report.bytes,
        tag_manifest_sha256=packaged.tag_manifest_sha256,
        sha256=packaged.sha256,
        errors=packaged.report.errors,
        warnings=packaged.report.warnings,
    )
