"""Retrieving a bag from S3 beside boto3's own `download_file`, against the same server in the same run.

    python -m benchmarks.retrieval [--mebibytes 1024] [--repeat 5] [--threads 4] [--workdir DIR] [--json FILE]

The server is versitygw on this machine, which has the object in the page cache, so that the network and its disk
cost nothing and the clients are what is compared. `dpn` compares each part's SHA-256 with the receipt, waits for
the disk and renames; boto3 writes what comes. "and SHA-256" reads boto3's file again to have its digest, the least
that a check would need. Contenders take turns, each in a process of its own, timed within it from the first
request on; the best run of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3

from benchmarks.contenders import MEBIBYTE, Measurement, best_in_turns, print_table, write_results

ROOT = Path(__file__).resolve().parent.parent
KEY = "5b7d9d4c-2f7e-4c55-8a44-9a7b6c5d4e3f.tar"
BASELINE, DIGESTED, OURS, UNKNOWN = "boto3", "boto3, and SHA-256", "dpn", "dpn, without a receipt"
WANTED = 0.9

TIMED = """
import json, os, sys, time
job = json.load(sys.stdin)
{setup}
start = time.perf_counter()
{run}
seconds = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"seconds": seconds, "processor": sum(os.times()[:2]), "peak": int(peak.split()[1]) / 1024}}))
"""
BOTO3 = """
import boto3
s = job["settings"]
client = boto3.client("s3", endpoint_url=s["endpoint_url"], region_name=s["region"],
    aws_access_key_id=s["access_key_id"], aws_secret_access_key=s["secret_access_key"])
"""
DPN = """
from pathlib import Path
from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.storage.settings import StoreSettings
from dpn.storage.stores import open_store
from models.manifests import Receipt
store = open_store(StoreSettings.model_validate(job["settings"]), clock=SystemClock())
receipt = Receipt.model_validate(job["receipt"])
"""
DOWNLOAD = 'client.download_file(job["bucket"], job["key"], job["target"])'
DIGEST = """
import hashlib
with open(job["target"], "rb") as file:
    assert hashlib.file_digest(file, "sha256").hexdigest() == job["receipt"]["sha256"]
"""
RETRIEVE = 'got = store.retrieve(job["key"], Path(job["target"]), receipt={receipt}, cancellation=Cancellation())'
PROGRAMS = {
    BASELINE: TIMED.format(setup=BOTO3, run=DOWNLOAD),
    DIGESTED: TIMED.format(setup=BOTO3, run=DOWNLOAD + DIGEST),
    OURS: TIMED.format(
        setup=DPN, run=RETRIEVE.format(receipt="receipt") + "\nassert 'receipt' in got.verified_by"
    ),
    UNKNOWN: TIMED.format(setup=DPN, run=RETRIEVE.format(receipt="None") + "\nassert got.verified_by"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as folder:
        services = [ROOT / "bin/services", "{}", "--dir", Path(folder) / "services"]
        started = subprocess.run(at(services, "up", "s3"), check=True, capture_output=True, text=True).stdout
        try:
            entry = json.loads(started)["services"]["s3"]
            best = compare(entry, Path(folder), arguments)
        finally:
            subprocess.run(at(services, "down", "--wipe"), check=True, capture_output=True)
    write_results(arguments.json, best)


def at(services: list[Any], command: str, *more: str) -> list[Any]:
    return [services[0], command, *services[2:], *more]


def compare(entry: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> list[Measurement]:
    job = stored(entry, folder, arguments)
    print(f"{arguments.mebibytes} MiB, {arguments.threads} threads, best of {arguments.repeat}")
    best = best_in_turns(PROGRAMS, lambda one: measure(one, job), arguments.repeat)
    print_table(best, "× boto3 throughput", lambda one: best[0].seconds / one.seconds)
    print(f"wanted of {OURS!r}: at least {WANTED}", flush=True)
    return best


def stored(entry: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Stores the object as a node does; returns what each contender is told."""
    from dpn.cancellation import Cancellation
    from dpn.clock import SystemClock
    from dpn.storage.settings import StoreSettings
    from dpn.storage.stores import open_store

    settings = {
        "url": "s3://bags",
        "endpoint_url": entry["endpoint"],
        "region": entry["region"],
        "access_key_id": entry["access_key"],
        "secret_access_key": entry["secret_key"],
        "retrieve_threads": arguments.threads,
    }
    boto3.client(
        "s3",
        endpoint_url=entry["endpoint"],
        region_name=entry["region"],
        aws_access_key_id=entry["access_key"],
        aws_secret_access_key=entry["secret_key"],
    ).create_bucket(Bucket="bags")
    source = folder / "source.tar"
    with source.open("wb") as file:
        file.writelines(os.urandom(MEBIBYTE) for _ in range(arguments.mebibytes))
    sha256 = subprocess.run(["sha256sum", source], check=True, capture_output=True, text=True).stdout[:64]
    receipt = open_store(StoreSettings.model_validate(settings), clock=SystemClock()).put(
        source,
        KEY,
        sha256=sha256,
        metadata={},
        resume=None,
        checkpoint=lambda _: None,
        cancellation=Cancellation(),
    )
    source.unlink()
    return {
        "settings": settings,
        "bucket": "bags",
        "key": KEY,
        "target": str(folder / "retrieved.tar"),
        "receipt": receipt.model_dump(mode="json"),
    }


def measure(contender: str, job: dict[str, Any]) -> Measurement:
    os.sync()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[contender]],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stderr}")
    Path(job["target"]).unlink()
    found = json.loads(done.stdout)
    return Measurement(contender, found["seconds"], found["processor"], found["peak"])


if __name__ == "__main__":
    main()
