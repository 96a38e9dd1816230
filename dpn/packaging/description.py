"""What is packaged, as it was decided when the deposit was accepted: the same description makes the same bag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dpn.bags.building.fit_metadata import refuse_unfit_metadata
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.errors import SourceRefused
from dpn.bags.report import Report
from dpn.bags.validation.profiles import STRICT, load_profile
from dpn.identifiers import UUID

DEFAULT_SOURCE_NAME = "source"
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")
_TAKEN_SOURCE_NAMES = {"dpn"}


@dataclass(frozen=True, slots=True)
class Description:
    """A deposit's source, and all that its bag says about itself."""

    bag: str
    """The bag's uuid."""
    source: str
    """A folder, a bag (folder or tar), or `s3://bucket/prefix/`."""
    member: str
    local_id: str
    bagging_date: date
    ingest_node: str
    source_name: str | None = None
    """A source bag's own tag files go to `<source_name>-tags/`; none: what the bag suggests."""
    as_is: bool = False
    """The source is a DPN bag in a tar: it is taken byte for byte."""
    bag_type: str = "data"
    version: int = 1
    first_version_uuid: str | None = None
    rights: tuple[str, ...] = ()
    interpretive: tuple[str, ...] = ()
    title: str | None = None
    source_organization: str = ""
    node_address: str = ""
    contact_name: str = ""
    contact_email: str = ""

    def tar_name(self) -> str:
        """`<uuid>.tar`; what else has this name in a working folder is removed. Raises SourceRefused."""
        if not UUID.match(self.bag):
            raise SourceRefused(f"{self.bag[:60]!r} is no bag's uuid in lower case: the deposit must be made anew")
        return f"{self.bag}.tar"

    def require_fit(self) -> None:
        """Raises SourceRefused for what no bag can say about itself; what is taken as it is says nothing new."""
        if not self.as_is:
            refuse_unfit_metadata(self.metadata(), self.bag, load_profile(STRICT))

    def metadata(self) -> DpnMetadata:
        """As it stands in the bag; the title as RFC 8493's External-Description (§2.2.2)."""
        return DpnMetadata(
            local_id=self.local_id,
            ingest_node=self.ingest_node,
            bagging_date=self.bagging_date,
            member=self.member,
            version=self.version,
            first_version_uuid=self.first_version_uuid,
            bag_type=self.bag_type,
            interpretive=self.interpretive,
            rights=self.rights,
            ingest_node_address=self.node_address,
            ingest_node_contact_name=self.contact_name,
            ingest_node_contact_email=self.contact_email,
            source_organization=self.source_organization,
            more_bag_info=(("External-Description", self.title),) if self.title else (),
        )


@dataclass(frozen=True, slots=True)
class Packaged:
    """A valid bag in a tar, on disk under its final name."""

    path: Path
    size: int
    sha256: str
    """Of the tar."""
    tag_manifest_sha256: str
    files: int
    payload_bytes: int
    report: Report


@dataclass(frozen=True, slots=True)
class Estimate:
    """What packaging needs. `staging_bytes` is never less than what lies on the volume at any moment."""

    files: int
    source_bytes: int
    staging_bytes: int


def check_source_name(name: str) -> str:
    """Returns `name`; raises SourceRefused if no folder of tag files can be called so."""
    if not _SOURCE_NAME.match(name) or name in _TAKEN_SOURCE_NAMES:
        raise SourceRefused(
            f"the source name {name[:60]!r} cannot name a folder of tag files: it has 1 to 32 lower-case letters, "
            "digits, '-' or '_', and is not 'dpn'"
        )
    return name
