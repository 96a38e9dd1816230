"""Where a store's bucket is, by its settings; and that nothing is loaded or asked before it must be."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpn.s3.connection import bucket_and_prefix
from dpn.storage.s3.connection import connect
from dpn.storage.settings import StoreSettings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bags", ("bags", "")),
        ("s3://bags/", ("bags", "")),
        ("s3://bags/a/b", ("bags", "a/b/")),
        ("s3://bags//a/", ("bags", "a/")),
    ],
)
def test_a_prefix_is_empty_or_ends_in_one_slash(url: str, expected: tuple[str, str]) -> None:
    assert bucket_and_prefix(url) == expected


def test_opening_a_store_asks_nothing_of_it_and_needs_no_credentials() -> None:
    settings = StoreSettings(url="s3://bags", endpoint_url="http://127.0.0.1:1")

    assert connect(settings, time.monotonic, None, None).service == "store:main"


def test_a_folder_store_needs_no_boto3(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dpn.clock import SystemClock; from dpn.storage.settings import StoreSettings;"
        "from dpn.storage.stores import open_store;"
        f"open_store(StoreSettings(url={tmp_path.as_uri()!r}), clock=SystemClock()).probe();"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules or 'awscrt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
