"""Packaging what lies under an S3 prefix, on a real S3 server: fetched once, continued after a kill, not mixed."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dpn.bags.errors import ClaimRefuted, SourceRefused
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, Misconfigured, SourceChanged, StoreUnavailable
from dpn.packaging.description import Packaged
from dpn.packaging.errors import FetchDamaged, SourceBagInvalid
from dpn.packaging.estimate import estimate
from dpn.packaging.package import package
from dpn.packaging.s3 import connection, listing
from dpn.packaging.settings import DepositS3Settings
from dpn.packaging.unfit import unfit_entries
from dpn.s3 import checksums
from dpn.s3.limits import Retries
from tests.conftest import Bucket
from tests.fixtures.deposits import BAG, described, members, payload
from tests.fixtures.made_bags import bag_files

MEBIBYTE = 1 << 20
QUICK = partial(Retries, first_seconds=0.001)
ROOT = Path(__file__).resolve().parents[4]


class Prefix:
    """Objects of one deposit, and its packaging."""

    def __init__(self, bucket: Bucket, work: Path) -> None:
        self.bucket = bucket
        self.work = work
        self.client = bucket.client()
        self.url = f"s3://{bucket.name}/deposits/one/"

    def put(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self.client.put_object(Bucket=self.bucket.name, Key=f"deposits/one/{name}", Body=content)

    def settings(self, **changes: Any) -> DepositS3Settings:
        fields: dict[str, Any] = {
            "endpoint_url": self.bucket.endpoint,
            "region": self.bucket.region,
            "access_key_id": self.bucket.access_key,
            "secret_access_key": self.bucket.secret_key,
            **changes,
        }
        return DepositS3Settings(**fields)

    def settings_text(self, **changes: Any) -> str:
        """For another process."""
        shown = self.settings(**changes).model_dump(mode="json")
        return json.dumps({**shown, "secret_access_key": self.bucket.secret_key})

    def package(self, cancellation: Cancellation | None = None, **changes: Any) -> Packaged:
        return package(described(self.url), self.work, s3=self.settings(**changes), cancellation=cancellation)


@pytest.fixture
def prefix(s3_bucket: Bucket, tmp_path: Path) -> Prefix:
    (tmp_path / "work").mkdir()
    return Prefix(s3_bucket, tmp_path / "work")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Key and first byte of every object that was asked for."""
    found: list[tuple[str, int]] = []
    really = connection.S3Source.get

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> dict[str, Any]:
        found.append((key, start))
        return really(self, key, etag, start)

    monkeypatch.setattr(connection.S3Source, "get", get)
    return found


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "a.txt": b"first\n",
    "empty": b"",
    "big.bin": noise(5 * MEBIBYTE + 3),
    "caf\u00e9/\u65e5\u672c.txt": b"2",
    "two  spaces/+plus&amp;%41.txt": b"3",
    ".hidden/.file": b"4",
    "deep/" * 20 + "x": b"5",
    **{f"many/{number:03}": noise(number, number) for number in range(150)},
}


def test_a_prefix_comes_back_byte_for_byte_and_nothing_beside_it(prefix: Prefix) -> None:
    prefix.put(FILES)
    prefix.client.put_object(Bucket=prefix.bucket.name, Key="deposits/one-other/x", Body=b"not ours")
    packaged = prefix.package()
    assert payload(packaged.path) == FILES
    assert [path.name for path in prefix.work.iterdir()] == [f"{BAG}.tar"]
    needed = estimate(described(prefix.url), s3=prefix.settings())
    assert needed.source_bytes == sum(map(len, FILES.values()))
    assert packaged.size + needed.source_bytes <= needed.staging_bytes


def test_an_object_of_several_parts_is_fetched_like_any_other(prefix: Prefix) -> None:
    content = noise(11 * MEBIBYTE)
    where = {"Bucket": prefix.bucket.name, "Key": "deposits/one/parts.bin"}
    upload = prefix.client.create_multipart_upload(**where)["UploadId"]
    parts = []
    for number, start in ((1, 0), (2, 6 * MEBIBYTE)):
        body = content[start : 6 * MEBIBYTE * number]
        answer = prefix.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
        parts.append({"ETag": answer["ETag"], "PartNumber": number})
    prefix.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert payload(prefix.package().path) == {"parts.bin": content}


KILLED = """
import os, signal, sys
from pathlib import Path
import dpn.packaging.s3.fetch as fetching
from dpn.packaging.package import package
from dpn.packaging.settings import DepositS3Settings
from dpn.s3 import checksums
from dpn.s3.limits import Retries
from tests.fixtures.deposits import described
url, work, settings, at = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
really = fetching.Fetch._check
def check(self):
    if self._bytes >= at:
        os.kill(os.getpid(), signal.SIGKILL)
    really(self)
fetching.Fetch._check = check
package(described(url), work, s3=DepositS3Settings.model_validate_json(settings))
"""


def killed_after(prefix: Prefix, bytes_fetched: int) -> None:
    settings = prefix.settings_text(fetch_threads=1)
    command = [sys.executable, "-c", KILLED, prefix.url, prefix.work, settings, str(bytes_fetched)]
    died = subprocess.run(command, check=False, cwd=ROOT)
    assert died.returncode == -signal.SIGKILL


LARGE = {"a": noise(3 * MEBIBYTE, 1), "b": noise(20 * MEBIBYTE, 2), "c": noise(MEBIBYTE, 3)}


def test_killed_while_it_fetches_it_goes_on_where_it_was(prefix: Prefix, asked: list[tuple[str, int]]) -> None:
    prefix.put(LARGE)
    killed_after(prefix, 12 * MEBIBYTE)
    packaged = prefix.package()
    assert payload(packaged.path) == LARGE
    starts = dict(asked)
    assert "a" not in starts
    assert starts["b"] > 8 * MEBIBYTE
    assert starts["c"] == 0
    assert [path.name for path in prefix.work.iterdir()] == [f"{BAG}.tar"]


def test_bytes_half_fetched_before_the_machine_went_down_are_not_believed(
    prefix: Prefix, asked: list[tuple[str, int]]
) -> None:
    prefix.put(LARGE)
    killed_after(prefix, 12 * MEBIBYTE)
    (prefix.work / "fetched/boot").write_text("another start of the machine")
    assert payload(prefix.package().path) == LARGE
    assert ("b", 0) in asked


def test_an_object_replaced_between_kill_and_restart_is_noticed_never_mixed(prefix: Prefix) -> None:
    prefix.put(LARGE)
    killed_after(prefix, 12 * MEBIBYTE)
    changed = {**LARGE, "b": noise(20 * MEBIBYTE, 9)}
    prefix.put({"b": changed["b"]})
    with pytest.raises(SourceChanged):
        prefix.package()
    assert list(prefix.work.iterdir()) == []
    assert payload(prefix.package().path) == changed


def _replace(prefix: Prefix) -> None:
    prefix.put({"c": b"another"})


def _remove(prefix: Prefix) -> None:
    prefix.client.delete_object(Bucket=prefix.bucket.name, Key="deposits/one/a")


def _add(prefix: Prefix) -> None:
    prefix.put({"d": b"late"})


@pytest.mark.parametrize("change", [_replace, _remove, _add])
def test_a_prefix_that_changes_while_it_is_fetched_is_begun_again(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch, change: Callable[[Prefix], None]
) -> None:
    prefix.put(LARGE)
    really, todo = connection.S3Source.get, [change]

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> dict[str, Any]:
        answer = really(self, key, etag, start)
        if todo and key == "b":
            todo.pop()(prefix)
        return answer

    monkeypatch.setattr(connection.S3Source, "get", get)
    with pytest.raises(SourceChanged):
        prefix.package(fetch_threads=1)
    assert list(prefix.work.iterdir()) == []
    now = prefix.client.list_objects_v2(Bucket=prefix.bucket.name, Prefix="deposits/one/")["Contents"]
    names = {one["Key"].rpartition("/")[2] for one in now}
    assert set(payload(prefix.package().path)) == names


class Broken:
    """An answer that ends early, as a connection does that breaks off."""

    def __init__(self, body: Any, after: int) -> None:
        self._body = body
        self._left = after

    def read(self, size: int) -> bytes:
        data: bytes = self._body.read(min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._body.close()


def test_an_answer_that_ends_early_is_continued_never_taken_for_whole(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix.put(LARGE)
    really, starts = connection.S3Source.get, []

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> dict[str, Any]:
        answer = really(self, key, etag, start)
        if key == "b":
            starts.append(start)
            answer["Body"] = Broken(answer["Body"], 7 * MEBIBYTE)
        return answer

    monkeypatch.setattr(connection.S3Source, "get", get)
    assert payload(prefix.package().path) == LARGE
    assert starts == [0, 7 * MEBIBYTE, 14 * MEBIBYTE]


def test_a_server_that_ignores_ranges_makes_no_doubled_file(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix.put(LARGE)
    killed_after(prefix, 12 * MEBIBYTE)
    really = connection.S3Source.get
    monkeypatch.setattr(connection.S3Source, "get", lambda self, key, etag, start: really(self, key, etag, 0))
    assert payload(prefix.package().path) == LARGE


CHECKSUMS = [
    ("CRC64NVME", "FULL_OBJECT"),
    ("CRC32", "FULL_OBJECT"),
    ("CRC32C", "FULL_OBJECT"),
    ("SHA256", "COMPOSITE"),
    ("CRC32", "COMPOSITE"),
    (None, None),
]
OF_WHOLE = [(algorithm, kind) for algorithm, kind in CHECKSUMS if kind == "FULL_OBJECT"]


def put_in_parts(prefix: Prefix, name: str, content: bytes, algorithm: str | None, kind: str | None) -> None:
    """Its entity tag is no MD5; it has the checksum that is asked for, and no other."""
    where = {"Bucket": prefix.bucket.name, "Key": f"deposits/one/{name}"}
    client = prefix.bucket.client()
    client.meta.config.request_checksum_calculation = "when_required"
    asked = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    upload = client.create_multipart_upload(**where, **asked, **({"ChecksumType": kind} if kind else {}))
    parts = []
    for number, start in enumerate(range(0, len(content), 5 * MEBIBYTE), 1):
        body = content[start : start + 5 * MEBIBYTE]
        part = client.upload_part(**where, **asked, UploadId=upload["UploadId"], PartNumber=number, Body=body)
        checksum = {key: value for key, value in part.items() if key == f"Checksum{algorithm}"}
        parts.append({"ETag": part["ETag"], "PartNumber": number, **checksum})
    client.complete_multipart_upload(**where, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts})


def flipped(path: Path, at: int = 1000) -> None:
    """A bit of it, which no size shows."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize(("algorithm", "kind"), CHECKSUMS)
def test_an_object_in_parts_is_proven_by_what_is_claimed_of_the_whole_and_by_nothing_else(
    prefix: Prefix, asked: list[tuple[str, int]], algorithm: str | None, kind: str | None
) -> None:
    """Fetched in two pieces, by two processes."""
    put_in_parts(prefix, "b", LARGE["b"], algorithm, kind)
    killed_after(prefix, 12 * MEBIBYTE)
    assert payload(prefix.package().path) == {"b": LARGE["b"]}
    assert [start > 8 * MEBIBYTE for _, start in asked] == [True]


@pytest.mark.parametrize(("algorithm", "kind"), OF_WHOLE)
def test_what_was_half_fetched_and_rotted_is_fetched_again_however_its_checksum_is_called(
    prefix: Prefix,
    asked: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    kind: str,
) -> None:
    monkeypatch.setattr("dpn.s3.connection.Retries", QUICK)
    put_in_parts(prefix, "b", LARGE["b"], algorithm, kind)
    killed_after(prefix, 12 * MEBIBYTE)
    flipped(next((prefix.work / "fetched/partial").iterdir()))
    assert payload(prefix.package().path) == {"b": LARGE["b"]}
    assert [start == 0 for _, start in asked] == [False, True]


@pytest.mark.parametrize(("algorithm", "kind"), OF_WHOLE)
def test_what_was_damaged_on_its_way_after_the_connection_broke_is_fetched_again(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch, algorithm: str, kind: str
) -> None:
    monkeypatch.setattr("dpn.s3.connection.Retries", QUICK)
    put_in_parts(prefix, "b", LARGE["b"], algorithm, kind)
    really, starts = connection.S3Source.get, []

    class Damaging(Broken):
        def read(self, size: int) -> bytes:
            return super().read(size).replace(LARGE["b"][9 * MEBIBYTE :][:8], b"damaged!")

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> dict[str, Any]:
        answer = really(self, key, etag, start)
        starts.append(start)
        if len(starts) <= 2:
            answer["Body"] = (Damaging if start else Broken)(answer["Body"], (13 if start else 7) * MEBIBYTE)
        return answer

    monkeypatch.setattr(connection.S3Source, "get", get)
    assert payload(prefix.package().path) == {"b": LARGE["b"]}
    assert starts == [0, 7 * MEBIBYTE, 0]


def test_of_a_long_fetch_that_breaks_off_often_each_byte_is_reckoned_once(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_parts(prefix, "b", LARGE["b"], "CRC64NVME", "FULL_OBJECT")
    really_get, really_update, reckoned = connection.S3Source.get, checksums.RunningDigests.update, [0]

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> dict[str, Any]:
        answer = really_get(self, key, etag, start)
        return {**answer, "Body": Broken(answer["Body"], 3 * MEBIBYTE)}

    def update(self: checksums.RunningDigests, data: bytes) -> None:
        reckoned[0] += len(data)
        really_update(self, data)

    monkeypatch.setattr("dpn.s3.connection.Retries", QUICK)
    monkeypatch.setattr(connection.S3Source, "get", get)
    monkeypatch.setattr(checksums.RunningDigests, "update", update)
    assert payload(prefix.package().path) == {"b": LARGE["b"]}
    assert reckoned == [len(LARGE["b"])]


@pytest.mark.parametrize(("algorithm", "kind"), [*OF_WHOLE, (None, None)])
def test_what_rots_between_fetch_and_bag_is_fetched_again(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch, algorithm: str | None, kind: str | None
) -> None:
    """Also if its source claims nothing of it."""
    put_in_parts(prefix, "b", LARGE["b"], algorithm, kind)
    really = listing.Listing.compare

    def compare(*arguments: Any) -> None:
        really(*arguments)
        flipped(prefix.work / "fetched/objects/b")

    with monkeypatch.context() as patched:
        patched.setattr(listing.Listing, "compare", compare)
        with pytest.raises(FetchDamaged, match="is not what was fetched"):
            prefix.package()
    assert payload(prefix.package().path) == {"b": LARGE["b"]}


@pytest.mark.parametrize(("algorithm", "kind"), OF_WHOLE)
def test_a_named_file_of_which_nothing_was_noted_is_proven_before_it_is_believed(
    prefix: Prefix, asked: list[tuple[str, int]], algorithm: str, kind: str
) -> None:
    put_in_parts(prefix, "a", LARGE["a"], algorithm, kind)
    put_in_parts(prefix, "a2", LARGE["a"], algorithm, kind)
    put_in_parts(prefix, "b", LARGE["b"], algorithm, kind)
    killed_after(prefix, 14 * MEBIBYTE)
    flipped(prefix.work / "fetched/objects/a")
    assert payload(prefix.package().path) == {"a": LARGE["a"], "a2": LARGE["a"], "b": LARGE["b"]}
    assert ("a", 0) in asked
    assert "a2" not in dict(asked)


def test_a_manifest_that_rots_before_it_is_read_is_our_fault_not_the_depositors(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a": b"1", "b": b"2"}
    prefix.put({**files, "manifest-sha256.txt": manifest(files, "sha256")})
    really = listing.Listing.compare

    def compare(*arguments: Any) -> None:
        really(*arguments)
        flipped(prefix.work / "fetched/objects/manifest-sha256.txt", 10)

    with monkeypatch.context() as patched:
        patched.setattr(listing.Listing, "compare", compare)
        with pytest.raises(FetchDamaged, match="manifest-sha256"):
            prefix.package()
    assert {name: members(prefix.package().path)[f"data/{name}"] for name in files} == files


def manifest(files: dict[str, bytes], algorithm: str) -> bytes:
    lines = (f"{hashlib.new(algorithm, content).hexdigest()}  {name}\n" for name, content in files.items())
    return "".join(lines).encode()


def test_a_manifest_beside_the_objects_is_held_against_them_and_kept(prefix: Prefix) -> None:
    files = {"a.txt": b"first\n", "caf\u00e9/b.bin": noise(2 * MEBIBYTE)}
    texts = {f"manifest-{algorithm}.txt": manifest(files, algorithm) for algorithm in ("md5", "sha256", "sha512")}
    prefix.put({**files, **texts})
    found = members(prefix.package().path)
    assert {name: found[f"data/{name}"] for name in files} == files
    assert {name: found[f"source-tags/{name}"] for name in texts} == texts
    assert not any(name.startswith("data/manifest") for name in found)


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"b": b"other"}, ClaimRefuted, r"s3://.*/deposits/one/b is not what its source claims: sha256"),
        ({"more": b"unlisted"}, SourceRefused, "not listed in the manifest: 'more'"),
        ({"manifest-sha256.txt": b"0" * 64 + b"  gone\n"}, SourceRefused, "not there: 'gone'"),
        ({"manifest-sha256.txt": b"rubbish"}, SourceRefused, "line 1"),
        ({"manifest-sha256.txt": b"0" * 32 + b"  a\n"}, SourceRefused, "line 1"),
        ({"manifest-md5.txt": b"0" * 32 + b"  a\n"}, ClaimRefuted, "md5"),
    ],
)
def test_what_contradicts_its_manifest_is_refused(
    prefix: Prefix, changes: dict[str, bytes], error: type[Exception], complaint: str
) -> None:
    files = {"a": b"1", "b": b"2"}
    prefix.put({**files, "manifest-sha256.txt": manifest(files, "sha256"), **changes})
    with pytest.raises(error, match=complaint):
        prefix.package()
    assert not (prefix.work / f"{BAG}.tar").exists()


def test_a_bag_under_a_prefix_is_held_against_its_own_manifests(prefix: Prefix) -> None:
    files = bag_files(algorithms=("md5", "sha512"))
    prefix.put(files)
    found = members(prefix.package().path)
    for name, content in files.items():
        assert found[name if name.startswith("data/") else f"source-tags/{name}"] == content


def test_an_invalid_bag_under_a_prefix_is_refused(prefix: Prefix) -> None:
    prefix.put({**bag_files(), "data/a.txt": b"changed"})
    with pytest.raises(SourceBagInvalid, match=r"s3://.*payload-checksum-mismatch"):
        prefix.package()


def test_names_that_differ_in_case_or_unicode_form_only_are_refused(prefix: Prefix) -> None:
    prefix.put({"Read.me": b"1", "read.ME": b"2", "caf\u00e9": b"3", "cafe\u0301": b"4"})
    with pytest.raises(SourceRefused, match="differs from it only in case") as refused:
        prefix.package()
    assert all(name in str(refused.value) for name in ("Read.me", "read.ME", "caf\u00e9"))


def test_folder_markers_are_folders(prefix: Prefix) -> None:
    prefix.put({"": b"", "folder/": b"", "empty folder/": b"", "folder/x": b"1"})
    assert payload(prefix.package().path) == {"folder/x": b"1"}


def test_an_empty_prefix_is_refused(prefix: Prefix) -> None:
    with pytest.raises(SourceRefused, match="no object under"):
        prefix.package()


def test_a_bucket_that_is_not_there_is_the_depositors_affair(prefix: Prefix) -> None:
    with pytest.raises(SourceRefused, match="no such bucket"):
        package(described("s3://no-such-bucket-here/x/"), prefix.work, s3=prefix.settings())


def test_wrong_credentials_are_the_operators_affair(prefix: Prefix) -> None:
    prefix.put({"a": b"1"})
    with pytest.raises(Misconfigured, match=r"ingest\.s3"):
        prefix.package(secret_access_key="wrong")


def test_a_server_that_is_away_is_waited_for_under_its_own_name(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpn.s3.connection.Retries", QUICK)
    with pytest.raises(StoreUnavailable) as away:
        prefix.package(endpoint_url="http://127.0.0.1:9")
    assert away.value.service == f"source:{prefix.bucket.name}"


def test_a_cancelled_fetch_ends_within_a_second_and_goes_on_later(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix.put(LARGE)
    cancellation, stalled = Cancellation(), threading.Event()

    class Stalling(Broken):
        def read(self, size: int) -> bytes:
            if data := super().read(size):
                return data
            cancellation.cancel(Interrupted("stop"))
            stalled.wait(30)
            return b""

    really = connection.S3Source.get

    def get(self: connection.S3Source, key: str, etag: str, start: int) -> dict[str, Any]:
        answer = really(self, key, etag, start)
        answer["Body"] = Stalling(answer["Body"], 2 * MEBIBYTE)
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(connection.S3Source, "get", get)
        begin = time.monotonic()
        with pytest.raises(Interrupted):
            prefix.package(cancellation, fetch_threads=2)
        assert time.monotonic() - begin < 5
    stalled.set()
    assert payload(prefix.package().path) == LARGE


def test_memory_does_not_grow_with_an_object(prefix: Prefix) -> None:
    prefix.put({"big": bytes(150 * MEBIBYTE)})
    code = (
        "import re, sys; from tests.services.workers.ingest.test_package import *; "
        "settings = DepositS3Settings.model_validate_json(sys.argv[3]); "
        "Path('/proc/self/clear_refs').write_text('5'); "  # else the peak begins with that of this process
        "package(described(sys.argv[1]), Path(sys.argv[2]), s3=settings); "
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", code, prefix.url, prefix.work, prefix.settings_text()]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert int(done.stdout) / 1024 < 130


def test_every_key_that_no_bag_can_hold_is_told_before_anything_is_fetched(
    prefix: Prefix, asked: list[tuple[str, int]]
) -> None:
    prefix.put(
        {"good": b"1", "blank /b": b"2", "end ": b"3", "two\u2028lines": b"4", "Twice": b"5", "twice": b"6"}
    )
    found = list(unfit_entries(prefix.url, as_is=False, s3=prefix.settings()))
    assert [one.where.removeprefix(prefix.url) for one in found] == ["end ", "two\\u2028lines", "Twice", "twice"]
    assert asked == []
