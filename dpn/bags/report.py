"""What a validation has found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dpn.bags.codes import Severity
from dpn.bags.findings import Finding


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a bag and its reasons.

    `files` counts all files of the bag, `bytes` the octets of its payload. `errors` and `warnings` are complete;
    `findings` holds the first 500 of each, errors first.
    """

    path: Path
    valid: bool
    profile: str | None
    files: int
    bytes: int
    tag_manifest_sha256: str | None
    """The bag's DPN fixity: the SHA-256 of tagmanifest-sha256.txt; None if there is none."""
    payload_proven: bool
    """Whether that digest proves the payload, too: its manifest is listed in tagmanifest-sha256.txt."""
    tags_proven: bool
    """Whether it proves all else, too: every file but the tag manifests and what they prove is listed there."""
    sha256: str | None
    """Of the whole tar, if it was asked for and could be read to its end."""
    findings: tuple[Finding, ...]
    errors: int
    warnings: int

    @property
    def first_error(self) -> Finding | None:
        return next((finding for finding in self.findings if finding.severity is Severity.ERROR), None)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The report that `to_json` answered so."""
        findings = (Finding(**{**one, "severity": Severity(one["severity"])}) for one in document["findings"])
        return cls(**{**document, "path": Path(document["path"]), "findings": tuple(findings)})

    def to_json(self) -> dict[str, Any]:
        """In the form that `dpn bag validate --json` prints."""
        return {
            "path": str(self.path),
            "valid": self.valid,
            "profile": self.profile,
            "files": self.files,
            "bytes": self.bytes,
            "tag_manifest_sha256": self.tag_manifest_sha256,
            "payload_proven": self.payload_proven,
            "tags_proven": self.tags_proven,
            "sha256": self.sha256,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.to_json() for finding in self.findings],
        }
