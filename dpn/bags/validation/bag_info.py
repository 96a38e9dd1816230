"""What bag-info.txt says about the payload, held against the payload (RFC 8493 §2.2.2)."""

from __future__ import annotations

import re
from datetime import date

from dpn.bags.findings import Findings
from dpn.bags.index import FileIndex
from dpn.bags.validation.tags import Declaration, Tags

OXUM_LABEL, DATE_LABEL = "Payload-Oxum", "Bagging-Date"

_OXUM = re.compile(r"(\d{1,20})\.(\d{1,20})", re.ASCII)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ].*)?", re.ASCII)
_FIRST_PLAUSIBLE_YEAR = 1950


def check_bag_info(tags: Tags, index: FileIndex, declaration: Declaration, findings: Findings) -> None:
    """Payload-Oxum and Bagging-Date."""
    oxums = tags.values(OXUM_LABEL)
    if len(oxums) > 1:
        findings.add(
            "payload-oxum-repeated", "Payload-Oxum stands twice.", declaration.info_file, declaration.severity
        )
    if oxums:
        _check_oxum(oxums[0], index, declaration.info_file, findings)
    for value in tags.values(DATE_LABEL):
        if value and not _is_plausible(value):
            message = f"Bagging-Date is {value[:40]!r}."
            findings.add("bagging-date-implausible", message, declaration.info_file)


def _check_oxum(oxum: str, index: FileIndex, path: bytes, findings: Findings) -> None:
    match = _OXUM.fullmatch(oxum)
    if match is None:
        findings.add("payload-oxum-malformed", f"Payload-Oxum is {oxum[:60]!r}.", path)
        return
    octets, files = index.payload_bytes, sum(index.is_payload)
    if (int(match[1]), int(match[2])) != (octets, files):
        findings.add("payload-oxum-mismatch", f"Payload-Oxum is {oxum}, the payload is {octets}.{files}.", path)


def _is_plausible(value: str) -> bool:
    match = _DATE.fullmatch(value)
    if match is None:
        return False
    try:
        return date(int(match[1]), int(match[2]), int(match[3])).year >= _FIRST_PLAUSIBLE_YEAR
    except ValueError:
        return False
