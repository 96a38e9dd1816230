"""What can be wrong with a bag: one catalogue of stable codes, and the list that a validation fills.

A code never changes its meaning; messages may. A finding is about the bag. That a disk could not be read is never
a finding but an `OSError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dpn.bags.codes import CATALOGUE, Severity
from dpn.text import replaced

MAX_FINDINGS_KEPT = 500
"""Of each severity; the counts go on, so that a bag with a million faults costs no memory."""

MAX_PATH_CHARACTERS = 4096


class Ruling(StrEnum):
    """What a profile may make of a finding whose severity is a matter of policy."""

    ERROR = "error"
    WARNING = "warning"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a bag. `path` is relative to the bag's base directory, None where it is about the whole."""

    severity: Severity
    code: str
    path: str | None
    message: str

    def to_json(self) -> dict[str, str | None]:
        return {"severity": str(self.severity), "code": self.code, "path": self.path, "message": self.message}


class Findings:
    """Collects findings: counts all of them, keeps the first 500 errors and the first 500 warnings, or `keep`.

    `rulings` are a profile's, by code; `strict` makes an error of every warning.
    """

    def __init__(
        self,
        rulings: Mapping[str, Ruling] | None = None,
        *,
        strict: bool = False,
        keep: float = MAX_FINDINGS_KEPT,
    ) -> None:
        self._rulings = dict(rulings or {})
        self._strict = strict
        self._keep = keep
        self._kept: list[Finding] = []
        self.errors = 0
        self.warnings = 0

    def add(
        self, code: str, message: str, path: str | bytes | None = None, severity: Severity | None = None
    ) -> None:
        """Note a fault; `severity` where it depends on more than the code, e.g. on the bag's BagIt version."""
        ruling = self._rulings.get(code)
        if ruling is Ruling.IGNORE:
            return
        judged = Severity(ruling.value) if ruling else severity or CATALOGUE[code].severity
        if self._strict or judged is Severity.ERROR:
            self.errors += 1
            if self.errors <= self._keep:
                self._kept.append(Finding(Severity.ERROR, code, shown(path), message))
        else:
            self.warnings += 1
            if self.warnings <= self._keep:
                self._kept.append(Finding(Severity.WARNING, code, shown(path), message))

    def kept(self) -> tuple[Finding, ...]:
        """Errors first, each severity in the order found."""
        return tuple(sorted(self._kept, key=lambda finding: finding.severity is not Severity.ERROR))


def shown(path: str | bytes | None) -> str | None:
    """A name as a report shows it: what is not UTF-8 or no text is escaped, overlong ones are cut."""
    if path is None:
        return None
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else path
    text = replaced(text, lambda found: found[0].encode("unicode_escape").decode())
    return text if len(text) <= MAX_PATH_CHARACTERS else text[:MAX_PATH_CHARACTERS] + "…"
