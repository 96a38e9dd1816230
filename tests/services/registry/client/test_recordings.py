"""Another implementation's records and recorded exchanges: understood, and answered as it answered them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from dpn.clock import ManualClock
from dpn.database import reading
from dpn.registry.catalogue import BAGS, DIGESTS, MEMBERS, NODES, TRANSFERS, apply_from_peer, batches
from dpn.registry.catalogue.rows import save
from dpn.registry.client import RegistryClient
from dpn.registry.client.pages import read_page
from dpn.registry.client.rows import RejectedRecord, RowFilter, read_rows
from dpn.registry.records import BagRecord, MemberRecord, Record, ReplicationRecord
from tests.fixtures import seed as five_nodes
from tests.fixtures.nasty.peer import NastyPeer
from tests.fixtures.registry import RunningRegistry, peer_settings, running_registry
from tests.fixtures.seed import Seed

RECORDED_AT = datetime(2016, 12, 15, 23, 47, 13, tzinfo=UTC)
TYPES: dict[str, type[Record]] = {"bag": BagRecord, "member": MemberRecord, "replicate": ReplicationRecord}
PORTS = {"localhost:3001": "aptrust", "localhost:3004": "sdr"}


def exchanges(shared_data: Path, name: str) -> list[dict[str, Any]]:
    text = (shared_data / "rest-recordings" / f"{name}.yml").read_text(encoding="utf-8")
    interactions: list[dict[str, Any]] = yaml.safe_load(text)["http_interactions"]
    return interactions


def kind_of(exchange: dict[str, Any]) -> str:
    return urlsplit(exchange["request"]["uri"]).path.split("/")[2]


@pytest.fixture
def seed(shared_data: Path) -> Seed:
    return Seed(shared_data / "registry-seed")


@pytest.mark.parametrize("name", ["bag_replication", "sync_members"])
def test_every_recorded_record_is_understood_and_would_be_sent_alike(shared_data: Path, name: str) -> None:
    understood = 0
    for exchange in exchanges(shared_data, name):
        bodies = [exchange[side]["body"]["string"] for side in ("request", "response")]
        for value in (json.loads(body) for body in bodies if body not in ("", "null")):
            record_type = TYPES[kind_of(exchange)]
            rows = read_page(value).rows if "results" in value else [value]
            records = read_rows(rows, record_type, RowFilter({}), peer="aptrust", kind=kind_of(exchange))
            assert len(records) == len(rows)
            for row, record in zip(rows, records, strict=True):
                assert not isinstance(record, RejectedRecord), record
                assert record.to_wire() == row
                understood += 1
    assert understood >= 15


def test_the_client_reads_the_recorded_answers(shared_data: Path) -> None:
    gets = [e for e in exchanges(shared_data, "bag_replication") if e["request"]["method"] == "get"]
    bodies = {
        urlsplit(e["request"]["uri"]).path: json.loads(e["response"]["body"]["string"])
        for e in gets
        if e["response"]["status"]["code"] == 200
    }
    with NastyPeer(answers=bodies) as peer:
        client = RegistryClient("aptrust", peer_settings(peer.url))
        [[transfer]] = client.list_transfers(to_node="sdr")
        assert isinstance(transfer, ReplicationRecord)
        assert client.get_transfer(transfer.replication_id).store_requested
        assert client.get_bag(transfer.bag).replicating_nodes == ("chron", "hathi")


@pytest.fixture
def cluster(seed: Seed, tmp_path: Path) -> Iterator[dict[str, RunningRegistry]]:
    """Servers of aptrust, with all that it has to tell, and of sdr, with its own."""
    with ExitStack() as stack:
        servers = {}
        for name in PORTS.values():
            folder = tmp_path / name
            folder.mkdir()
            server = stack.enter_context(
                running_registry(
                    name,
                    database_url=f"sqlite:///{folder / 'node.db'}",
                    folder=folder,
                    peers=[node for node in five_nodes.NODES if node != name],
                    clock=ManualClock(RECORDED_AT),
                )
            )
            with server.sessions.begin() as session:
                assert apply_from_peer(session, name, seed.records_of(name)).refused == ()
            servers[name] = server
        yield servers


def test_our_server_answers_the_recorded_requests_as_theirs_did(
    shared_data: Path, cluster: dict[str, RunningRegistry]
) -> None:
    for exchange in exchanges(shared_data, "bag_replication"):
        request, response = exchange["request"], exchange["response"]
        address = urlsplit(request["uri"])
        server = cluster[PORTS[address.netloc]]
        caller = request["headers"]["Authorization"][0].removeprefix("Token ").removesuffix("_token")
        path = address.path.removeprefix("/api-v2") + (f"?{address.query}" if address.query else "")
        body = request["body"]["string"].encode() if request["method"] != "get" else None
        answer = server.ask(caller, request["method"].upper(), path, data=body)
        context = f"{request['method']} {request['uri']}: {answer.text}"
        assert answer.status_code == response["status"]["code"], context
        assert without_times(answer.text) == without_times(response["body"]["string"]), context
    [transfer] = (
        cluster["sdr"].ask("sdr", "GET", "/replicate?page=1&page_size=9&from_node=aptrust").json()["results"]
    )
    assert transfer["stored"]


def without_times(text: str) -> Any:
    """The records in an answer, but for the times of change: they are each server's own."""
    if not text:
        return text
    value = json.loads(text)
    for row in value.get("results", [value]):
        row.pop("updated_at")
    return value


def test_the_seed_of_five_nodes_goes_through_the_records_into_the_rows(
    seed: Seed, tmp_path: Path, database_url: str
) -> None:
    peers = [node for node in five_nodes.NODES if node != "aptrust"]
    with running_registry("aptrust", database_url=database_url, folder=tmp_path, peers=peers) as server:
        for _ in range(2):
            with server.sessions.begin() as session:
                save(session, MEMBERS, seed.members())
                for node in five_nodes.NODES:
                    applied = apply_from_peer(session, node, [*seed.nodes(), *seed.records_of(node)])
                    own = [refused for refused in applied.refused if refused.kind != "node"]
                    assert own == []
        assert (applied.added, applied.updated) == (0, 0), "the second time nothing is new"
        with reading(server.sessions) as session:
            found = {
                kind.name: sum(len(batch) for batch in batches(session, kind))
                for kind in (NODES, MEMBERS, BAGS, DIGESTS, TRANSFERS)
            }
            ours = next(batches(session, TRANSFERS, {"to_node": "aptrust", "stored": False, "cancelled": False}))
        assert found == {"node": 5, "member": 5, "bag": 5, "digest": 5, "replicate": 20}
        assert sorted(transfer.from_node for transfer in ours) == ["chron", "hathi", "sdr", "tdr"]
