"""`dpn fixity check`, `repair` and `history`: what an operator can have done about one copy, and read of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dpn.cli.main import app
from dpn.work.items import cancel_item, retry_item
from models.work import WorkItem
from tests.conftest import Services
from tests.services.workers.recovery.repair_bench import BAG, POLL_SECONDS, RepairBench, repair_bench
from tools.network.toml_text import to_toml
from workers.pipelines import PIPELINES


@pytest.fixture
def north(tmp_path: Path, sqlite_url: str, services: Services) -> Any:
    with repair_bench(tmp_path, services.up("rsyncd"), database_url=sqlite_url, repair=False) as north:
        yield north


@pytest.fixture
def config(north: RepairBench, tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    settings = north.settings
    file.write_text(
        to_toml(
            {
                "node": {"namespace": "north", "api_root": "https://north.example.org"},
                "database": {"url": settings.database.address()},
                "staging": {"volumes": {"main": str(settings.staging.volumes["main"])}},
                "store": {"url": settings.store.url},
            }
        )
    )
    return file


def work_off(north: RepairBench, item_id: int) -> WorkItem:
    """The commands go by the system's clock, north's workers by one that stands still."""
    north.clock.advance(3600)
    return north.settle(item_id)


def fixity(config: Path, *words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["--config", str(config), "fixity", *words])
    return result.exit_code, result.stdout, str(result.exception or "")


def test_a_repair_that_is_asked_for_takes_over_from_the_check_and_is_one_however_often_asked(
    north: RepairBench, config: Path
) -> None:
    north.spoil("bit flip in the payload")
    found = north.find_bad()
    assert found.needs_attention
    for _ in range(2):
        code, out, _error = fixity(config, "repair", BAG, "--json")
        assert code == 0
        told = json.loads(out)
        assert (told["identifier"], told["status"]) == (found.identifier, "pending")
    assert north.repairs() == 1
    assert not north.item(found.id).needs_attention, "the repair sees to it"
    work_off(north, told["item"])
    north.holders["south"].offer()
    north.go_on()
    north.expect_repaired()
    code, out, _error = fixity(config, "history", BAG, "--json")
    events = [(event["event"], event["outcome"]) for event in json.loads(out)]
    assert events[0] == ("fixity check", "failure")
    assert ("copy replaced", "success") in events
    assert events[-1] == ("fixity check", "success")
    assert "copy replaced" in fixity(config, "history", BAG)[1]


def test_a_repair_of_what_was_repaired_in_vain_takes_over_from_the_check_after_it(
    north: RepairBench, config: Path
) -> None:
    north.spoil("truncated")
    north.find_bad()
    fixity(config, "repair", BAG)
    work_off(north, north.repair().id)
    north.holders["south"].offer()
    north.clock.advance(POLL_SECONDS + 1)
    for _ in range(20):
        if north.recovery().check_item is None:
            north.run_due(most=1)
    north.spoil("bit flip in the payload")
    again = work_off(north, north.last_check().id)
    assert (again.status, again.needs_attention) == ("failed", True), again.note
    code, out, _error = fixity(config, "repair", BAG, "--json")
    assert (code, north.repairs()) == (0, 2)
    assert json.loads(out)["identifier"] == north.manifest(again.id).check_id != again.identifier
    assert not north.item(again.id).needs_attention


def test_a_copy_that_nothing_is_known_against_is_only_repaired_by_force(north: RepairBench, config: Path) -> None:
    code, _out, error = fixity(config, "repair", BAG)
    assert (code, north.repairs()) == (1, 0)
    assert "was never checked" in error
    assert "--force" in error
    assert fixity(config, "repair", BAG, "--force")[0] == 0
    assert north.recovery().found_at is None, "nothing has read it and found it bad"
    work_off(north, north.repair().id)
    north.holders["south"].offer()
    assert "was good when it was to be replaced" in north.go_on().note


def test_a_repair_that_has_ended_badly_is_named_and_not_made_anew(north: RepairBench, config: Path) -> None:
    north.spoil("truncated")
    north.find_bad()
    fixity(config, "repair", BAG)
    item = north.repair()
    with north.sessions.begin() as session:
        cancel_item(session, item.id, reason="later", operator="me", pipelines=PIPELINES, clock=north.clock)
    code, _out, error = fixity(config, "repair", BAG)
    assert (code, north.repairs()) == (1, 1)
    assert f"`dpn item retry {item.id}`" in error
    with north.sessions.begin() as session:
        retry_item(session, item.id, operator="me", pipelines=PIPELINES, clock=north.clock)
    assert fixity(config, "repair", BAG)[0] == 0


def test_a_check_that_is_asked_for_begins_at_once_and_one_at_a_time(north: RepairBench, config: Path) -> None:
    code, out, _error = fixity(config, "check", BAG, "--json")
    assert code == 0
    first = json.loads(out)["item"]
    assert json.loads(fixity(config, "check", BAG, "--json")[1])["item"] == first
    assert work_off(north, first).status == "success"
    assert [check.success for check in north.records()] == [True]
    assert json.loads(fixity(config, "check", BAG, "--json")[1])["item"] != first


@pytest.mark.parametrize("is_bad", [True, False])
def test_only_what_a_check_has_found_bad_is_said_to_have_been_read(
    north: RepairBench, config: Path, is_bad: bool
) -> None:
    if is_bad:
        north.spoil("truncated")
    north.check()
    fixity(config, "repair", BAG, "--force")
    assert north.copy().checked_at is not None
    assert north.recovery().found_at == (north.copy().checked_at if is_bad else None)


@pytest.mark.parametrize("command", ["check", "repair"])
def test_a_bag_that_we_do_not_keep_is_said_to_be_so(config: Path, command: str) -> None:
    code, _out, error = fixity(config, command, "11111111-1111-4111-8111-111111111111")
    assert code == 1
    assert "we keep no copy of bag" in error
