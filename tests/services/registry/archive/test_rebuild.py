"""A node's database is lost: it comes back from an old export, from what its peers show, or from both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from dpn.clock import ManualClock
from dpn.registry.catalogue import NODES, find
from dpn.registry.records import Record
from tests.fixtures.archives import (
    LATER,
    CommandLine,
    a_fixity_check,
    a_member,
    a_restore,
    an_ingest,
    lines_of,
    put_all,
    records_in,
)
from tests.fixtures.in_full import some_of
from tests.fixtures.records import DIGEST, a_bag, a_digest, a_transfer, uuid
from tests.fixtures.registry import RunningRegistry, running_registry
from workers.sync.sync import Sync

NAMES = ("north", "south", "west")
LATEST = LATER + timedelta(days=1)

STORED: dict[str, Any] = {
    "fixity_value": DIGEST,
    "store_requested": True,
    "stored": True,
    "updated_at": LATER,
}
CANCELLED: dict[str, Any] = {"cancelled": True, "cancel_reason": "reject", "updated_at": LATER}

OF_SOUTH: dict[str, Any] = {"ingest_node": "south", "admin_node": "south", "replicating_nodes": ("north", "south")}

OWN: dict[str, list[Record]] = {
    "north": [
        a_member(1),
        a_bag(1, replicating_nodes=NAMES, updated_at=LATER),
        a_bag(2, replicating_nodes=("north", "south"), bag_type="R"),
        a_bag(3, first_version_uuid=uuid(1), version=2, rights=(uuid(2),)),
        a_digest(1),
        a_digest(2),
        a_digest(3),
        an_ingest(1, 1),
        a_fixity_check(1, 1),
        a_fixity_check(2, 11, success=False),
        a_transfer(1, 1, **STORED),
        a_transfer(2, 1, to_node="west", **STORED),
        a_transfer(3, 2, to_node="west"),
        a_transfer(4, 3, **CANCELLED),
        a_restore(1, 1, accepted=True, link="dpn.north@south:1.tar", updated_at=LATER),
    ],
    "south": [
        a_member(2),
        a_bag(11, **OF_SOUTH),
        a_digest(11, node="south"),
        a_fixity_check(3, 1, node="south"),
        a_transfer(11, 11, from_node="south", to_node="north", **STORED),
        a_transfer(12, 11, from_node="south", to_node="west"),
        a_restore(2, 11, from_node="north", to_node="south"),
    ],
    "west": [
        a_bag(21, ingest_node="west", admin_node="west", replicating_nodes=("west",)),
        a_digest(21, node="west"),
        a_fixity_check(4, 1, node="west"),
        a_transfer(21, 21, from_node="west", to_node="north"),
    ],
}
"""What each node has to tell of its own."""

SINCE_THE_EXPORT: list[Record] = [
    a_bag(4, created_at=LATEST, updated_at=LATEST),
    a_digest(4, created_at=LATEST),
    a_transfer(5, 4, created_at=LATEST, updated_at=LATEST),
    a_transfer(3, 2, to_node="west", fixity_value=DIGEST, store_requested=True, updated_at=LATEST),
    a_member(1, name="Renamed University", updated_at=LATEST),
]
NEVER_TOLD: list[Record] = [a_fixity_check(9, 1), a_bag(5)]
"""What north recorded after its peers had last asked."""


@dataclass
class Network:
    """Three nodes: their servers, and their command lines, on whose databases both work."""

    servers: dict[str, RunningRegistry]
    folder: Path

    def command_line(self, name: str, database_url: str | None = None) -> CommandLine:
        us = self.servers[name]
        peers = {
            other: f"{self.servers[other].url} {self.servers[other].token(name)}"
            for other in NAMES
            if other != name
        }
        url = database_url or us.settings.database.address()
        return CommandLine(self.folder / f"{name}-settings", url, namespace=name, peers=peers)

    def sync(self) -> None:
        """Two rounds: what refers to a third node's bag may come before the bag."""
        for name in (*NAMES, *NAMES):
            us = self.servers[name]
            clients = {other: self.servers[other].client(name) for other in NAMES if other != name}
            results = Sync(clients, us.sessions, us.clock, structlog.stdlib.get_logger()).run()
            assert all(result.ok for result in results), results


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Of north: one migrated, and an empty one for after the loss."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url"), f"sqlite:///{tmp_path / 'anew.db'}"
    return request.getfixturevalue("migrated_url"), request.getfixturevalue("postgresql_url")


@pytest.fixture
def network(databases: tuple[str, str], migrated_sqlite: Path, tmp_path: Path) -> Iterator[Network]:
    with ExitStack() as stack:
        servers = {}
        for name in NAMES:
            (folder := tmp_path / name).mkdir()
            (folder / "node.db").write_bytes(migrated_sqlite.read_bytes())
            url = databases[0] if name == "north" else f"sqlite:///{folder / 'node.db'}"
            peers = [other for other in NAMES if other != name]
            servers[name] = stack.enter_context(
                running_registry(name, database_url=url, folder=folder, peers=peers, clock=ManualClock())
            )
        yield Network(servers, tmp_path)


def give(server: RunningRegistry, records: list[Record]) -> None:
    put_all(server.sessions, records)


def of_anothers_bag(record: Record, name: str) -> bool:
    """Whether the node can only say this once it has heard of the bag."""
    return getattr(record, "bag", None) not in (None, *(bag.key[0] for bag in OWN[name]))


def without_times_and_address(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name not in ("api_root", "created_at", "updated_at")}


@pytest.mark.parametrize(
    ("databases", "sources"),
    some_of(
        [
            ("postgresql", ("export", "south", "west")),
            ("sqlite", ("west", "south")),
            ("sqlite", ("export",)),
            ("sqlite", ("export", "south", "west")),
        ],
        often=2,
    ),
    indirect=["databases"],
)
def test_a_lost_registry_comes_back_as_far_as_anybody_knows_it(
    network: Network, databases: tuple[str, str], sources: tuple[str, ...]
) -> None:
    north, old = network.command_line("north"), network.folder / "old.jsonl"
    with network.servers["north"].sessions() as session:
        us = find(session, NODES, "north")
    assert us is not None
    give(network.servers["north"], [us.change(replicate_to=("south",), updated_at=LATER)])
    for name in NAMES:
        give(network.servers[name], [record for record in OWN[name] if not of_anothers_bag(record, name)])
    network.sync()
    for name in NAMES:
        give(network.servers[name], [record for record in OWN[name] if of_anothers_bag(record, name)])
    network.sync()
    assert north("registry", "export", old).returncode == 0
    give(network.servers["north"], SINCE_THE_EXPORT)
    network.sync()
    give(network.servers["north"], NEVER_TOLD)
    before = records_in(north.export())

    again = network.command_line("north", databases[1])
    assert again("db", "upgrade").returncode == 0
    for source in sources:
        file = old
        if source != "export":
            file = network.folder / f"{source}.jsonl"
            exported = again("registry", "export", "--from", source, file)
            assert exported.returncode == 0, exported.stderr.decode()
            header = lines_of(file.read_bytes())[0]
            assert (header["node"], header["registry"]) == ("north", source)
        imported = again("registry", "import", file)
        assert imported.returncode == 0, imported.stderr.decode()
    synced = again("sync", "--full")
    assert synced.returncode == 0, synced.stderr.decode()
    after = records_in(again.export())

    told_by_a_peer = set(sources) != {"export"}
    if "export" not in sources:
        # Whose a member is peers do not say: who told of it first is the one to follow.
        told = {after.pop(key)["peer"] for key in [*after] if key[0] == "member_source"}
        before = {key: record for key, record in before.items() if key[0] != "member_source"}
        assert told == {sources[0]}
    lost = {key for key in before if key not in after}
    never_told = {("fixity_check", a_fixity_check(9).fixity_check_id), ("bag", uuid(5))}
    since = {("bag", uuid(4)), ("digest", uuid(4), "sha256"), ("replicate", a_transfer(5).replication_id)}
    assert lost == (never_told if told_by_a_peer else never_told | since)
    assert after.keys() <= before.keys()
    changed_since = {("replicate", a_transfer(3).replication_id), ("member", a_member(1).member_id)}
    for key in before.keys() & after.keys() - (set() if told_by_a_peer else changed_since):
        if key[0] == "node":
            wanted, got = without_times_and_address(before[key]), without_times_and_address(after[key])
            if "export" not in sources and key == ("node", "north"):
                assert got.pop("replicate_to") == ["south", "west"], "as `dpn db upgrade` makes it"
                wanted.pop("replicate_to")
            assert got == wanted
        else:
            assert after[key] == before[key]


def test_what_a_peer_shows_is_the_same_file_each_time(network: Network) -> None:
    give(network.servers["south"], OWN["south"][:3])
    north, files = network.command_line("north"), [network.folder / name for name in ("one", "two")]
    for file in files:
        assert north("registry", "export", "--from", "south", file).returncode == 0
    one, two = (file.read_bytes().splitlines() for file in files)
    assert one[1:-1] == two[1:-1]
    assert len(one) == len(OWN["south"][:3]) + len(NAMES) + 2
    dry = north("registry", "import", "--dry-run", files[0])
    assert dry.returncode == 0, dry.stderr.decode()


def test_a_peer_that_is_down_or_not_ours_makes_no_file(network: Network) -> None:
    north, file = network.command_line("north"), network.folder / "none.jsonl"
    unknown = north("registry", "export", "--from", "east", file)
    assert (unknown.returncode, b"no [peers.east]" in unknown.stderr) == (2, True)
    north.config.write_text(north.config.read_text().replace(network.servers["south"].url, "http://127.0.0.1:1"))
    down = north("registry", "export", "--from", "south", file)
    assert (down.returncode, b"peer:south is unavailable" in down.stderr) == (2, True)
    assert not file.exists()
