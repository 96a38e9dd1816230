"""What an institution deposits becomes bags with as many proven copies as are wanted, and what is read back from
another node's store is what was deposited, whatever kind the source is of and whatever dies or declines meanwhile.

`TEST_LARGE_FILE_BYTES` adds a file of so many bytes to the folder that is deposited, e.g. 2147483648.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from dpn.database import reading
from dpn.registry.catalogue import BAGS, DIGESTS, INGESTS, TRANSFERS, Kind, batches, find
from dpn.registry.records import BagRecord, ReplicationRecord
from models.manifests import IngestManifest
from models.work import DiskReservation, WorkItem
from tests.conftest import Bucket
from tests.fixtures.demos import Demos
from tests.fixtures.deposits import mixed_files
from tests.fixtures.in_full import in_full
from tests.fixtures.made_bags import bag_info, checksums, declaration, write_folder
from tools.network.cluster import Cluster
from tools.network.node import WORKER, RunningNode
from tools.network.toml_text import Table

pytestmark = pytest.mark.slow

FILES = 1000
LEASE_SECONDS = 3
PATIENCE_SECONDS = 150.0
LARGE_FILE = "TEST_LARGE_FILE_BYTES"
BLOCK_BYTES = 1 << 20


# --- every kind of source ----------------------------------------------------------------------------------------


def aptrust_bag(payload: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of a bag as APTrust's depositors make it: two algorithms, a tag file of their own."""
    files = {f"data/{name}": content for name, content in payload.items()}
    algorithms = ("md5", "sha256")
    tags = {
        "bagit.txt": declaration(),
        "bag-info.txt": bag_info(),
        "aptrust-info.txt": "Title: Schöne Dinge\nAccess: Institution\nStorage-Option: Standard\n".encode(),
        "custom_tags/notes 1.txt": b"kept as it is\n",
        **{f"manifest-{algorithm}.txt": checksums(files, algorithm) for algorithm in algorithms},
    }
    return files | tags | {f"tagmanifest-{algorithm}.txt": checksums(tags, algorithm) for algorithm in algorithms}


def tar_of(files: Mapping[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{path.stem}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def digests_of(tar: Path) -> dict[str, str]:
    """SHA-256 of every file in the bag by its name in it, as Python's own tarfile reads them."""
    found = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                found[member.name.partition("/")[2]] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    return found


def below(folder: str, digests: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(folder): digest for name, digest in digests.items() if name.startswith(folder)}


def sha256_of(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def large_file(folder: Path, size: int) -> str:
    """A file of so many bytes, of which no two blocks are equal; returns its SHA-256."""
    digest, block = hashlib.sha256(), os.urandom(BLOCK_BYTES - 8)
    with (folder / "large.raw").open("wb") as file:
        for number in range(0, size, BLOCK_BYTES):
            content = (number.to_bytes(8) + block)[: size - number]
            file.write(content)
            digest.update(content)
    return digest.hexdigest()


@pytest.fixture
def access(s3_bucket: Bucket) -> dict[str, str]:
    """The variables that reach the bucket, as for any program of AWS."""
    return {
        "AWS_ENDPOINT_URL": s3_bucket.endpoint,
        "AWS_ACCESS_KEY_ID": s3_bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_bucket.secret_key,
        "AWS_REGION": s3_bucket.region,
    }


def test_a_folder_bags_and_an_s3_prefix_are_read_back_from_every_other_node_as_they_were(
    demos: Demos, tmp_path: Path, s3_bucket: Bucket, access: dict[str, str]
) -> None:
    mixed = mixed_files(FILES)
    folder = write_folder(tmp_path / "mixed files", mixed)
    expected_mixed = sha256_of(mixed)
    if size := int(os.environ.get(LARGE_FILE, 0)):
        expected_mixed["large.raw"] = large_file(folder, size)
    in_bag = mixed_files(30, seed=2)
    bag = aptrust_bag(in_bag)
    bag_folder = write_folder(tmp_path / "a bag", bag)
    bag_tar = tar_of(bag, tmp_path / "virginia.edu.thing.tar")
    objects = {f"object {number}/ü.bin": os.urandom(number * 1000) for number in range(12)}
    for name, content in objects.items():
        s3_bucket.client().put_object(Bucket=s3_bucket.name, Key=f"deposits/one/{name}", Body=content)
    prefix = f"s3://{s3_bucket.name}/deposits/one/"

    demo = demos.run(folder, bag_folder, bag_tar, prefix, "--keep", environment=access)
    document = demo.document()
    bags = {entry["source"]: entry for entry in document["bags"]}
    assert set(bags) == {str(folder), str(bag_folder), str(bag_tar), prefix}
    assert [copy["verified"] for entry in bags.values() for copy in entry["copies"]] == [True] * 8
    for node in ("south", "west"):
        held = {
            source: digests_of(demo.workdir / node / "store" / f"{one['uuid']}.tar")
            for source, one in bags.items()
        }
        assert below("data/", held[str(folder)]) == expected_mixed
        assert below("data/", held[prefix]) == sha256_of(objects)
        for source in (str(bag_folder), str(bag_tar)):
            assert below("data/", held[source]) == sha256_of(in_bag)
            tags = {name: content for name, content in bag.items() if not name.startswith("data/")}
            assert below("aptrust-tags/", held[source]) == sha256_of(tags)


def test_an_s3_prefix_that_cannot_be_deposited_is_said_before_anything_starts(
    demos: Demos, s3_bucket: Bucket, access: dict[str, str]
) -> None:
    demo = demos.start(f"s3://{s3_bucket.name}/nothing/", environment=access)
    assert demo.wait() == 2
    assert "there is no object under this prefix" in demo.problems
    unknown = demos.start(f"s3://{s3_bucket.name}/nothing/", name="second")
    assert unknown.wait() == 2
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in unknown.problems


# --- a network, as its operators use it --------------------------------------------------------------------------


@dataclass
class Depositor:
    """North, and what its operator types and its systems send."""

    cluster: Cluster
    member: str = ""

    @property
    def north(self) -> RunningNode:
        return self.cluster.nodes["north"]

    def enter_member(self) -> None:
        done = self.north.run("member", "add", "--name", "A library", "--email", "a@example.org", "--json")
        self.member = _json_line(done.stdout, "member_id")["member_id"]

    def submit(self, source: Path, local_id: str, *options: str) -> dict[str, Any]:
        command = ("ingest", "submit", str(source), "--member", self.member, "--local-id", local_id, *options)
        done = self.north.run(*command, "--json")
        assert done.returncode == 0, done.stdout
        return _json_line(done.stdout, "repeated")

    def token(self, node: str) -> str:
        return self.north.run("token", "issue", node).stdout.split()[-1]

    def post(self, token: str, body: dict[str, Any]) -> requests.Response:
        headers = {"Authorization": f"Token token={token}"}
        return requests.post(f"{self.north.ports.api_root}/deposits", json=body, headers=headers, timeout=30)

    def item(self, bag: str) -> WorkItem:
        with reading(self.north.sessions) as session:
            return session.scalars(
                select(WorkItem).where(WorkItem.task == "ingest", WorkItem.identifier == bag)
            ).one()

    def manifest(self, bag: str) -> IngestManifest:
        manifest = IngestManifest.read(self.item(bag).manifest)
        assert isinstance(manifest, IngestManifest)
        return manifest

    def await_success(self, *bags: str) -> None:
        def done() -> bool:
            return all(self.item(bag).status == "success" for bag in bags)

        assert self.cluster.wait_until(done, timeout_seconds=PATIENCE_SECONDS), [
            self.item(bag).note for bag in bags
        ]


def records(node: RunningNode, kind: Kind[Any]) -> list[Any]:
    with reading(node.sessions) as session:
        return [record for batch in batches(session, kind) for record in batch]


def _json_line(output: str, key: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    (wanted,) = [line for line in found if key in line]
    return wanted


def network(folder: Path, names: tuple[str, ...], *, north: Table | None = None, **ingest: Any) -> Cluster:
    settings: dict[str, Table] = {"work": {"lease_seconds": LEASE_SECONDS}, "ingest": ingest}
    return Cluster(folder, names=names, settings=settings, settings_of={"north": north or {}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(
        tmp_path / "sources" / "a thing", {"a.txt": b"first\n", "Übersicht/b.bin": os.urandom(5000)}
    )


def test_versions_and_rights_are_found_on_every_node_and_nothing_is_deposited_twice(
    tmp_path: Path, folder: Path
) -> None:
    sources: Table = {"ingest": {"source_folders": [folder.parent]}}
    with network(tmp_path / "network", ("north", "south", "west"), north=sources) as cluster:
        cluster.prepare()
        cluster.start()
        depositor = Depositor(cluster)
        depositor.enter_member()
        rights = depositor.submit(folder, "the licence", "--bag-type", "rights")
        repeated = depositor.submit(folder, "the licence", "--bag-type", "rights")
        assert (repeated["repeated"], repeated["item"], repeated["bag"]) == (True, rights["item"], rights["bag"])

        ours, others = depositor.token("north"), depositor.token("south")
        body = {"source": str(folder), "member": depositor.member, "local_id": "thing", "rights": [rights["bag"]]}
        refused = depositor.post(others, body)
        assert refused.status_code == 403
        first, again = depositor.post(ours, body), depositor.post(ours, body)
        assert (first.status_code, again.status_code) == (201, 200)
        data = first.json()
        assert again.json()["bag"] == data["bag"]
        outside = depositor.post(ours, body | {"source": "/etc", "local_id": "secrets"})
        assert outside.status_code == 400
        assert "ingest.source_folders" in outside.text

        (folder / "a.txt").write_bytes(b"second\n")
        second = depositor.submit(folder, "thing", "--new-version-of", data["bag"])
        assert (second["version"], second["first_version_uuid"]) == (2, data["bag"])
        depositor.await_success(rights["bag"], data["bag"], second["bag"])
        assert len({rights["item"], data["item"], second["item"]}) == 3

        def known_everywhere() -> bool:
            return all(len(records(node, INGESTS)) == 3 for node in cluster.nodes.values())

        assert cluster.wait_until(known_everywhere, timeout_seconds=PATIENCE_SECONDS)
        for node in cluster.nodes.values():
            bags: dict[str, BagRecord] = {bag.uuid: bag for bag in records(node, BAGS)}
            assert set(bags) == {rights["bag"], data["bag"], second["bag"]}
            (licence,) = bags[data["bag"]].rights
            assert bags[licence].bag_type == "R"
            assert bags[second["bag"]].version == 2
            family = [bag.uuid for bag in bags.values() if bag.first_version_uuid == data["bag"]]
            assert sorted(family) == sorted([data["bag"], second["bag"]])
            assert {bag.replicating_nodes for bag in bags.values()} == {("north", "south", "west")}


@in_full
def test_workers_that_are_killed_in_the_middle_leave_one_bag_and_nothing_else(tmp_path: Path) -> None:
    files = {f"{number}.raw": os.urandom(20_000_000) for number in range(3)}
    source = write_folder(tmp_path / "source", files)
    with network(tmp_path / "network", ("north", "south")) as cluster:
        cluster.prepare()
        cluster.start(workers=False, cron=False)
        cluster.nodes["south"].start(WORKER)
        depositor = Depositor(cluster)
        depositor.enter_member()
        bag = depositor.submit(source, "thing")["bag"]
        stages = {"package": "package", "ingest-store": "store", "ingest-record": "record"}
        for worker in stages:
            depositor.north.start(worker, "worker", worker)
        for worker, stage in stages.items():
            _kill_while_it_runs(depositor, worker, bag, stage)
        cluster.start_cron()
        depositor.await_success(bag)
        cluster.stop_nodes()
        assert depositor.north.run("cleanup").returncode == 0

        (transfer,) = records(depositor.north, TRANSFERS)
        (planned,) = depositor.manifest(bag).transfers
        assert (transfer.replication_id, transfer.stored) == (planned.replication_id, True)
        assert [record.uuid for record in records(depositor.north, BAGS)] == [bag]
        assert [record.bag for record in records(depositor.north, DIGESTS)] == [bag]
        with reading(depositor.north.sessions) as session:
            assert session.scalar(select(func.count()).select_from(DiskReservation)) == 0
        place = depositor.north.place
        left = [path for folder in (place.volume, place.outbound) for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in left if ".tar" in path.name], left
        held = digests_of(cluster.nodes["south"].place.store / f"{bag}.tar")
        assert below("data/", held) == sha256_of(files)


def _kill_while_it_runs(depositor: Depositor, worker: str, bag: str, stage: str) -> None:
    """Looks without a pause: a stage may take a few milliseconds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        item = depositor.item(bag)
        if (item.stage, item.status) == (stage, "running"):
            break
        assert time.monotonic() < deadline, (item.stage, item.status, item.note)
        time.sleep(0.002)
        depositor.cluster.tick()
    depositor.north.kill(worker, signal.SIGKILL)


def test_a_transfer_that_a_peer_cancels_is_replaced_by_one_to_another_node(tmp_path: Path, folder: Path) -> None:
    with network(tmp_path / "network", ("north", "south", "west", "east"), replicate_to_count=2) as cluster:
        cluster.prepare()
        cluster.start(workers=False)
        depositor = Depositor(cluster)
        depositor.enter_member()
        bag = depositor.submit(folder, "thing")["bag"]
        depositor.north.start(WORKER)
        _await(cluster, lambda: len(records(depositor.north, TRANSFERS)) == 2)
        declines = cluster.nodes[depositor.manifest(bag).transfers[0].to_node]
        _await(cluster, lambda: _replications(declines) != [])
        (item,) = _replications(declines)
        done = declines.run("item", "cancel", str(item), "--reason", "our disks are full")
        assert done.returncode == 0, done.stdout
        for name in ("south", "west", "east"):
            cluster.nodes[name].start(WORKER)
        depositor.await_success(bag)
        transfers: list[ReplicationRecord] = records(depositor.north, TRANSFERS)
        (cancelled,) = [transfer for transfer in transfers if transfer.cancelled]
        assert (cancelled.to_node, cancelled.cancel_reason) == (declines.name, "reject")
        assert "our disks are full" in (cancelled.cancel_reason_detail or "")
        stored = {transfer.to_node for transfer in transfers if transfer.stored}
        assert stored == {"south", "west", "east"} - {declines.name}
        with reading(depositor.north.sessions) as session:
            recorded = find(session, BAGS, bag)
        assert recorded is not None
        assert set(recorded.replicating_nodes) == {"north", *stored}


def _await(cluster: Cluster, condition: Callable[[], bool]) -> None:
    assert cluster.wait_until(condition, timeout_seconds=PATIENCE_SECONDS)


def _replications(node: RunningNode) -> list[int]:
    with reading(node.sessions) as session:
        return list(session.scalars(select(WorkItem.id).where(WorkItem.task == "replication")))
