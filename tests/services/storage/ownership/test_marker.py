"""A store takes and judges nothing unless it bears our marker, whatever is mounted in its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions, upgrade
from dpn.errors import Misconfigured, StoreMissing
from dpn.fixity.copies import remember
from dpn.storage.ownership.marker import Ownership
from dpn.storage.ownership.own_store import open_own_store
from dpn.storage.settings import StoreSettings
from dpn.storage.store import MARKER, Store
from dpn.storage.stores import open_store
from models.manifests import Receipt
from models.preservation import KnownStore
from tests.services.storage.conftest import StagedBag, s3_settings

Stage = Callable[[int], StagedBag]


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    engine = open_engine(f"sqlite:///{tmp_path / 'node.db'}")
    upgrade(engine)
    yield open_sessions(engine)
    engine.dispose()


@dataclass
class OwnFolder:
    """Node north and its store, a folder."""

    path: Path
    sessions: Sessions
    clock: ManualClock
    node: str = "north"

    def open(self, node: str = "north", name: str = "main") -> Store:
        settings = StoreSettings(url=self.path.as_uri(), name=name)
        return open_own_store(settings, node=node, sessions=self.sessions, clock=self.clock)

    def keep(self, bag: StagedBag, store: Store | None = None) -> Receipt:
        receipt = bag.put(store or self.open())
        with self.sessions.begin() as session:
            uuid = bag.key.removesuffix(".tar")
            remember(session, receipt, bag=uuid, tag_manifest_sha256="0" * 64, item_id=None, every_days=730.0)
        return receipt

    def forget_marker(self) -> None:
        """As a node was before there were markers."""
        (self.path / MARKER).unlink()
        with self.sessions.begin() as session:
            session.delete(session.get_one(KnownStore, "main"))

    def mount_another(self) -> None:
        self.path.rename(self.path.with_name("put aside"))
        self.path.mkdir()

    def mount_ours(self) -> None:
        shutil.rmtree(self.path)
        self.path.with_name("put aside").rename(self.path)


@pytest.fixture
def own(tmp_path: Path, sessions: Sessions, clock: ManualClock) -> OwnFolder:
    (tmp_path / "store").mkdir()
    return OwnFolder(tmp_path / "store", sessions, clock)


ASKING: dict[str, Callable[[Store, Receipt, Path], object]] = {
    "head": lambda store, receipt, _: store.head(receipt.key),
    "confirm": lambda store, receipt, _: store.confirm(receipt),
    "read": lambda store, receipt, _: list(store.read(receipt.key)),
    "availability": lambda store, receipt, _: store.availability(receipt.key),
    "restore": lambda store, receipt, _: store.request_restore(receipt.key, tier="Bulk", days=1),
    "open in place": lambda store, receipt, _: store.open_in_place(receipt.key),
    "retrieve": lambda store, receipt, path: store.retrieve(
        receipt.key, path / "got.tar", receipt=receipt, cancellation=Cancellation()
    ),
    "probe": lambda store, receipt, _: store.probe(),
}


class TestAnEmptyDiskInTheStoresPlace:
    def test_takes_nothing_and_judges_nothing(self, own: OwnFolder, stage: Stage, tmp_path: Path) -> None:
        kept = stage(1000)
        receipt, store = own.keep(kept), own.open()
        own.mount_another()
        for ask in ASKING.values():
            with pytest.raises(Misconfigured, match="it has no marker, and we have copies there"):
                ask(store, receipt, tmp_path)
        with pytest.raises(Misconfigured, match="no marker"):
            stage(10).put(store)
        with pytest.raises(Misconfigured, match="no marker"):
            store.replace(kept.path, kept.key, bad=None, sha256=kept.sha256, metadata={}, resume=None,
                          checkpoint=kept.checkpoints.append, cancellation=Cancellation())  # fmt: skip
        assert list(own.path.iterdir()) == []
        own.mount_ours()
        assert store.confirm(receipt).sha256 == kept.sha256

    def test_takes_nothing_that_was_on_its_way_when_the_marker_went(self, own: OwnFolder, stage: Stage) -> None:
        own.keep(stage(10))
        bag = stage(1000)
        with pytest.raises(Misconfigured, match="no marker"):
            bag.put(own.open(), progress=lambda *_: (own.path / MARKER).unlink())
        assert bag.fences == 0
        assert not (own.path / bag.key).exists()

    def test_is_not_taken_for_ours_though_it_was_marked_before_the_real_one(
        self, own: OwnFolder, stage: Stage
    ) -> None:
        """A node's first start with the store's disk not mounted yet marks the mount point."""
        own.open().probe()
        mount_point = (own.path / MARKER).read_text()
        own.mount_another()
        receipt = own.keep(stage(10))
        (own.path / MARKER).write_text(mount_point)
        (own.path / receipt.key).unlink()
        with pytest.raises(Misconfigured, match="which is another disk's"):
            own.open().head(receipt.key)


def test_a_missing_copy_in_our_own_store_is_still_missing(own: OwnFolder, stage: Stage) -> None:
    receipt = own.keep(stage(10))
    (own.path / receipt.key).unlink()
    with pytest.raises(StoreMissing):
        own.open().confirm(receipt)
    assert own.open().head(receipt.key) is None


@pytest.mark.parametrize(("node", "name"), [("south", "main"), ("north", "other")])
def test_the_store_of_another_node_or_name_is_not_ours(own: OwnFolder, stage: Stage, node: str, name: str) -> None:
    own.keep(stage(10))
    with pytest.raises(Misconfigured, match="its marker says 'dpn-store node=north store=main id="):
        own.open(node, name).probe()


def test_what_is_no_marker_is_none_of_ours(own: OwnFolder) -> None:
    (own.path / MARKER).write_text("something else\n")
    with pytest.raises(Misconfigured, match="its marker says 'something else'"):
        own.open().probe()


class TestAStoreOfTheTimeBeforeMarkers:
    def test_gets_one_once_a_copy_in_it_is_proven(self, own: OwnFolder, stage: Stage) -> None:
        receipts = [own.keep(stage(size)) for size in (10, 20, 30)]
        own.forget_marker()
        (own.path / receipts[0].key).unlink()
        assert own.open().head(receipts[0].key) is None
        assert own.open().marker() is not None

    def test_gets_none_where_no_copy_is_proven(self, own: OwnFolder, stage: Stage) -> None:
        receipt = own.keep(stage(10))
        own.forget_marker()
        stored = own.path / receipt.key
        stored.unlink()
        stored.write_bytes(b"0123456789")  # a name and a size are no proof
        with pytest.raises(Misconfigured, match="no marker"):
            own.open().probe()
        assert own.open().marker() is None


def test_a_database_that_was_lost_learns_the_marker_from_the_store(
    own: OwnFolder, stage: Stage, sessions: Sessions
) -> None:
    receipt = own.keep(stage(10))
    with sessions.begin() as session:
        session.delete(session.get_one(KnownStore, "main"))
    before = own.open().marker()
    assert own.open().confirm(receipt).sha256 == receipt.sha256
    assert own.open().marker() == before
    own.mount_another()
    with pytest.raises(Misconfigured, match="no marker"):
        own.open().probe()


def test_an_operator_may_mark_a_new_disk(own: OwnFolder, stage: Stage, sessions: Sessions) -> None:
    receipt = own.keep(stage(10))
    own.mount_another()
    Ownership("north", "main", sessions, own.clock).mark(
        open_store(StoreSettings(url=own.path.as_uri()), clock=own.clock)
    )
    assert own.open().head(receipt.key) is None
    own.mount_ours()
    with pytest.raises(Misconfigured, match="another disk's"):
        own.open().probe()


def test_two_that_mark_a_new_store_at_once_agree(own: OwnFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one marks it between our look and our marking."""
    look = Ownership._expected
    quicker = own.open()

    def overtaken(self: Ownership) -> Any:
        monkeypatch.setattr(Ownership, "_expected", look)
        expected = self._expected()
        quicker.probe()
        return expected

    monkeypatch.setattr(Ownership, "_expected", overtaken)
    own.open().probe()
    quicker.probe()


def test_a_bucket_is_marked_too_and_an_empty_one_is_not_taken_for_it(
    s3_bucket: Any, sessions: Sessions, clock: ManualClock, stage: Stage, tmp_path: Path
) -> None:
    own = OwnFolder(tmp_path, sessions, clock)
    store = open_own_store(s3_settings(s3_bucket), node="north", sessions=sessions, clock=clock)
    receipt = own.keep(stage(10), store)
    assert store.confirm(receipt).sha256 == receipt.sha256
    empty = open_own_store(
        s3_settings(s3_bucket, url=f"s3://{s3_bucket.name}/elsewhere"),
        node="north",
        sessions=sessions,
        clock=clock,
    )
    with pytest.raises(Misconfigured, match="it has no marker, and we have copies there"):
        empty.availability(receipt.key)
    with pytest.raises(Misconfigured, match="no marker"):
        stage(20).put(empty)
