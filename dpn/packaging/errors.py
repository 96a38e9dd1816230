"""How packaging fails, beside what dpn.bags raises (SourceRefused, ClaimRefuted, BagChanged) and OSError.

DpnError
├── ServiceUnavailable
│   └── SourceUnavailable     the source cannot be reached now: asked again
├── TransientError
│   ├── SourceChanged         (dpn.errors) the source changed while it was read: begun again from scratch
│   └── FetchDamaged          a fetched object is not what the source holds: fetched again
└── PermanentError
    └── SourceRefused         (dpn.bags) the depositor must repair something
        ├── SourceBagInvalid  the source bag is incomplete or invalid; the report says why
        └── NotTheBag         the bag to be taken as it is is not the one that was deposited
"""

from __future__ import annotations

from dpn.bags.errors import SourceRefused
from dpn.bags.report import Report
from dpn.errors import ServiceUnavailable, TransientError

FINDINGS_TOLD = 5


class SourceUnavailable(ServiceUnavailable):
    """A deposit's source cannot be reached. It is asked again; its breaker is `source:<bucket or folder>`."""


class FetchDamaged(TransientError):
    """A fetched object is not what the source says that it holds: it was removed, and is fetched again."""


class SourceBagInvalid(SourceRefused):
    """The source bag is incomplete or invalid; `report` has all findings."""

    def __init__(self, where: str, report: Report) -> None:
        errors = [finding for finding in report.findings if finding.severity == "error"]
        told = "; ".join(
            f"{finding.code}{f' {finding.path}' if finding.path else ''}: {finding.message}"
            for finding in errors[:FINDINGS_TOLD]
        )
        more = f"; and {report.errors - FINDINGS_TOLD:,} more" if report.errors > FINDINGS_TOLD else ""
        super().__init__(
            f"{where} is not a valid bag: {told}{more}. Fix the bag; `dpn bag validate --profile none` shows all."
        )
        self.report = report


class NotTheBag(SourceRefused):
    """The bag that is to be taken byte for byte is another one than was deposited."""
