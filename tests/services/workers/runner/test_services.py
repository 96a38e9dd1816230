"""A worker asks of its settings only what its stages need, and says what is missing and how to give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from dpn.clock import ManualClock
from dpn.database import open_engine, open_sessions
from dpn.errors import Misconfigured
from dpn.node import OpenNode
from dpn.settings import Settings
from dpn.work.breakers import Breakers
from dpn.work.pipeline import StageSpec
from tests.fixtures.bench import BREAKER_POLICY
from workers.pipelines import PIPELINES, build
from workers.runner.process import open_worker
from workers.runner.services import Services

NEED_NOTHING = {("notice", "tell"), ("recovery", "ask")}
NEED_ONLY_STAGING = {
    ("replication", "copy"),
    ("replication", "validate"),
    ("ingest", "package"),
    ("ingest", "record"),
    ("restore", "deliver"),
    ("recovery", "fetch"),
    ("recovery", "judge"),
}
NEED_ONLY_THE_STORE = {("fixity", "restore-init"), ("restore", "restore-init")}


def services(database_url: str, **tables: Any) -> Services:
    settings = Settings.model_validate(
        {"node": {"namespace": "north"}, "database": {"url": database_url}, **tables}
    )
    engine = open_engine(database_url)
    sessions, clock = open_sessions(engine), ManualClock()
    node = OpenNode(settings, Path("node.toml"), engine, sessions, clock, structlog.stdlib.get_logger())
    breakers = Breakers(sessions, BREAKER_POLICY, clock=clock, jitter=lambda: 0.5)
    return Services(node, pipelines=PIPELINES, breakers=breakers)


@pytest.mark.parametrize("spec", PIPELINES.all_specs(), ids=lambda spec: f"{spec.task}-{spec.name}")
def test_what_a_stage_needs_is_asked_for_by_its_name_and_nothing_else_is(
    spec: StageSpec, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "staging").mkdir()
    (tmp_path / "store").mkdir()
    staging = {"volumes": {"main": str(tmp_path / "staging")}}
    store = {"url": (tmp_path / "store").as_uri()}
    which = (spec.task, spec.name)
    missing = {
        "[staging.volumes] is missing": {"store": store},
        "[store] is missing": {"staging": staging},
    }
    if which in NEED_NOTHING | NEED_ONLY_STAGING:
        del missing["[store] is missing"]
    if which in NEED_NOTHING | NEED_ONLY_THE_STORE:
        del missing["[staging.volumes] is missing"]
    for text, tables in missing.items():
        with pytest.raises(Misconfigured) as refused:
            build(spec, services(sqlite_url, **tables))
        assert text in str(refused.value)
        assert "/srv/dpn/" in str(refused.value), "an example says how to give it"
    needed = {} if which in NEED_NOTHING else {"staging": staging, "store": store}
    if which in NEED_ONLY_STAGING:
        del needed["store"]
    if which in NEED_ONLY_THE_STORE:
        del needed["staging"]
    assert build(spec, services(sqlite_url, **needed)).name == spec.name


@pytest.mark.parametrize("which", [("replication", "copy"), ("recovery", "fetch")])
def test_a_stage_that_fetches_from_peers_asks_for_an_rsync_that_is_new_enough(
    sqlite_url: str, tmp_path: Path, which: tuple[str, str]
) -> None:
    old = tmp_path / "rsync"
    old.write_text("#!/bin/sh\necho 'rsync  version 3.1.3  protocol version 31'\n")
    old.chmod(0o755)
    (spec,) = [spec for spec in PIPELINES.all_specs() if (spec.task, spec.name) == which]
    with pytest.raises(Misconfigured, match=r"transfer\.rsync.*3\.1\.3"):
        build(
            spec, services(sqlite_url, staging={"volumes": {"main": str(tmp_path)}}, transfer={"rsync": str(old)})
        )


def test_a_worker_that_stages_nothing_mounts_nothing(sqlite_url: str, tmp_path: Path) -> None:
    gone = {"volumes": {"main": str(tmp_path / "not there")}}
    used = services(sqlite_url, staging=gone)
    specs = [spec for spec in PIPELINES.all_specs() if (spec.task, spec.name) == ("notice", "tell")]
    stages = {spec: build(spec, used) for spec in specs}
    worker = open_worker(used, stages, name="tell", host="here", concurrency=1, jitter=lambda: 0.5)
    assert worker.free_slots == 1


@pytest.mark.parametrize("name", ["replication-store", "ingest-store", "recovery", "s3-retriever"])
def test_a_store_that_cannot_be_used_now_keeps_no_worker_from_its_start(
    sqlite_url: str, tmp_path: Path, name: str
) -> None:
    """What needs the store waits, with the reason in its note, and goes on by itself."""
    (tmp_path / "staging").mkdir()
    gone = {"url": (tmp_path / "store").as_uri()}
    used = services(sqlite_url, staging={"volumes": {"main": str(tmp_path / "staging")}}, store=gone)
    stages = {spec: build(spec, used) for spec in PIPELINES.all_specs() if spec.worker == name}
    with structlog.testing.capture_logs() as logs:
        worker = open_worker(used, stages, name=name, host="here", concurrency=1, jitter=lambda: 0.5)
    assert worker.free_slots == 1
    told = [log["error"] for log in logs if log["event"] == "the store cannot be used now"]
    assert [gone["url"].removeprefix("file://") in why for why in told] == [True] * (name != "s3-retriever")


def test_a_worker_that_only_reads_writes_nothing_into_the_store(sqlite_url: str, tmp_path: Path) -> None:
    for folder in ("staging", "store"):
        (tmp_path / folder).mkdir()
    used = services(
        sqlite_url,
        staging={"volumes": {"main": str(tmp_path / "staging")}},
        store={"url": (tmp_path / "store").as_uri()},
    )
    stages = {spec: build(spec, used) for spec in PIPELINES.all_specs() if spec.worker == "s3-retriever"}
    open_worker(used, stages, name="s3-retriever", host="here", concurrency=1, jitter=lambda: 0.5)
    assert list((tmp_path / "store").iterdir()) == []
