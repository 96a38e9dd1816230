"""What shall be deposited: bags that are taken byte for byte, folders that are bagged, or a sample of our own.

Everything is judged before anything is started: a source that cannot be deposited is the user's to mend.
"""

from __future__ import annotations

import random
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dpn.bags import (
    BagIdentity,
    BuiltBagInvalid,
    DpnMetadata,
    NotABag,
    Report,
    SourceRefused,
    build_bag,
    load_profile,
    read_identity,
    validate,
)
from dpn.cancellation import Cancellation
from dpn.cli.demo.errors import Unusable
from dpn.errors import TransientError
from dpn.registry.records import BagRecord, InvalidRecord
from dpn.registry.rules import Caller, Refused
from dpn.registry.rules.bags import create_bag
from dpn.registry.wire import format_instant

PROFILE = "dpn"
MEMBER = "0d6cf9a5-6a1c-4f0e-9a6e-2f5b8f3f7d11"
"""The institution that owns the demo's bags, unless a bag names another."""

ERRORS_SHOWN = 3
SAMPLE = "a sample of the demo's own"
SAMPLE_LOCAL_ID = "demo-sample"
SAMPLE_BYTES = 3_000_000

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Deposit:
    """A bag that is to be replicated. `tar` is where it lies; `sha256` is of the whole tar."""

    source: str
    tar: Path
    size: int
    sha256: str
    tag_manifest_sha256: str
    record: BagRecord

    @property
    def uuid(self) -> str:
        return self.record.uuid


def take_all(
    sources: Sequence[str],
    folder: Path,
    *,
    node: str,
    say: Progress = lambda _: None,
    cancellation: Cancellation | None = None,
) -> list[Deposit]:
    """A deposit of each source at `node`; what has to be built is built in `folder`. Raises Unusable."""
    for source in sources:
        _check_kind(source)
    taking = _Taking(folder, node, say, cancellation or Cancellation())
    deposits = [taking.take(source) for source in sources] or [taking.take_sample()]
    _check_all_different(deposits)
    return deposits


def check_apart(sources: Sequence[str], workdir: Path) -> None:
    """Raises Unusable if a source lies in the work folder, which is emptied, or around it: endless."""
    folder = workdir.resolve()
    for source in sources:
        path = Path(source).resolve()
        if path == folder or folder in path.parents or path in folder.parents:
            raise Unusable(f"{source}: in the work folder {workdir}, or around it: keep the two apart (--workdir)")


def make_sample(folder: Path) -> Path:
    """A folder with what real deposits have: texts, names of several scripts, an empty file, some megabytes."""
    content = {
        "README.txt": b"A sample that the demo made: nothing in it matters.\n",
        "empty.txt": b"",
        "texts/Grüße aus Köln.txt": "Schöne Grüße\n".encode(),
        "texts/日本語/資料.txt": "これは見本です。\n".encode(),
        "texts/Ελληνικά και кириллица.txt": "Αλφα, бета\n".encode(),
        "measurements/series 1.csv": b"".join(b"%d,%d\n" % (n, n * n % 97) for n in range(20_000)),
        "images/scan.raw": random.Random(0).randbytes(SAMPLE_BYTES),  # noqa: S311  (the same sample every time)
    }
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _check_kind(source: str) -> None:
    """Raises Unusable for what is neither a folder nor a file."""
    try:
        mode = Path(source).stat().st_mode
    except OSError as error:
        raise Unusable(f"{source}: {error.strerror}: name a folder or a bag (a tar) that can be read") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise Unusable(f"{source}: neither a folder nor a file: name a folder or a bag (a tar)")


@dataclass(frozen=True)
class _Taking:
    """Turns sources into deposits at `node`."""

    folder: Path
    node: str
    say: Progress
    cancellation: Cancellation

    def take(self, source: str) -> Deposit:
        path = Path(source)
        try:
            if path.is_dir():
                self.say(f"bagging {source}")
                return self._bag(source, path, local_id=_printable(path.resolve().name) or "root")
            self.say(f"validating {source}")
            return self._as_it_is(source, path)
        except OSError as error:
            where = error.filename or source
            raise Unusable(f"{source}: {where}: {error.strerror}: make it readable, or free space") from error
        except TransientError as error:
            raise Unusable(f"{source}: {error}: wait until nobody writes to it") from error

    def take_sample(self) -> Deposit:
        return self._bag(SAMPLE, make_sample(self.folder / "sample"), local_id=SAMPLE_LOCAL_ID)

    def _bag(self, source: str, path: Path, *, local_id: str) -> Deposit:
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = DpnMetadata(
            local_id=local_id,
            ingest_node=self.node,
            bagging_date=datetime.now(UTC).date(),
            member=MEMBER,
            source_organization="A demo",
        )
        try:
            built = build_bag(path, self.folder, metadata=metadata, cancellation=self.cancellation)
        except (SourceRefused, BuiltBagInvalid) as error:
            raise Unusable(f"{source}: {error}") from error
        if built.sha256 is None:
            raise Unusable(f"{source}: was not built as a tar")
        return _deposit(source, built.path, self.node, built.size, built.sha256, built.tag_manifest_sha256)

    def _as_it_is(self, source: str, path: Path) -> Deposit:
        profile = load_profile(PROFILE)
        try:
            report = validate(path, profile=profile, whole_file_sha256=True, cancellation=self.cancellation)
        except NotABag as error:
            raise Unusable(
                f"{source}: not a bag: {error}: give a folder, or a tar that is a valid DPN bag"
            ) from error
        if not report.valid or report.sha256 is None or report.tag_manifest_sha256 is None:
            raise Unusable(
                f"{source}: not a valid DPN bag: {_errors(report)}: mend it, or give its content as a folder "
                f"(`dpn bag validate {source}` says more)"
            )
        return _deposit(source, path, self.node, path.stat().st_size, report.sha256, report.tag_manifest_sha256)


def _deposit(source: str, tar: Path, node: str, size: int, sha256: str, tag_manifest_sha256: str) -> Deposit:
    try:
        record = _record(read_identity(tar), node, size)
    except (NotABag, InvalidRecord) as error:
        raise Unusable(f"{source}: no registry would take this bag: {error}") from error
    ruling = create_bag(record, caller=Caller(node, node), known_nodes={node}, known_bags=(), same_version=None)
    if isinstance(ruling, Refused):
        raise Unusable(f"{source}: no registry would take this bag: {'; '.join(ruling.messages)}")
    return Deposit(source, tar, size, sha256, tag_manifest_sha256, record)


def _record(identity: BagIdentity, node: str, size: int) -> BagRecord:
    """The entry of a bag that `node` ingested. Bags that it refers to are not in a demo's registry. Raises
    InvalidRecord."""
    now = format_instant(datetime.now(UTC))
    return BagRecord.from_wire(
        {
            "uuid": identity.uuid,
            "local_id": identity.local_id,
            "member": identity.member or MEMBER,
            "size": size,
            "first_version_uuid": identity.first_version_uuid,
            "version": identity.version,
            "bag_type": identity.bag_type[:1],
            "ingest_node": node,
            "admin_node": node,
            "replicating_nodes": [node],
            "created_at": now,
            "updated_at": now,
        }
    )


def _check_all_different(deposits: Sequence[Deposit]) -> None:
    """Raises Unusable if two sources are the same bag, or the same version of one."""
    for name, of in (
        ("bag", lambda deposit: deposit.uuid),
        ("version of a bag", lambda deposit: (deposit.record.first_version_uuid, deposit.record.version)),
    ):
        (key, count), *_ = Counter(map(of, deposits)).most_common(1)
        if count > 1:
            same = ", ".join(deposit.source for deposit in deposits if of(deposit) == key)
            raise Unusable(f"{same}: the same {name}: give each bag once")


def _errors(report: Report) -> str:
    shown = [
        ": ".join(filter(None, (finding.path, finding.message))) for finding in report.findings[:ERRORS_SHOWN]
    ]
    more = [f"and {report.errors - len(shown)} more"] if report.errors > len(shown) else []
    return "; ".join((*shown, *more))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "_" for character in text).strip()
