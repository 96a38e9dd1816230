"""Several of cron's jobs in one process: each as if by itself, whatever became of the one before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PEER_THAT_IS_DOWN = """
[peers.north]
api_root = "http://127.0.0.1:9"
token = "x"
rsync.hosts = ["127.0.0.1"]
"""


def cron(config: Path, *jobs: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-P", "-m", "dpn.cli.main", "cron", *jobs, "--config", str(config))
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_jobs_run_one_after_the_other_with_the_log_of_each(config: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    config.write_text(config.read_text() + f'[log]\ndirectory = "{logs}"\n')
    done = cron(config, "sync", "queue")
    assert done.returncode == 0, done.stderr
    assert "0 items made" in done.stdout
    assert (logs / "dpn_queue.json").exists()


def test_a_job_that_fails_fails_the_whole_and_the_others_run_all_the_same(config: Path) -> None:
    config.write_text(config.read_text() + PEER_THAT_IS_DOWN)
    done = cron(config, "sync", "queue")
    assert done.returncode == 1
    assert done.stdout.index("north") < done.stdout.index("0 items made")


@pytest.mark.parametrize(
    ("jobs", "problem"), [(["sync", "dance"], "no job 'dance': choose of sync, "), ([], "JOB")]
)
def test_a_job_that_is_not_there_is_named_before_any_is_run(config: Path, jobs: list[str], problem: str) -> None:
    done = cron(config, *jobs)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr


def test_what_ends_one_job_in_an_error_is_told_after_the_others(config: Path, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"no database" * 1000)
    config.write_text(config.read_text().replace("/node.db", "/text.db"))
    done = cron(config, "sync", "queue")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("dpn: the database cannot be read")
