"""What a depositor says, looked at by itself, and what makes two deposits the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpn.bags.building.fit_metadata import refuse_unfit_tag
from dpn.bags.errors import SourceRefused
from dpn.errors import PermanentError
from dpn.packaging.description import check_source_name
from dpn.packaging.location import s3_location
from dpn.registry.wire import parse_uuid
from dpn.text import NOT_A_LINE, is_line, is_text

BagType = Literal["data", "interpretive", "rights"]
BAG_TYPES: dict[str, BagType] = {"data": "data", "interpretive": "interpretive", "rights": "rights"}

MAX_TEXT = 1024


class DepositRefused(PermanentError):
    """The deposit cannot be taken as it is; the text says what to change."""


@dataclass(frozen=True)
class DepositRequest:
    """What a depositor says. `source`: a folder, a bag (folder or tar), or `s3://bucket/prefix/`."""

    source: str
    member: str
    local_id: str
    bag_type: BagType = "data"
    rights: tuple[str, ...] = ()
    interpretive: tuple[str, ...] = ()
    new_version_of: str | None = None
    title: str | None = None
    source_name: str | None = None
    as_is: bool = False
    """The source is a tar that is a DPN bag already: it is taken byte for byte, under its own uuid."""
    key: str | None = None
    """The depositor's own name of this deposit, among those of the member: with it nothing is deposited twice."""
    named_over_http: bool = False
    """Whether the source must lie in `ingest.source_folders`, also when it is read."""


def checked(request: DepositRequest) -> DepositRequest:
    """With ids in lower case. Raises DepositRefused for what no deposit can have."""
    for name, text, is_fit in (
        ("local id", request.local_id, is_line),
        ("source", request.source, is_text),
        ("title", request.title or "x", is_line),
    ):
        if not text or len(text) > MAX_TEXT or not is_fit(text):
            raise DepositRefused(
                f"the {name} {text[:60]!r} is empty, longer than {MAX_TEXT} characters, or has {NOT_A_LINE}"
            )
    try:
        if not request.as_is:
            refuse_unfit_tag("Local-ID", request.local_id)
        if "://" in request.source:
            s3_location(request.source)
        if request.source_name is not None:
            check_source_name(request.source_name)
    except SourceRefused as error:
        raise DepositRefused(str(error)) from error
    new_version_of = request.new_version_of
    return DepositRequest(
        **{
            **request.__dict__,
            "member": uuid_of(request.member, "--member"),
            "rights": tuple(sorted({uuid_of(uuid, "--rights") for uuid in request.rights})),
            "interpretive": tuple(sorted({uuid_of(uuid, "--interpretive") for uuid in request.interpretive})),
            "new_version_of": None if new_version_of is None else uuid_of(new_version_of, "--new-version-of"),
        }
    )


def key_of(request: DepositRequest) -> str:
    """What is equal for deposits that are the same; it may be for others: see `dpn.ingest.repeats`."""
    if request.key is not None:
        said: list[object] = ["key", request.member, request.key]
    else:
        said = [
            place_of(request.source),
            request.member,
            request.local_id,
            request.bag_type,
            request.new_version_of,
        ]
    return _hashed(said)


def former_key_of(request: DepositRequest) -> str | None:
    """That of deposits which were made when a depositor's key was anybody's, not its member's."""
    return None if request.key is None else _hashed(["key", request.key])


def _hashed(said: list[object]) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def absolute(source: str) -> str:
    """As a worker finds it, which starts in another folder than the depositor; S3 addresses in their one form."""
    return str(s3_location(source)) if "://" in source else str(Path(source).absolute())


def place_of(source: str) -> str:
    """The same for all names of one place: without links and `..`. Raises DepositRefused."""
    return absolute(source) if "://" in source else str(resolved(source))


def resolved(path: str | Path) -> Path:
    """Where the path leads, which need not exist. Raises DepositRefused for what can be no path."""
    try:
        return Path(path).resolve()
    except (RuntimeError, ValueError, OSError) as error:  # links that lead to each other; what no path may hold
        raise DepositRefused(f"source {str(path)[:200]!r} leads nowhere: {error}") from error


def uuid_of(text: str, option: str) -> str:
    """In lower case; raises DepositRefused, naming the option."""
    try:
        return parse_uuid(text)
    except ValueError as error:
        raise DepositRefused(f"{option} {text[:60]!r}: {error}") from error
