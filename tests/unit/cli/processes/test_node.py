"""A node's processes are its server, a worker a stage and cron's jobs; a new pipeline appears by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn.cli.processes.node import JOBS, WorkerSplit, plan, worker_environment
from dpn.errors import Misconfigured
from dpn.settings import Settings
from workers.pipelines import PIPELINES

CONFIG = Path("/etc/dpn/node.toml")


def settings(**tables: object) -> Settings:
    minimal = {
        "node": {"namespace": "south", "api_root": "https://dpn.south.example.org"},
        "database": {"url": "sqlite:////srv/dpn/node.db"},
        "staging": {"volumes": {"main": "/srv/dpn/staging"}},
        "store": {"url": "file:///srv/dpn/store"},
    }
    return Settings.model_validate({**minimal, **tables})


def test_every_stage_has_a_worker_and_the_server_is_stopped_last() -> None:
    found = plan(settings(), CONFIG, workers=WorkerSplit.EACH, environment={})
    server, workers = [[program.name for program in group] for group in found.groups]
    assert server == ["serve"]
    stages = {spec.worker for spec in PIPELINES.all_specs()} - {"tell"}
    assert set(workers) == {f"worker-{stage}" for stage in stages}
    assert {program.arguments[-2:] for program in found.groups[1]} == {("worker", stage) for stage in stages}
    assert [job.program.name for job in found.jobs] == list(JOBS)
    assert found.patience_seconds > settings().work.stop_timeout_seconds


def test_one_worker_may_do_all() -> None:
    found = plan(settings(), CONFIG, workers=WorkerSplit.ALL, environment={})
    assert [program.name for program in found.programs] == ["serve", "worker"]
    assert found.programs[1].arguments[-4:] == ("--config", str(CONFIG), "worker", "all")


def test_what_is_left_out_is_not_there_and_a_wrong_name_is_refused_with_the_right_ones() -> None:
    without = ["serve", "worker-copy", "drill"]
    found = plan(settings(), CONFIG, workers=WorkerSplit.EACH, without=without, environment={})
    names = {program.name for program in found.programs} | {job.program.name for job in found.jobs}
    assert names
    assert not names & set(without)
    with pytest.raises(Misconfigured, match=r"--without copy: .*worker-copy"):
        plan(settings(), CONFIG, workers=WorkerSplit.EACH, without=["copy"], environment={})


def test_output_goes_to_the_folder_of_the_logs_or_where_ours_goes(tmp_path: Path) -> None:
    here = plan(settings(log={"directory": str(tmp_path)}), CONFIG, workers=WorkerSplit.ALL, environment={})
    assert [program.log for program in here.programs] == [tmp_path / "serve.output", tmp_path / "worker.output"]
    assert all(program.environment == {"DPN_LOG__STDERR": "false"} for program in here.programs), "each line once"
    server, _ = plan(settings(), CONFIG, workers=WorkerSplit.ALL, environment={}).programs
    assert (server.log, server.environment) == (None, {})


def test_a_worker_has_the_environment_that_its_unit_would_give_it(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    (tmp_path / "worker-copy.env").write_text("# more\n\nDPN_WORK__CONCURRENCY=4\nDPN_LOG__LEVEL='debug'\n")
    own = {"DPN_WORK__CONCURRENCY": "4", "DPN_LOG__LEVEL": "debug"}
    assert worker_environment(config, "copy") == own
    ours = {"PATH": "/bin", "DPN_WORK__CONCURRENCY": "2", "NOTIFY_SOCKET": "/run/systemd/notify"}
    found = {
        one.name: one for one in plan(settings(), config, workers=WorkerSplit.EACH, environment=ours).programs
    }
    assert found["worker-copy"].environment == {"PATH": "/bin", **own}
    assert found["worker-validate"].environment == {"PATH": "/bin", "DPN_WORK__CONCURRENCY": "2"}


@pytest.mark.parametrize("content", [b"DPN_WORK__CONCURRENCY 4", b"\xff=4"])
def test_an_environment_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worker-copy.env").write_bytes(content)
    with pytest.raises(Misconfigured, match=r"worker-copy\.env: .*: correct it"):
        worker_environment(tmp_path / "node.toml", "copy")
