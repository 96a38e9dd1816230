"""Builds DPN bags, into a tar or a folder. Each byte of the source is read once, hashed while it is written.

Deterministic: the same files, metadata and uuid make the same bytes. What was built is read again and validated
before it gets its name; until then it lies in a hidden folder beside it. A tar of many files is validated by a
second process while it is built.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from dpn.bags.building.builder import REQUIRED_ALGORITHM, Form, building
from dpn.bags.building.entries import Entry
from dpn.bags.building.fit_metadata import refuse_unfit_metadata
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.building.second_reader import Following
from dpn.bags.building.sources import payload_entries, refuse_to_build_within, unfit_entries
from dpn.bags.errors import BuiltBagInvalid, UnfitEntry
from dpn.bags.findings import Finding
from dpn.bags.hash_threads import OnProgress, Progress
from dpn.bags.report import Report
from dpn.bags.validation.profiles import STRICT, Profile, load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.files import publish_new, sync_folder

SCRATCH_PREFIX = ".building-"
"""Of the hidden folder in which a bag is built; one that is left over is a crash's, and may go."""


@dataclass(frozen=True, slots=True)
class BuiltBag:
    """A valid bag under its final name. `size` is the tar's, or the sum of a folder's files."""

    path: Path
    uuid: str
    size: int
    tag_manifest_sha256: str
    sha256: str | None
    """Of the tar; None for a folder."""
    files: int
    payload_bytes: int
    report: Report


def build_bag(
    sources: Path | Sequence[Path],
    out_dir: Path,
    *,
    metadata: DpnMetadata,
    uuid: str | None = None,
    form: Form = "tar",
    algorithms: Sequence[str] = (REQUIRED_ALGORITHM,),
    profile: Profile | None = None,
    progress: OnProgress | None = None,
    cancellation: Cancellation | None = None,
) -> BuiltBag:
    """Bag a folder (what is in it) or several sources (each under its name) as `<uuid>.tar` or folder `<uuid>`.

    `uuid` None: a new one. `profile` None: "dpn-strict", for a folder "dpn". `progress` is told bytes and files of
    the source. Raises SourceRefused (links, unfit names, nothing to bag, unfit metadata, `out_dir` in a source),
    FileExistsError (nothing is overwritten), BagChanged, BuiltBagInvalid, OSError, and what `cancellation` was
    given. Leaves nothing behind then.
    """
    paths = [sources] if isinstance(sources, Path) else list(sources)
    refuse_to_build_within(paths, out_dir)
    return build_from_entries(
        payload_entries(paths, cancellation, alike_names=form == "folder" or profile is not None),
        out_dir,
        what=", ".join(map(str, paths)),
        metadata=metadata,
        uuid=uuid,
        form=form,
        algorithms=algorithms,
        profile=profile,
        progress=progress,
        cancellation=cancellation,
    )


def rehearse(
    sources: Sequence[Path],
    out_dir: Path,
    *,
    metadata: DpnMetadata,
    uuid: str | None = None,
    form: Form = "tar",
    cancellation: Cancellation | None = None,
) -> Iterator[UnfitEntry]:
    """Every file and folder for which `build_bag` would build no bag, told before anything is read or written.

    For all else that can be known then it raises as `build_bag` does.
    """
    refuse_to_build_within(sources, out_dir)
    bag_uuid = uuid or str(uuids.uuid4())
    _final_path(out_dir, bag_uuid, form)
    refuse_unfit_metadata(metadata, bag_uuid, load_profile(STRICT if form == "tar" else "dpn"))
    yield from unfit_entries(sources, cancellation, alike_names=form == "folder")


def build_from_entries(
    entries: Iterable[Entry],
    out_dir: Path,
    *,
    what: str,
    metadata: DpnMetadata,
    uuid: str | None = None,
    form: Form = "tar",
    algorithms: Sequence[str] = (REQUIRED_ALGORITHM,),
    profile: Profile | None = None,
    progress: OnProgress | None = None,
    validating: OnProgress | None = None,
    cancellation: Cancellation | None = None,
) -> BuiltBag:
    """Bag `entries` (payload, and further tag files `<name>-tags/…`) in the order in which they come.

    Each is opened when its turn has come, read once and held against its claims; the next one is asked for when
    its digests were delivered. What `entries` raises comes out, and nothing is left behind. `what` they are, for
    errors. They must not come from `out_dir` (`refuse_to_build_within`). `validating` is told bytes and files of
    the bag read again. Otherwise as `build_bag`; and ClaimRefuted, for a file that is not what is claimed of it.
    """
    bag_uuid, judged_by = uuid or str(uuids.uuid4()), profile or load_profile(STRICT if form == "tar" else "dpn")
    final = _final_path(out_dir, bag_uuid, form)
    refuse_unfit_metadata(metadata, bag_uuid, judged_by)
    with ExitStack() as leaving:
        path = Path(leaving.enter_context(TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=out_dir))) / final.name
        as_we_do = form == "tar" and profile is None and tuple(algorithms) == (REQUIRED_ALGORITHM,)
        following = leaving.enter_context(Following(path, STRICT if as_we_do else None))
        told = Progress(following.watching(progress), cancellation)
        with building(
            entries,
            path,
            form,
            uuid=bag_uuid,
            metadata=metadata,
            algorithms=algorithms,
            cores=following.cores_left,
            progress=told,
            what=what,
        ):  # what was written gets to the disk while it is read again
            report = following.report(Progress(validating, cancellation)) or validate(
                path,
                profile=judged_by,
                whole_file_sha256=form == "tar",
                progress=validating,
                cancellation=cancellation,
            )
        if not report.valid or report.tag_manifest_sha256 is None:
            raise BuiltBagInvalid(f"the bag built from {what} is not valid: {_told(report.first_error)}")
        _place(path, final)
    return BuiltBag(
        path=final,
        uuid=bag_uuid,
        size=final.stat().st_size if form == "tar" else _size_of_folder(final),
        tag_manifest_sha256=report.tag_manifest_sha256,
        sha256=report.sha256,
        files=report.files,
        payload_bytes=report.bytes,
        report=replace(report, path=final),
    )


def _final_path(out_dir: Path, uuid: str, form: Form) -> Path:
    """Raises FileExistsError, FileNotFoundError."""
    if not out_dir.is_dir():
        raise FileNotFoundError(f"{out_dir} is no folder: make it, and the bag appears in it")
    final = out_dir / (f"{uuid}.tar" if form == "tar" else uuid)
    if final.exists():
        raise FileExistsError(f"{final} is there already; nothing is overwritten")
    return final


def _told(error: Finding | None) -> str:
    if error is None:
        return "it could not be read to its end"
    remedy = " Rename one of them." if error.code == "name-clash" else ""
    return f"{f'{error.path}: ' if error.path else ''}{error.message}{remedy}"


def _place(path: Path, final: Path) -> None:
    """Under its final name, in one step, never over something else."""
    if path.is_dir():
        path.rename(final)  # refused by the system if there is a folder with anything in it
        sync_folder(final.parent)
    else:
        publish_new(path, final)


def _size_of_folder(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
