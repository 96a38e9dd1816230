"""What is said about a bag that we build, typed, and how it stands in the bag's tag files (reference: DPN 3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Self, cast

from dpn.bags.errors import SourceRefused
from dpn.text import NOT_A_LINE, is_line

Pairs = tuple[tuple[str, str], ...]

DECLARATION_TEXT = "BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n"
BAG_TYPES = ("data", "interpretive", "rights")


@dataclass(frozen=True, slots=True)
class DpnMetadata:
    """Everything a DPN bag says about itself but its uuid and what follows from the payload."""

    local_id: str
    ingest_node: str
    bagging_date: date
    member: str | None = None
    """The member that owns the content: written as Member-ID, which is ours; the registry has the official one."""
    version: int = 1
    first_version_uuid: str | None = None
    """None: the bag is the first version."""
    bag_type: str = "data"
    interpretive: tuple[str, ...] = ()
    rights: tuple[str, ...] = ()
    ingest_node_address: str = ""
    ingest_node_contact_name: str = ""
    ingest_node_contact_email: str = ""
    source_organization: str = ""
    organization_address: str = ""
    contact_name: str = ""
    contact_phone: str = ""
    contact_email: str = ""
    bag_group_identifier: str = ""
    bag_count: str = "1"
    more_bag_info: Pairs = ()
    """Further tags for bag-info.txt."""

    @classmethod
    def from_tags(
        cls,
        pairs: Iterable[tuple[str, str]],
        *,
        local_id: str,
        ingest_node: str,
        bagging_date: date,
        member: str | None = None,
    ) -> Self:
        """Metadata with tags as bags call them, in any case; what is not one of ours goes to bag-info.txt.

        Raises SourceRefused for a tag that follows from the payload, or has no such value.
        """
        known: dict[str, object] = {
            "local_id": local_id, "ingest_node": ingest_node, "bagging_date": bagging_date, "member": member,
        }  # fmt: skip
        more = []
        for written, value in pairs:
            label = _LABELS.get(written.lower(), written)
            if label in _COMPUTED:
                raise SourceRefused(f"{label} follows from the bag itself and cannot be given")
            if label in _REPEATABLE:
                field = _REPEATABLE[label]
                known[field] = (*cast("tuple[str, ...]", known.get(field, ())), value)
            elif label in _FIELDS:
                known[_FIELDS[label]] = _typed(label, value)
            else:
                more.append((label, value))
        return cls(**known, more_bag_info=tuple(more))  # type: ignore[arg-type]

    def dpn_info(self, uuid: str) -> str:
        """The text of dpn-tags/dpn-info.txt. Raises SourceRefused for values that no tag can have."""
        if self.bag_type not in BAG_TYPES:
            raise SourceRefused(f"the bag type must be one of {', '.join(BAG_TYPES)}, not {self.bag_type!r}")
        if self.version < 1 or (self.version == 1) != (self.first_version_uuid in (None, uuid)):
            raise SourceRefused("version 1 is its own first version, and only version 1")
        pairs = [
            ("DPN-Object-ID", uuid),
            ("Local-ID", self.local_id),
            ("Ingest-Node-Name", self.ingest_node),
            ("Ingest-Node-Address", self.ingest_node_address),
            ("Ingest-Node-Contact-Name", self.ingest_node_contact_name),
            ("Ingest-Node-Contact-Email", self.ingest_node_contact_email),
            ("Version-Number", str(self.version)),
            ("First-Version-Object-ID", self.first_version_uuid or uuid),
            *(("Interpretive-Object-ID", other) for other in self.interpretive or ("",)),
            *(("Rights-Object-ID", other) for other in self.rights or ("",)),
            ("Bag-Type", self.bag_type),
        ]
        if self.member is not None:
            pairs.append(("Member-ID", self.member))
        return tag_text(tuple(pairs))

    def bag_info(self, payload_bytes: int, payload_files: int) -> str:
        """The text of bag-info.txt. Raises SourceRefused for values that no tag can have."""
        return tag_text(
            (
                ("Source-Organization", self.source_organization),
                ("Organization-Address", self.organization_address),
                ("Contact-Name", self.contact_name),
                ("Contact-Phone", self.contact_phone),
                ("Contact-Email", self.contact_email),
                ("Bagging-Date", self.bagging_date.isoformat()),
                ("Bag-Size", str(payload_bytes)),
                ("Bag-Group-Identifier", self.bag_group_identifier),
                ("Bag-Count", self.bag_count),
                ("Payload-Oxum", f"{payload_bytes}.{payload_files}"),
                *self.more_bag_info,
            )
        )


_COMPUTED = {"DPN-Object-ID", "Bag-Size", "Payload-Oxum"}
_REPEATABLE = {"Interpretive-Object-ID": "interpretive", "Rights-Object-ID": "rights"}
_FIELDS = {
    "Local-ID": "local_id",
    "Ingest-Node-Name": "ingest_node",
    "Ingest-Node-Address": "ingest_node_address",
    "Ingest-Node-Contact-Name": "ingest_node_contact_name",
    "Ingest-Node-Contact-Email": "ingest_node_contact_email",
    "Version-Number": "version",
    "First-Version-Object-ID": "first_version_uuid",
    "Bag-Type": "bag_type",
    "Member-ID": "member",
    "Source-Organization": "source_organization",
    "Organization-Address": "organization_address",
    "Contact-Name": "contact_name",
    "Contact-Phone": "contact_phone",
    "Contact-Email": "contact_email",
    "Bagging-Date": "bagging_date",
    "Bag-Group-Identifier": "bag_group_identifier",
    "Bag-Count": "bag_count",
}


_LABELS = {label.lower(): label for label in (*_COMPUTED, *_REPEATABLE, *_FIELDS)}


def _typed(label: str, value: str) -> object:
    try:
        if label == "Version-Number":
            return int(value)
        return date.fromisoformat(value) if label == "Bagging-Date" else value
    except ValueError:
        raise SourceRefused(f"{label} cannot be {value!r}") from None


def tag_text(pairs: Pairs) -> str:
    """Lines "label: value". Raises SourceRefused where a label or value would not come back as it is."""
    for label, value in pairs:
        if not label or ":" in label or not is_line(label):
            raise SourceRefused(f"{label[:60]!r} cannot be the name of a tag")
        if not is_line(value):
            raise SourceRefused(f"the value of {label} has {NOT_A_LINE}")
    return "".join(f"{label}: {value}\n" for label, value in pairs)
