"""A process that is killed while it sends: the next one goes on where it was. And how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpn.clock import ManualClock
from dpn.storage.settings import StoreSettings
from models.manifests import Receipt, UploadState
from tests.services.storage.conftest import METADATA, PART_BYTES, StagedBag, s3_settings, s3_store
from tests.services.storage.s3_proxy import Fault, Proxy, Request

Stage = Callable[[int], StagedBag]
MEGABYTE = 1024 * 1024

UPLOADER = """
import json, pathlib, sys
import sqlalchemy.orm
from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.storage.settings import StoreSettings
from dpn.storage.stores import open_store

job = json.load(sys.stdin)
state = pathlib.Path(job["state"])

def checkpoint(upload):
    state.write_text(upload.model_dump_json() if upload else "null")

store = open_store(StoreSettings.model_validate(job["settings"]), clock=SystemClock())
receipt = store.put(
    pathlib.Path(job["source"]), job["key"], sha256=job["sha256"], metadata=job["metadata"],
    resume=None, checkpoint=checkpoint, cancellation=Cancellation(),
)
# Not getrusage's: that begins with what the parent had when it forked.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(receipt.confirmed_by, int(peak.split()[1]) // 1024)
"""


def uploader(bag: StagedBag, settings: StoreSettings, state: Path, sha256: str) -> subprocess.Popen[str]:
    """A process of its own that stores the bag; it keeps its upload's state in a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", UPLOADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    values = settings.model_dump(mode="json", exclude_none=True)
    values["secret_access_key"] = settings.secret()
    job = {
        "source": str(bag.path),
        "key": bag.key,
        "sha256": sha256,
        "metadata": METADATA,
        "settings": values,
        "state": str(state),
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    return process


def test_an_upload_killed_amid_its_parts_sends_only_those_that_are_missing(
    s3_bucket: Any, proxy: Proxy, stage: Stage, tmp_path: Path, clock: ManualClock
) -> None:
    bag = stage(8 * PART_BYTES)
    settings = s3_settings(s3_bucket, endpoint_url=proxy.endpoint, read_timeout_seconds=60)
    missing = {6, 7, 8}
    with holding_back(proxy, lambda request: request.part in missing):
        process = uploader(bag, settings, tmp_path / "upload.json", bag.sha256)
        proxy.wait_until(lambda: {1, 2, 3, 4, 5} <= set(of_bag(proxy)) and held_back(proxy, bag, missing))
        kill(process)
    bag.checkpoints.append(saved(tmp_path / "upload.json"))

    receipt = put_in_a_new_process(bag, settings, proxy, clock)

    assert sorted(proxy.parts_stored) == sorted(missing)
    assert proxy.sent_bytes == len(missing) * PART_BYTES
    assert receipt.sha256 == bag.sha256
    assert_one_object_and_no_upload(s3_bucket)


def test_an_upload_killed_before_its_object_became_visible_sends_no_part_again(
    s3_bucket: Any, proxy: Proxy, stage: Stage, tmp_path: Path, clock: ManualClock
) -> None:
    bag = stage(3 * PART_BYTES)
    settings = s3_settings(s3_bucket, endpoint_url=proxy.endpoint, read_timeout_seconds=60)
    with holding_back(proxy, lambda request: request.completes and bag.key in request.key):
        process = uploader(bag, settings, tmp_path / "upload.json", bag.sha256)
        proxy.wait_until(lambda: proxy.count(lambda request: request.completes and bag.key in request.key) > 0)
        kill(process)
    bag.checkpoints.append(saved(tmp_path / "upload.json"))

    receipt = put_in_a_new_process(bag, settings, proxy, clock)

    assert proxy.sent_bytes == 0
    assert receipt.sha256 == bag.sha256
    assert_one_object_and_no_upload(s3_bucket)


def test_an_upload_killed_after_its_object_became_visible_gets_its_receipt_without_sending(
    s3_bucket: Any, proxy: Proxy, stage: Stage, tmp_path: Path, clock: ManualClock
) -> None:
    bag = stage(3 * PART_BYTES)
    settings = s3_settings(s3_bucket, endpoint_url=proxy.endpoint, read_timeout_seconds=60)
    with holding_back(proxy, lambda r: r.completes and bag.key in r.key, lose_answer=True):
        process = uploader(bag, settings, tmp_path / "upload.json", bag.sha256)
        proxy.wait_until(lambda: any(bag.key in key for key in proxy.completed))
        kill(process)
    bag.checkpoints.append(saved(tmp_path / "upload.json"))

    receipt = put_in_a_new_process(bag, settings, proxy, clock)

    assert proxy.sent_bytes == 0
    assert receipt.sha256 == bag.sha256
    assert bag.upload is None
    assert_one_object_and_no_upload(s3_bucket)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_bag(s3_bucket: Any, tmp_path: Path) -> None:
    peaks = {}
    settings = s3_settings(s3_bucket, part_size_bytes=64 * MEGABYTE, upload_threads=4, read_timeout_seconds=60)
    for size in (1 * MEGABYTE, 1024 * MEGABYTE):
        bag = StagedBag(tmp_path / f"{size}.tar")
        with bag.path.open("wb") as file:
            file.truncate(size)
        sha256 = subprocess.run(["sha256sum", bag.path], capture_output=True, text=True, check=True).stdout[:64]
        with uploader(bag, settings, tmp_path / "upload.json", sha256) as process:
            assert process.stdout is not None
            peaks[size] = int(process.stdout.read().split()[1])
        bag.path.unlink()

    small, large = peaks.values()
    assert large < 120, "MB; a worker has 150 in all"
    assert large - small < 25


@contextmanager
def holding_back(proxy: Proxy, when: Callable[[Request], bool], *, lose_answer: bool = False) -> Iterator[None]:
    """Requests of this kind get no answer while the block runs."""
    release = threading.Event()
    proxy.faults.append(Fault(when, hang=release, lose_answer=lose_answer))
    try:
        yield
    finally:
        release.set()


def held_back(proxy: Proxy, bag: StagedBag, parts: set[int]) -> bool:
    return proxy.count(lambda request: request.part in parts and bag.key in request.key) > 0


def of_bag(proxy: Proxy) -> list[int]:
    """The bag's parts that are stored; the probe's part 1 came before them."""
    return proxy.parts_stored[1:]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def saved(path: Path) -> UploadState:
    """What the killed process had put into the database."""
    return UploadState.model_validate_json(path.read_text())


def put_in_a_new_process(bag: StagedBag, settings: StoreSettings, proxy: Proxy, clock: ManualClock) -> Receipt:
    store = s3_store(settings, clock)
    store.probe()
    proxy.forget()
    return bag.put(store)


def assert_one_object_and_no_upload(bucket: Any) -> None:
    client = bucket.client()
    # The killed process had its probe removed: what is there is the bag.
    assert client.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 1
    assert client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []
