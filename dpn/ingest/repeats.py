"""A deposit whose key was used before: the same again, a correction of what came to nothing, or another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.bags.identity import read_identity
from dpn.errors import NotABag
from dpn.ingest.deposit import DepositRefused, DepositRequest, absolute, place_of
from dpn.ingest.standing import is_void, may_be_cancelled
from dpn.registry.catalogue import BAGS, find
from models.manifests import DepositFacts, IngestManifest, ManifestUnreadable
from models.work import Deposit, Status, WorkItem

SHOWN_CHARACTERS = 200


def is_the_same(session: Session, request: DepositRequest, item: WorkItem) -> bool:
    """Whether the deposit of `item`, which has the key of the request, is what is asked for now. If not, nothing
    of it is stored, and the request may take its key.

    Raises DepositRefused, naming each difference, where another deposit has the key.
    """
    stored = _facts_of(item)
    different = list(_differences(session, request, stored))
    if not different:
        _refuse_what_may_be_newer(request, item, stored)
        return True
    if is_void(item) and stored.local_id == request.local_id:
        return False
    raise DepositRefused(
        f"{_claim(request)} item {item.id} (bag {stored.bag}, {item.status}), and that is another deposit: "
        f"{'; '.join(map(str, different))}: {_remedy(request, item, stored)}"
    )


@dataclass(frozen=True)
class _Difference:
    what: str
    said: object
    stored: object

    def __str__(self) -> str:
        return f"{self.what} is now {_shown(self.said)}, was {_shown(self.stored)}"


def _differences(session: Session, request: DepositRequest, stored: DepositFacts) -> Iterator[_Difference]:
    same_place = place_of(request.source) == place_of(stored.source)
    pairs: list[tuple[str, object, object]] = [
        ("source", stored.source if same_place else absolute(request.source), stored.source),
        ("local id", request.local_id, stored.local_id),
        ("title", request.title, stored.title),
        ("source name", request.source_name, stored.source_name),
        ("as is", request.as_is, stored.as_is),
    ]
    if request.as_is and stored.as_is:
        pairs.append(("the source's bag", _bag_at(request.source) or stored.bag, stored.bag))
    elif not stored.as_is:
        pairs += [
            ("bag type", request.bag_type, stored.bag_type),
            ("rights", list(request.rights), stored.rights),
            ("interpretive", list(request.interpretive), stored.interpretive),
        ]
        if not _continues(session, request.new_version_of, stored):
            before = (
                None
                if stored.version == 1
                else f"a bag before version {stored.version} of {stored.first_version_uuid}"
            )
            pairs.append(("new version of", request.new_version_of, before))
    return (_Difference(*pair) for pair in pairs if pair[1] != pair[2])


def _continues(session: Session, bag: str | None, stored: DepositFacts) -> bool:
    """Whether the stored deposit is a later version of that bag's family, or a first one if no bag is named."""
    if bag is None:
        return stored.version == 1
    named = find(session, BAGS, bag) or session.scalar(select(Deposit).where(Deposit.bag == bag))
    return (
        named is not None
        and named.first_version_uuid == stored.first_version_uuid
        and named.version < stored.version
    )


def _bag_at(source: str) -> str | None:
    """The bag that lies there, if one can be read: what was deposited from there may have been taken away."""
    try:
        return read_identity(Path(source)).uuid.lower()
    except (NotABag, OSError):
        return None


def _refuse_what_may_be_newer(request: DepositRequest, item: WorkItem, stored: DepositFacts) -> None:
    """Raises DepositRefused for a further version from the same place, once the one before has all its copies: it
    looks like the same deposit, and answered as such its content would never enter."""
    if request.key is None and request.new_version_of is not None and item.status == Status.SUCCESS:
        raise DepositRefused(
            f"what {stored.source} held was deposited as version {stored.version} of this family before: item "
            f"{item.id}, bag {stored.bag}, which has all its copies. If what it holds now is another version, say "
            f"--new-version-of {stored.bag}. A deposit that is to be repeated safely gets a --key of its own"
        )


def _claim(request: DepositRequest) -> str:
    if request.key is not None:
        return f"the key {_shown(request.key)} is that of"
    return "the same source, local id, bag type and family were deposited as"


def _remedy(request: DepositRequest, item: WorkItem, stored: DepositFacts) -> str:
    remedies = [] if request.key is None else ["give another deposit another --key"]
    if may_be_cancelled(item):
        remedies.append(f"to correct that one, `dpn item cancel {item.id}` first, then submit this again")
    elif not is_void(item):
        remedies.append(f"what is stored stays as it is: say --new-version-of {stored.bag} to add to it")
    return "; ".join(remedies)


def _facts_of(item: WorkItem) -> DepositFacts:
    try:
        manifest = IngestManifest.read(item.manifest)
    except ManifestUnreadable as error:
        raise DepositRefused(f"item {item.id} was deposited with the same key, and {error}") from error
    return manifest.deposit


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value) if isinstance(value, bool) else repr(value)[:SHOWN_CHARACTERS]
