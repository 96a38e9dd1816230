"""`dpn bag`: validate and build bags. Needs no settings and no database."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dpn.bags.codes import CATALOGUE
from dpn.bags.report import Report
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.errors import DpnError

if TYPE_CHECKING:
    from dpn.bags.building.build import BuiltBag
    from dpn.bags.building.metadata import DpnMetadata
    from dpn.bags.errors import UnfitEntry

EXIT_BAD = 1
EXIT_UNUSABLE = 2

app = typer.Typer(
    help="Validate and build bags.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


class Form(StrEnum):
    """What to build."""

    TAR = "tar"
    FOLDER = "folder"


@app.command("validate")
def validate_command(
    path: Annotated[Path, typer.Argument(help="A bag: a folder, or an uncompressed tar.")],
    profile: Annotated[str, typer.Option(help="dpn, dpn-strict, a BagIt Profile's JSON file, or none.")] = "dpn",
    strict: Annotated[bool, typer.Option("--strict", help="Take every warning for an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    whole_sha256: Annotated[bool, typer.Option("--sha256", help="Also the SHA-256 of the whole tar.")] = False,
    threads: Annotated[int, typer.Option(min=0, max=64, help="0: one a core.")] = 0,
) -> None:
    """Say whether PATH is a valid bag. Exit status 0: valid, 1: invalid, 2: not readable as a bag at all."""
    try:
        rules = load_profile(profile)
        with progress_bar("validating", _size(path), shown=not as_json) as progress:
            report = validate(
                path,
                profile=rules,
                strict=strict,
                whole_file_sha256=whole_sha256,
                threads=threads,
                progress=progress,
            )
    except (OSError, DpnError) as reason:
        _unusable(reason)
    if as_json:
        typer.echo(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        _print(report)
    raise typer.Exit(0 if report.valid else EXIT_BAD)


@app.command("build")
def build_command(
    source: Annotated[list[Path], typer.Argument(help="A folder (what is in it), or several files and folders.")],
    out: Annotated[Path, typer.Option(help="The folder in which the bag shall appear.")],
    member: Annotated[str | None, typer.Option(help="The member that owns the content.")] = None,
    local_id: Annotated[
        str | None, typer.Option(help="The owner's identifier; default: the source's name.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for bag-info.txt or dpn-info.txt; repeatable.")
    ] = None,
    ingest_node: Annotated[str, typer.Option(help="Ingest-Node-Name.")] = "local",
    uuid: Annotated[str | None, typer.Option(help="The bag's uuid; default: a new one.")] = None,
    form: Annotated[Form, typer.Option(help="A tar, or a folder.")] = Form.TAR,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build nothing; tell every file that cannot be bagged (exit 1).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Bag SOURCE as a DPN bag `<uuid>.tar`, validated. Exit status 0: built, 2: not built."""
    from dpn.bags.building.build import build_bag, rehearse

    try:
        metadata = _metadata(source, member, local_id, ingest_node, tag or [])
        if dry_run:
            unfit = rehearse(source, out, metadata=metadata, uuid=uuid, form=form.value)
            raise typer.Exit(EXIT_BAD if say_unfit(", ".join(map(str, source)), unfit, as_json=as_json) else 0)
        with progress_bar("building", None, shown=not as_json) as progress:
            bag = build_bag(source, out, metadata=metadata, uuid=uuid, form=form.value, progress=progress)
    except (OSError, DpnError, ValueError) as reason:
        _unusable(reason)
    typer.echo(json.dumps(_document(bag), ensure_ascii=False) if as_json else f"{bag.path} ({bag.size:,} bytes)")


@app.command("codes")
def codes_command(
    code: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on standard output.")] = False,
) -> None:
    """Explain the codes of findings: what each means, what to do, and where the rule comes from."""
    if code is not None and code not in CATALOGUE:
        _unusable(ValueError(f"there is no finding {code!r}; `dpn bag codes` lists them all"))
    for kind in [CATALOGUE[code]] if code is not None else CATALOGUE.values():
        if as_json:
            typer.echo(json.dumps(asdict(kind), ensure_ascii=False))
        else:
            policy = "; profiles may rule otherwise" if kind.adjustable else ""
            typer.echo(
                f"{kind.code} ({kind.severity}{policy})\n    {kind.meaning}\n    {kind.remedy} [{kind.source}]"
            )


def say_unfit(what: str, unfit: Iterable[UnfitEntry], *, as_json: bool) -> int:
    """All that keeps files out of a bag, a line each as it is found, or as one document; returns how many."""
    if as_json:
        told = [{"path": one.where, "message": one.why} for one in unfit]
        print(json.dumps({"source": what, "fit": not told, "unfit": told}))  # in ASCII: names may not be UTF-8
        return len(told)
    count = 0
    for count, one in enumerate(unfit, 1):  # noqa: B007 - how many there were
        print(one)
    print(f"{count:,} reasons why {what!r} cannot be bagged" if count else f"{what!r} can be bagged")
    return count


@contextmanager
def progress_bar(what: str, total: int | None, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error if that is a terminal; gives what to call with bytes and files so far."""
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[files]:,} files"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, files=0)
        yield lambda done, files: bar.update(task, completed=done, files=files)


def _metadata(
    sources: list[Path], member: str | None, local_id: str | None, ingest_node: str, tags: list[str]
) -> DpnMetadata:
    from dpn.bags.building.metadata import DpnMetadata

    pairs = []
    for text in tags:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--tag {text!r} is not NAME=VALUE")
        pairs.append((name, value))
    return DpnMetadata.from_tags(
        pairs,
        local_id=local_id or sources[0].resolve().name.strip(),
        ingest_node=ingest_node,
        bagging_date=datetime.now(UTC).date(),
        member=member,
    )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _print(report: Report) -> None:
    for finding in report.findings:
        place = f" {finding.path}:" if finding.path else ""
        typer.echo(f"{finding.severity}: {finding.code}:{place} {finding.message}")
    hidden = report.errors + report.warnings - len(report.findings)
    if hidden:
        typer.echo(f"… and {hidden:,} more")
    verdict = "valid" if report.valid else "INVALID"
    by = f" by profile {report.profile}" if report.profile else ""
    typer.echo(f"{report.path}: {verdict}{by}; {report.files:,} files, {report.bytes:,} bytes of payload")
    typer.echo(f"{report.errors:,} errors, {report.warnings:,} warnings")
    if report.tag_manifest_sha256:
        typer.echo(f"tag manifest SHA-256 {report.tag_manifest_sha256}")
    if report.sha256:
        typer.echo(f"tar SHA-256          {report.sha256}")


def _document(bag: BuiltBag) -> dict[str, object]:
    return {
        "path": str(bag.path),
        "uuid": bag.uuid,
        "size": bag.size,
        "files": bag.files,
        "bytes": bag.payload_bytes,
        "tag_manifest_sha256": bag.tag_manifest_sha256,
        "sha256": bag.sha256,
    }


def _unusable(reason: Exception) -> NoReturn:
    typer.echo(f"dpn bag: {reason}", err=True)
    raise typer.Exit(EXIT_UNUSABLE) from None


if __name__ == "__main__":
    app()
