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

def test_slow(services):
    services.up("nsqd")
    Path("ready").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("how", some_of([signal.SIGINT, signal.SIGTERM]))
def test_an_ended_session_leaves_no_server_and_no_folder(tmp_path, how):
    (tmp_path / "test_slow.py").write_text(SLOW_TEST)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"PYTHONPATH": str(TESTS), "TMPDIR": str(scratch)}
    environment.pop("TEST_SERVICES_DIR", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir=."]
    with subprocess.Popen(
        [*command, "test_slow.py"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    ) as run:
        while not (tmp_path / "ready").exists():
            assert run.poll() is None
            time.sleep(0.01)
        (document,) = scratch.glob("dpn-services-*/services.json")
        entries = json.loads(document.read_text())["services"]
        run.send_signal(how)
    assert entries.keys() == {"nsqlookupd", "nsqd"}
    assert [entry for entry in entries.values() if is_running(entry["pid"])] == []
    assert not list(scratch.glob("dpn-services-*"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
