"""A store that keeps files: our copy is judged where it lies; what is wrong with it is found and recorded."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import dpn.bags.validation.verdict
from dpn.registry.wire import utc_second
from dpn.staging.staging import Staging
from dpn.work.items import retry_item
from models.work import Status
from tests.services.workers.fixity.checking import BAG, KEY, MISFORTUNES, Checker, damage, make_checker
from workers.pipelines import PIPELINES

MakeChecker = Callable[..., Checker]


@pytest.fixture
def make(tmp_path: Path, sqlite_url: str) -> MakeChecker:
    def made(**changes: Any) -> Checker:
        return make_checker(tmp_path, database_url=sqlite_url, **changes)

    return made


@pytest.fixture
def north(make: MakeChecker) -> Checker:
    return make()


def stored(north: Checker) -> Path:
    return Path(north.receipt.url.removeprefix("file://"))


def spoil(north: Checker, how: str) -> None:
    path = stored(north)
    content = damage(path.read_bytes(), how)
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def test_a_good_copy_is_read_where_it_lies_and_recorded(north: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is copied")

    monkeypatch.setattr(Staging, "reserve_room", no_room)
    item = north.check()
    assert (item.status, item.stage, item.needs_attention) == (Status.SUCCESS, "check", False)
    (check,) = north.records()
    assert (check.fixity_check_id, check.bag, check.node, check.success) == (item.identifier, BAG, "north", True)
    assert check.fixity_at <= check.created_at == utc_second(north.clock.now())
    copy = north.copy()
    assert (copy.outcome, copy.checked_at) == ("good", north.clock.now())
    assert copy.due_at == north.clock.now() + timedelta(days=730)
    (event,) = north.events(item.id)
    assert (event.outcome, event.object_id) == ("success", BAG)
    assert (event.detail["read"], event.detail["validation"]["sha256"]) == ("in place", north.receipt.sha256)


@pytest.mark.parametrize("how", MISFORTUNES)
def test_whatever_happens_to_a_copy_is_found_and_recorded(north: Checker, how: str) -> None:
    spoil(north, how)
    item = north.check()
    assert (item.status, item.needs_attention) == (Status.FAILED, True)
    (check,) = north.records()
    assert (check.fixity_check_id, check.success) == (item.identifier, False)
    assert MISFORTUNES[how] in item.note
    assert BAG in item.note
    assert north.receipt.url in item.note
    assert f"`dpn fixity repair {BAG}`" in item.note
    (event,) = north.events(item.id)
    assert event.outcome == "failure"
    assert event.detail["found"] in item.note
    copy = north.copy()
    assert (copy.outcome, copy.due_at) == ("bad", north.clock.now() + timedelta(days=30))


def test_checks_are_recorded_on_postgresql_too(tmp_path: Path, migrated_url: str) -> None:
    north = make_checker(tmp_path, database_url=migrated_url)
    assert north.check().status == "success"
    spoil(north, "truncated")
    assert north.check().status == "failed"
    assert sorted(check.success for check in north.records()) == [False, True]
    north.sessions.kw["bind"].dispose()


def test_the_digest_in_our_registry_counts_whatever_we_remember(make: MakeChecker) -> None:
    north = make(registered="ab" * 32)
    item = north.check()
    assert item.status == "failed"
    assert f"our registry has {'ab' * 32}" in item.note
    assert [check.success for check in north.records()] == [False]


def test_without_a_digest_in_our_registry_the_one_remembered_with_the_copy_counts(make: MakeChecker) -> None:
    north = make(registered=None)
    assert north.check().status == "success"
    assert north.check(tag_manifest_sha256="cd" * 32).status == "failed"
    assert [check.success for check in sorted(north.records(), key=lambda one: one.success)] == [False, True]


def test_a_bag_that_the_profile_no_longer_takes_is_told_apart_from_rot(
    make: MakeChecker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = make()
    validate = dpn.bags.validation.verdict.validate

    def strict(path: Path, **options: Any) -> Any:
        return replace(validate(path, **options), valid=False)

    monkeypatch.setattr(dpn.bags.validation.verdict, "validate", strict)
    item = north.check()
    assert "its bytes are those that were stored" in item.note
    assert "No other copy would be better" in item.note
    assert [check.success for check in north.records()] == [False]


class TestNoVerdict:
    def test_a_disk_that_cannot_be_read_is_tried_again(
        self, north: Checker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(dpn.bags.validation.verdict, "validate", broken)
            item = north.check()
        assert (item.status, item.stage, item.attempts, item.needs_attention) == ("pending", "check", 0, True)
        assert north.records() == []
        assert north.copy().outcome == "unchecked"
        assert north.later(item.id).status == "success"
        assert [check.success for check in north.records()] == [True]

    def test_a_store_that_is_not_mounted_is_not_a_lost_copy(self, north: Checker) -> None:
        folder = stored(north).parent
        folder.rename(folder.with_name("unmounted"))
        for emptied in (False, True):
            if emptied:
                folder.mkdir()
            item = north.check()
            assert (item.status, item.needs_attention) == ("pending", True)
            assert ("it has no marker" if emptied else str(folder)) in item.note
            assert north.records() == []
        folder.rmdir()
        folder.with_name("unmounted").rename(folder)
        assert north.later(item.id).status == "success"
        assert all(check.success for check in north.records())

    def test_a_copy_in_another_store_than_the_settings_name_is_not_lost(self, north: Checker) -> None:
        moved = north.receipt.model_copy(update={"url": f"file:///elsewhere/{KEY}"})
        item = north.check(receipt=moved)
        assert (item.status, item.stage, item.needs_attention) == ("pending", "restore-init", True)
        assert "correct [store]" in item.note
        assert north.records() == []


class TestOnce:
    def test_a_check_that_is_retried_is_not_recorded_again(self, north: Checker) -> None:
        spoil(north, "truncated")
        item = north.check()
        stored(north).write_bytes(north.tar.read_bytes())
        with north.sessions.begin() as session:
            retry_item(session, item.id, operator="me", pipelines=PIPELINES, clock=north.clock)
        again = north.settle(item.id)
        assert (again.status, again.note) == ("failed", item.note)
        assert [check.success for check in north.records()] == [False]
        assert len(north.events(item.id)) == 1
        assert north.check().status == "success", "a new check finds the repaired copy good"

    def test_a_check_that_our_registry_does_not_take_keeps_its_verdict(self, north: Checker) -> None:
        item_id = north.begin(bag="11111111-1111-4111-8111-111111111111")
        item = north.settle(item_id)
        assert (item.status, item.needs_attention) == ("failed", True)
        assert "our registry refuses the record of this check: bag: no such bag" in item.note
        assert north.manifest(item_id).judged
        assert north.records() == []
