"""Brings a bag into a folder of the operator's, from where another node offers it or from our own store.

It is read and judged as a whole before it appears there. Whatever stops this, the same command goes on with what
came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpn.audit.trail import Event, EventType, record
from dpn.bags.unpack import unpack
from dpn.bags.validation.profiles import load_profile
from dpn.cancellation import Cancellation
from dpn.cli.bag import progress_bar
from dpn.cli.node import operator
from dpn.database import reading
from dpn.errors import DpnError, Misconfigured
from dpn.node import OpenNode
from dpn.recovery.arrival import UNPROVEN, Judged, judge_received, receive
from dpn.recovery.destination import Destination, Occupied
from dpn.registry.catalogue import BAGS, DIGESTS, find
from dpn.registry.records import FIXITY_ALGORITHM, BagRecord, RestoreRecord
from models.manifests import ValidationResult
from models.preservation import StoredCopy


class NotFetched(DpnError):
    """The bag is not here, and the text says why and what to do; `state` is one word for it."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


@dataclass(frozen=True)
class FetchedBag:
    """A bag that lies where it was asked for, read as a whole and found to be the registered one."""

    path: Path
    validation: ValidationResult
    was_there: bool


@dataclass(frozen=True)
class BagFetch:
    """What is the same wherever the bag comes from. `shown`: whether a terminal shows how far it is."""

    node: OpenNode
    bag: BagRecord
    digest: str | None
    destination: Destination
    cancellation: Cancellation
    shown: bool
    unproven: bool = False
    """Whether a bag is taken whose payload the registered digest does not prove."""

    def already_there(self) -> FetchedBag | None:
        """The bag, if it lies there from an earlier time. Raises Occupied if something else does."""
        if not self.destination.is_taken():
            return None
        judged = self._judge(self.destination.target, accept_unproven=self.unproven)
        if judged.problems:
            raise Occupied(
                f"{self.destination.target} is there, and it is not bag {self.bag.uuid} as it is registered: "
                f"{'; '.join(judged.problems)}. Move it away or choose another folder; nothing was overwritten"
            )
        if self.destination.scratch.exists():
            with self.destination.held():
                self.destination.discard()
        return FetchedBag(self.destination.target, judged.validation, was_there=True)

    def run(self, source: str, get: Callable[[Path, int, Callable[[int], None]], dict[str, Any]]) -> FetchedBag:
        """Has `get` write the bag's tar to a path (with the descriptor that keeps others out, and who hears how
        far it is), judges it and gives it its name. What `get` answers goes into the audit trail.

        Raises NotFetched, Occupied, Busy, NoSpace and what `get` does.
        """
        place = self.destination
        with place.held() as lock:
            place.require_room(self.bag.size)
            with self._bar("fetching") as progress:
                told = get(place.tar, lock, progress)
            self.note(EventType.TRANSFER, "success", source=source, **told)
            judged = self._judge(place.tar, accept_unproven=self.unproven)
            self.note(
                EventType.VALIDATION,
                "failure" if judged.problems else "success",
                source=source,
                problems=list(judged.problems),
                validation=judged.validation.model_dump(mode="json"),
            )
            if judged.problems:
                raise NotFetched("bad", self._bad(source, place.tar, judged))
            if place.unpacked:
                self._unpack()
            return FetchedBag(place.publish(), judged.validation, was_there=False)

    def _unpack(self) -> None:
        """Unpacks what was judged, and judges what lies there then."""
        place = self.destination
        place.discard_unpacked()
        with self._bar("unpacking") as progress:
            folder = unpack(place.tar, place.scratch, cancellation=self.cancellation, progress=progress)
        judged = self._judge(folder, accept_unproven=True)  # as the tar, which was judged
        if judged.problems:
            raise NotFetched(
                "bad",
                f"the bag was unpacked into {folder} and is not whole there: {'; '.join(judged.problems)}. Look "
                "at that disk; the same command begins the unpacking anew",
            )

    def _judge(self, path: Path, *, accept_unproven: bool) -> Judged:
        settings = self.node.settings
        with reading(self.node.sessions) as session:
            ours = session.get(StoredCopy, self.bag.uuid)
        return judge_received(
            path,
            bag=self.bag.uuid,
            size=self.bag.size if settings.transfer.size_mismatch == "reject" else None,
            tag_manifest_sha256=self.digest,
            profile=load_profile(settings.validation.profile),
            validation=settings.validation,
            cancellation=self.cancellation,
            known_sha256=None if ours is None else ours.sha256,
            accept_unproven=accept_unproven,
        )

    def _bad(self, source: str, tar: Path, judged: Judged) -> str:
        if judged.problems == (UNPROVEN,):
            return (
                f"what came from {source} is whole, and may not be bag {self.bag.uuid}: {UNPROVEN}. It is kept as "
                f"{tar}. `--unproven` takes it, if you trust {source}"
            )
        return (
            f"what came from {source} is not bag {self.bag.uuid} as it is registered, or not whole: "
            f"{'; '.join(judged.problems)}. It is kept as {tar}, to be looked at; ask another node: "
            f"dpn restore request {self.bag.uuid} --from NODE"
        )

    def note(self, event_type: EventType, outcome: str, **detail: Any) -> None:
        """Adds to the audit trail of the bag."""
        with self.node.sessions.begin() as session:
            event = Event(event_type, self.bag.uuid, outcome, {"into": str(self.destination.folder), **detail})
            record(session, [event], agent=operator(), at=self.node.clock.now())

    @contextmanager
    def _bar(self, what: str) -> Iterator[Callable[[int], None]]:
        with progress_bar(what, self.bag.size, shown=self.shown) as bar:
            yield lambda done: None if bar is None else bar(done, 0)


def registered(node: OpenNode, bag: str) -> tuple[BagRecord, str | None]:
    """The bag as our registry knows it, and the digest of its tag manifest. Raises Misconfigured."""
    with reading(node.sessions) as session:
        known, digest = find(session, BAGS, bag), find(session, DIGESTS, bag, FIXITY_ALGORITHM)
    if known is None:
        raise Misconfigured(f"{bag}: our registry knows neither a request nor a bag of this id: `dpn sync` first")
    return known, None if digest is None else digest.value


def from_node(bag_fetch: BagFetch, request: RestoreRecord) -> FetchedBag:
    """The bag from where the node that was asked offers it. Raises what `BagFetch.run` and `receive` do."""
    settings = bag_fetch.node.settings
    peer = settings.peers.get(request.from_node)
    if peer is None:
        raise Misconfigured(f"no [peers.{request.from_node}] in {bag_fetch.node.config}: add it")

    def get(tar: Path, lock: int, progress: Callable[[int], None]) -> dict[str, Any]:
        got = receive(
            request,
            tar,
            source=peer.rsync,
            transfer=settings.transfer,
            size=bag_fetch.bag.size,
            cancellation=bag_fetch.cancellation,
            progress=progress,
            keep_open=(lock,),
        )
        return {"restore_id": request.restore_id, "bytes": got.bytes, "sent_bytes": got.sent_bytes}

    return bag_fetch.run(request.from_node, get)
