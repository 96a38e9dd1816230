"""However a test session ends, its servers end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.in_full import some_of

TESTS = Path(__file__).resolve().parents[3]

SLOW_TEST = """
import time
from pathlib import Path

def test_slow(services, shared_services):
    services.up("nsqd")
    shared_services.up("nsqlookupd")
    Path("ready").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("how", some_of([signal.SIGINT, signal.SIGTERM]))
def test_an_ended_session_leaves_no_server_and_no_folder(tmp_path, how):
    (tmp_path / "test_slow.py").write_text(SLOW_TEST)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"PYTHONPATH": str(TESTS), "TMPDIR": str(scratch)}
    for name in ("TEST_SERVICES_DIR", "TEST_SHARED_SERVICES_DIR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir=."]
    with subprocess.Popen(
        [*command, "test_slow.py"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    ) as run:
        while not (tmp_path / "ready").exists():
            assert run.poll() is None
            time.sleep(0.01)
        documents = scratch.glob("dpn-services-*/services.json")
        entries = [json.loads(document.read_text())["services"] for document in documents]
        run.send_signal(how)
    assert sorted(name for started in entries for name in started) == ["nsqd", "nsqlookupd", "nsqlookupd"]
    assert not any(is_running(entry["pid"]) for started in entries for entry in started.values())
    assert not list(scratch.glob("dpn-services-*"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SHARING_TEST = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("number", range(2))
def test_sharing(shared_services, worker_id, number):
    Path(worker_id).write_text(str(shared_services.up("nsqlookupd")["pid"]))
    while not (Path("gw0").exists() and Path("gw1").exists()):
        pass
"""


def test_the_processes_of_a_session_share_a_server_that_ends_with_it(tmp_path):
    (tmp_path / "test_sharing.py").write_text(SHARING_TEST)
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    for name in ("TEST_SERVICES_DIR", "TEST_SHARED_SERVICES_DIR"):
        environment.pop(name, None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
        "-n2",
    ]
    run = subprocess.run(
        [*command, "test_sharing.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    (pid,) = {(tmp_path / worker).read_text() for worker in ("gw0", "gw1")}
    assert not is_running(int(pid))
