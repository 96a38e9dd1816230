"""What replication costs beside the bare tools: the same bytes, the same machine, the same run.

    .venv/bin/python -m benchmarks.replication [--small 200] [--large 3] [--large-mib 1024] [--json FILE]

Two nodes of real processes: north shows bags through an rsync daemon and a registry server, south copies,
validates and stores them with one worker process a stage, on real nsqd, PostgreSQL and an S3 server. Beside that,
for the same bags one after the other: `rsync` from the same daemon, `openssl dgst -sha256`, and boto3's
`upload_file` to the same server. Each half is timed from the moment its first bag could move to the end of its
last; starting processes and making bags is not in either figure. Also told: the largest memory of each worker.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import boto3
from sqlalchemy import func, select

from dpn.bags.building.build import build_bag
from dpn.bags.building.metadata import DpnMetadata
from dpn.registry.records import BagRecord
from models.work import Status, WorkItem
from tests.fixtures.offered_bags import OfferedBag, deposit_all
from tools.network.backends import BrokerKind, DatabaseKind, Kinds, StoreKind
from tools.network.cluster import Cluster
from tools.network.node import Node
from tools.network.place import link

WORKERS = ("copy", "validate", "replication-store")
MEMBER = "ae7e2c33-9e0a-4d0e-8b5c-0e2a5f1c7d11"
SMALL_BYTES = 50_000
TIMEOUT_SECONDS = 1800.0
BARE_BUCKET = "bare-tools"


@dataclass(frozen=True)
class Figure:
    """One kind of bags, ours beside the bare tools."""

    bags: str
    ours_seconds: float
    bare_seconds: float
    bare_rsync_seconds: float
    bare_sha256_seconds: float
    bare_upload_seconds: float
    stage_seconds: dict[str, float]
    """Of each stage, summed over the bags: several may have run at once."""

    @property
    def ratio(self) -> float:
        return self.ours_seconds / self.bare_seconds


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="dpn-bench-", dir=arguments.dir) as scratch:
        folder = Path(scratch)
        small = [_make_bag(folder, SMALL_BYTES, number) for number in range(arguments.small)]
        large = [_make_bag(folder, arguments.large_mib << 20, number) for number in range(arguments.large)]
        kinds = Kinds(BrokerKind.NSQ, DatabaseKind.POSTGRESQL, StoreKind.S3)
        over: dict[str, Any] = {"work": {"concurrency": arguments.concurrency}}
        with Cluster(folder / "nodes", names=("north", "south"), kinds=kinds, settings=over) as cluster:
            cluster.prepare()
            cluster.start(workers=False, cron=False)
            for worker in WORKERS:
                cluster.nodes["south"].start(worker, "worker", worker)
            _wait_for_workers(cluster)
            figures = []
            for name, bags in (("small", small), ("large", large)):
                if bags:
                    figures.append(_measure(f"{len(bags)} {name}", cluster, bags))
            memory = {worker: _peak_mib(cluster.nodes["south"], worker) for worker in WORKERS}
    _report(figures, memory, arguments.json)
    return 0


def _measure(name: str, cluster: Cluster, bags: list[OfferedBag]) -> Figure:
    north, south = cluster.nodes["north"], cluster.nodes["south"]
    deposit_all(north, bags, ["south"], now=datetime.now(UTC))
    bare = _bare_tools(cluster, bags)
    south.run("sync")
    done_before = _count(south, Status.SUCCESS)
    started = time.monotonic()
    south.run("queue")
    finished = cluster.wait_until(
        lambda: _count(south, Status.SUCCESS) == done_before + len(bags), timeout_seconds=TIMEOUT_SECONDS
    )
    ours = time.monotonic() - started
    if not finished:
        raise SystemExit(f"{name}: not finished after {TIMEOUT_SECONDS} s; see {south.place.logs}")
    return Figure(name, ours, sum(bare), *bare, _stage_seconds(south, len(bags)))


def _stage_seconds(node: Node, newest: int) -> dict[str, float]:
    with node.sessions() as session:
        items = session.scalars(select(WorkItem).order_by(WorkItem.id.desc()).limit(newest)).all()
    summaries = [item.manifest["summaries"] for item in items]
    return {
        stage: round(sum(s[stage]["seconds"] for s in summaries), 2) for stage in ("copy", "validate", "store")
    }


def _bare_tools(cluster: Cluster, bags: list[OfferedBag]) -> tuple[float, float, float]:
    """Seconds of rsync, sha256 and upload of all bags, one after the other, as a shell script would."""
    north, south = cluster.nodes["north"], cluster.nodes["south"]
    target = south.place.volume.parent / "bare"
    target.mkdir(exist_ok=True)
    store = south.settings.store
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.access_key_id,
        aws_secret_access_key=store.secret(),
    )
    if BARE_BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BARE_BUCKET)

    def rsync(bag: OfferedBag) -> None:
        _run("rsync", "--inplace", link(north.ports, "south", bag.uuid), str(target / f"{bag.uuid}.tar"))

    def sha256(bag: OfferedBag) -> None:
        _run("openssl", "dgst", "-sha256", str(target / f"{bag.uuid}.tar"))

    def upload(bag: OfferedBag) -> None:
        client.upload_file(str(target / f"{bag.uuid}.tar"), BARE_BUCKET, f"{bag.uuid}.tar")

    seconds = (_timed(rsync, bags), _timed(sha256, bags), _timed(upload, bags))
    for bag in bags:
        client.delete_object(Bucket=BARE_BUCKET, Key=f"{bag.uuid}.tar")
        (target / f"{bag.uuid}.tar").unlink()
    return seconds


def _timed(work: Callable[[OfferedBag], None], bags: Iterable[OfferedBag]) -> float:
    started = time.monotonic()
    for bag in bags:
        work(bag)
    return time.monotonic() - started


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _make_bag(folder: Path, size: int, number: int) -> OfferedBag:
    source = folder / f"source-{size}-{number}"
    source.mkdir()
    block = os.urandom(1 << 20)
    with (source / "payload.bin").open("wb") as payload:
        for offset in range(0, size, len(block)):
            payload.write(block[: min(len(block), size - offset)])
    out = folder / "bags"
    out.mkdir(exist_ok=True)
    metadata = DpnMetadata(local_id=source.name, ingest_node="north", bagging_date=date(2024, 1, 2))
    built = build_bag(source, out, metadata=metadata)
    (source / "payload.bin").unlink()
    return OfferedBag(
        tar=built.path,
        source=str(source),
        uuid=built.uuid,
        local_id=source.name,
        size=built.size,
        record=_record(built.uuid, built.size, source.name),
        sha256=built.sha256 or "",
        tag_manifest_sha256=built.tag_manifest_sha256,
    )


def _record(uuid: str, size: int, local_id: str) -> BagRecord:
    now = datetime.now(UTC)
    return BagRecord(
        uuid=uuid,
        local_id=local_id,
        member=MEMBER,
        size=size,
        first_version_uuid=uuid,
        version=1,
        bag_type="D",
        ingest_node="north",
        admin_node="north",
        replicating_nodes=("north",),
        created_at=now,
        updated_at=now,
    )


def _wait_for_workers(cluster: Cluster) -> None:
    from models.work import WorkerHeartbeat

    south = cluster.nodes["south"]

    def all_there() -> bool:
        with south.sessions() as session:
            return session.scalar(select(func.count()).select_from(WorkerHeartbeat)) == len(WORKERS)

    if not cluster.wait_until(all_there, timeout_seconds=60):
        raise SystemExit(f"the workers did not start; see {south.place.logs}")


def _count(node: Node, status: Status) -> int:
    with node.sessions() as session:
        return session.scalar(select(func.count()).where(WorkItem.status == status)) or 0


def _peak_mib(node: Node, worker: str) -> float:
    running = node.process(worker)
    if running is None:
        return 0.0
    status = Path(f"/proc/{running.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _report(figures: list[Figure], memory: dict[str, float], file: Path | None) -> None:
    for figure in figures:
        print(
            f"{figure.bags}: {figure.ours_seconds:.1f} s, bare tools {figure.bare_seconds:.1f} s "
            f"(rsync {figure.bare_rsync_seconds:.1f}, sha256 {figure.bare_sha256_seconds:.1f}, "
            f"upload {figure.bare_upload_seconds:.1f}): {figure.ratio:.2f} ×; "
            f"seconds in stages {figure.stage_seconds}"
        )
    print("peak memory of the workers: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))
    if file is not None:
        document = {"figures": [{**asdict(f), "ratio": f.ratio} for f in figures], "peak_mib": memory}
        file.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replication beside the bare tools.")
    parser.add_argument("--small", type=int, default=200, help="bags of 50 KB")
    parser.add_argument("--large", type=int, default=3, help="large bags")
    parser.add_argument("--large-mib", type=int, default=1024)
    parser.add_argument("--concurrency", type=int, default=4, help="items at once in each worker")
    parser.add_argument("--dir", type=Path, help="where scratch files go; needs five times the bags' size")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
