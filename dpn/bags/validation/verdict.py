"""Judging a whole bag in a few words that can be kept: what all do that take a bag in or read one back.

An I/O error is never a verdict.
"""

from __future__ import annotations

from pathlib import Path

from dpn.bags.errors import NotABag
from dpn.bags.report import Report
from dpn.bags.validation.profiles import Profile
from dpn.bags.validation.settings import ValidationSettings
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from models.manifests import ValidationResult


def judge(
    path: Path, profile: Profile | None, settings: ValidationSettings, cancellation: Cancellation
) -> ValidationResult:
    """The verdict on the bag at `path`, with the whole file's SHA-256 where it could be read to its end.

    Raises OSError, BagChanged if it was written to meanwhile, and what `cancellation` was given.
    """
    try:
        report = validate(
            path,
            profile=profile,
            whole_file_sha256=True,
            threads=settings.threads,
            cancellation=cancellation,
        )
    except NotABag as error:
        return ValidationResult(
            valid=False,
            profile=settings.profile,
            files=0,
            bytes=0,
            tag_manifest_sha256="",
            sha256="",
            errors=1,
            first_error=f"not readable as a bag: {error}",
        )
    return _result(report)


def _result(report: Report) -> ValidationResult:
    first = report.first_error
    return ValidationResult(
        valid=report.valid,
        profile=report.profile or "none",
        files=report.files,
        bytes=report.bytes,
        tag_manifest_sha256=report.tag_manifest_sha256 or "",
        payload_proven=report.payload_proven,
        tags_proven=report.tags_proven,
        sha256=report.sha256 or "",
        errors=report.errors,
        warnings=report.warnings,
        first_error=None if first is None else ": ".join(part for part in (first.path, first.message) if part),
    )
