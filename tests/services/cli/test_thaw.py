"""What an operator's command asks out of cold storage is known before it is billed, whatever dies then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from dpn.cancellation import Cancellation
from dpn.cli.thaw import request_thaw
from dpn.clock import ManualClock
from dpn.database import open_engine, open_sessions, reading
from dpn.errors import StoreMissing
from dpn.node import OpenNode
from dpn.settings import Settings
from dpn.storage.availability import RestoreRequested
from models.preservation import ColdRequest
from models.work import AuditEvent
from tests.fixtures.records import uuid

BAG, SIZE = uuid(1), 1000


class Death(BaseException):
    """The command is killed."""


@pytest.fixture
def node(sqlite_url: str) -> OpenNode:
    settings = Settings.model_validate(
        {
            "node": {"namespace": "north", "api_root": "https://north.example.org"},
            "database": {"url": sqlite_url},
        }
    )
    engine = open_engine(sqlite_url)
    log = structlog.stdlib.get_logger()
    return OpenNode(settings, Path("node.toml"), engine, open_sessions(engine), ManualClock(), log)


def known(node: OpenNode) -> tuple[list[int], list[str]]:
    """The bytes that count, and what the trail tells."""
    with reading(node.sessions) as session:
        counted = session.scalars(select(ColdRequest.bytes)).all()
        told = session.scalars(select(AuditEvent.outcome).where(AuditEvent.object_id == BAG)).all()
    return list(counted), list(told)


def ask(node: OpenNode, answer: Callable[[], Any]) -> None:
    class ColdStore:
        name = "main"

        def request_restore(self, key: str, **_: Any) -> Any:
            assert key == f"{BAG}.tar"
            return answer()

    request_thaw(
        node,
        ColdStore(),  # type: ignore[arg-type]
        f"{BAG}.tar",
        bag=BAG,
        size=SIZE,
        cancellation=Cancellation(),
    )


def test_a_command_that_is_killed_while_it_asks_has_noted_that(node: OpenNode) -> None:
    def die() -> None:
        raise Death

    with pytest.raises(Death):
        ask(node, die)
    assert known(node) == ([SIZE], ["pending"])


@pytest.mark.parametrize(("outcome", "counted"), [("accepted", [SIZE]), ("refused", []), ("under-way", [])])
def test_only_what_the_store_takes_counts_for_the_budget(node: OpenNode, outcome: Any, counted: list[int]) -> None:
    ask(node, lambda: RestoreRequested(outcome, "so it says"))
    assert known(node) == (counted, ["pending", outcome])


def test_what_was_never_asked_counts_for_nothing(node: OpenNode) -> None:
    def gone() -> None:
        raise StoreMissing("it is gone")

    with pytest.raises(StoreMissing):
        ask(node, gone)
    assert known(node) == ([], ["pending"])
