"""What shall be deposited: folders and bags of any kind, DPN bags that are taken byte for byte, S3 prefixes, or a
sample of our own.

Everything is judged before anything is started: a source that cannot be deposited is the user's to repair.
"""

from __future__ import annotations

import os
import random
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpn.bags.building.sources import folder_entries, refuse_unfit_name
from dpn.bags.errors import SourceRefused
from dpn.bags.identity import read_identity
from dpn.bags.report import Report
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import NotABag, TransientError
from dpn.ingest.submission import DepositRequest
from dpn.packaging.estimate import folder_sizes
from dpn.packaging.location import FolderLocation, locate
from dpn.text import replaced
from tools.demo.s3_sources import size_of_prefix
from tools.network.errors import Unusable
from tools.network.toml_text import Table

PROFILE = "dpn"
MEMBER = "0d6cf9a5-6a1c-4f0e-9a6e-2f5b8f3f7d11"
"""The institution that owns what the demo deposits."""

ERRORS_SHOWN = 3
SAMPLE = "a sample of the demo's own"
SAMPLE_LOCAL_ID = "demo-sample"
SAMPLE_BYTES = 3_000_000
S3 = "s3://"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DemoSource:
    """Something to deposit. `given` is what the user called it; `size` is in bytes."""

    given: str
    request: DepositRequest
    size: int


def judge_all(
    sources: Sequence[str],
    folder: Path,
    *,
    s3: Table | None = None,
    say: Progress = lambda _: None,
    cancellation: Cancellation | None = None,
) -> list[DemoSource]:
    """What each of `sources` is; a sample, made in `folder`, if there are none. Raises Unusable.

    `s3` is the table [ingest.s3] of the node that will fetch those that lie there.
    """
    for source in sources:
        _check_kind(source)
    judging = _Judging(s3 or {}, say, cancellation or Cancellation())
    judged = [judging.judge(source) for source in sources]
    if not judged:
        sample = make_sample(folder / "sample")
        judged = [judging.folder(SAMPLE, sample, local_id=SAMPLE_LOCAL_ID)]
    _check_all_different(judged)
    return _with_different_names(judged)


def check_apart(sources: Sequence[str], workdir: Path) -> None:
    """Raises Unusable if a source lies in the work folder, which is emptied, or around it: endless."""
    folder = workdir.resolve()
    for source in sources:
        if source.startswith(S3):
            continue
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
    if source.startswith(S3):
        return
    try:
        mode = Path(source).stat().st_mode
    except OSError as error:
        raise Unusable(f"{source}: {error.strerror}: name a folder or a bag (a tar) that can be read") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise Unusable(f"{source}: neither a folder nor a file: name a folder or a bag (a tar)")


@dataclass(frozen=True)
class _Judging:
    """Looks at sources as packaging will."""

    s3: Table
    say: Progress
    cancellation: Cancellation

    def judge(self, source: str) -> DemoSource:
        if source.startswith(S3):
            return self._prefix(source)
        path = Path(source).absolute()
        name = replaced(path.resolve().name, "_").strip() or "root"
        try:
            if path.is_dir() and isinstance(locate(str(path)), FolderLocation):
                self.say(f"looking at {source}")
                return self.folder(source, path, local_id=name)
            self.say(f"validating {source}")
            return self._bag(source, path, name)
        except SourceRefused as error:
            raise Unusable(f"{source}: {error}") from error
        except NotABag as error:
            raise Unusable(f"{source}: not a bag: {error}: give a folder, or a valid bag") from error
        except OSError as error:
            where = error.filename or source
            raise Unusable(f"{source}: {where}: {error.strerror}: make it readable, or free space") from error
        except TransientError as error:
            raise Unusable(f"{source}: {error}: wait until nobody writes to it") from error

    def _prefix(self, source: str) -> DemoSource:
        self.say(f"looking at {source}")
        try:
            size = size_of_prefix(source, self.s3, self.cancellation)
        except SourceRefused as error:
            raise Unusable(str(error)) from error
        return DemoSource(source, _request(source, source.removeprefix(S3).strip("/")), size)

    def folder(self, source: str, path: Path, *, local_id: str) -> DemoSource:
        """Every name is looked at, as packaging will. Raises SourceRefused, OSError."""
        files = 0
        for entry in folder_entries(path):
            refuse_unfit_name(entry.name, os.fsdecode(entry.name), of_folder=entry.content is None)
            files += entry.content is not None
        if not files:
            raise SourceRefused(f"there is no file in {path}: an empty bag keeps nothing")
        size = sum(size for _, size in folder_sizes(path, self.cancellation))
        return DemoSource(source, _request(str(path), local_id), size)

    def _bag(self, source: str, path: Path, name: str) -> DemoSource:
        size = path.stat().st_size if path.is_file() else 0
        if path.is_file():
            as_dpn = validate(path, profile=load_profile(PROFILE), cancellation=self.cancellation)
            if as_dpn.valid:
                request = DepositRequest(str(path), MEMBER, read_identity(path).local_id, as_is=True)
                return DemoSource(source, request, size)
        report = validate(path, profile=None, cancellation=self.cancellation)
        if not report.valid:
            raise Unusable(
                f"{source}: not a valid bag: {_errors(report)}: fix it, or give its content as a folder "
                f"(`dpn bag validate --profile none {source}` says more)"
            )
        return DemoSource(source, _request(str(path), name.removesuffix(".tar")), size or report.bytes)


def _request(source: str, local_id: str) -> DepositRequest:
    return DepositRequest(source, MEMBER, local_id)


def _check_all_different(judged: Sequence[DemoSource]) -> None:
    """Raises Unusable if a DPN bag is given twice."""
    bags = Counter(read_identity(Path(one.request.source)).uuid for one in judged if one.request.as_is)
    for uuid, count in bags.items():
        if count > 1:
            raise Unusable(f"{uuid}: the same bag: give each bag once")


def _with_different_names(judged: Sequence[DemoSource]) -> list[DemoSource]:
    """A folder that is given twice makes two bags: the second gets a local id of its own."""
    seen: Counter[str] = Counter()
    named = []
    for number, one in enumerate(judged):
        local_id = one.request.local_id
        seen[local_id] += 1
        if seen[local_id] > 1 and not one.request.as_is:
            local_id = f"{local_id} ({seen[local_id]})"
        request = DepositRequest(**{**one.request.__dict__, "local_id": local_id, "key": f"{number} {local_id}"})
        named.append(DemoSource(one.given, request, one.size))
    return named


def _errors(report: Report) -> str:
    shown = [
        ": ".join(filter(None, (finding.path, finding.message))) for finding in report.findings[:ERRORS_SHOWN]
    ]
    more = [f"and {report.errors - len(shown)} more"] if report.errors > len(shown) else []
    return "; ".join((*shown, *more))
