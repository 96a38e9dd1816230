"""Tokens are found at the same cost whatever their number, by whole tokens only, until they are revoked."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert

from dpn.access import tokens
from dpn.access.scopes import Scope
from dpn.clock import ManualClock
from dpn.database import Sessions, open_sessions, reading
from models.registry import ApiToken

NOW = ManualClock().now()
MANY = 10_000


@pytest.fixture(params=["sqlite", "postgresql"])
def sessions(request: pytest.FixtureRequest) -> Sessions:
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return open_sessions(engine)


@contextmanager
def statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """What the database is asked meanwhile."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


def test_a_token_is_its_owners_for_what_it_was_issued_until_it_is_revoked(sessions: Sessions) -> None:
    expiry = NOW + timedelta(days=1)
    with sessions.begin() as session:
        alice = tokens.issue(session, "alice", now=NOW, scopes=[Scope.JOBS_WRITE], expires_at=expiry)
        tokens.issue(session, "south", now=NOW)
    with sessions.begin() as session:
        shown = tokens.identify(session, alice)
        assert shown is not None
        assert (shown.owner, shown.scopes, shown.expires_at) == ("alice", (Scope.JOBS_WRITE,), expiry)
        assert [shown.may(scope) for scope in (Scope.JOBS_READ, Scope.JOBS_ALL, Scope.NODE)] == [
            True,
            False,
            False,
        ]
        assert [one.scopes for one in tokens.issued(session)] == [(Scope.JOBS_WRITE,), (Scope.NODE,)]
        assert tokens.revoke(session, shown.id, now=NOW)
        assert tokens.identify(session, alice) is None


def test_a_right_id_part_with_a_wrong_secret_is_no_token(sessions: Sessions) -> None:
    with sessions.begin() as session:
        token = tokens.issue(session, "south", now=NOW)
    id_part = token[: tokens.LOOKUP_LENGTH]
    last = "0" if token[-1] != "0" else "1"
    for wrong in (
        id_part,
        id_part + secrets.token_hex(24),
        token[:-1],
        token[:-1] + last,
        token + "0",
        token.upper(),
    ):
        with sessions() as session:
            assert tokens.identify(session, wrong) is None


def test_one_statement_finds_a_token_among_ten_thousand_by_its_index(sqlite_engine: Engine) -> None:
    sessions = open_sessions(sqlite_engine)
    row = {"owner": "crowd", "salt": "s", "sha256": "0" * 64, "created_at": NOW}
    with sessions.begin() as session:
        session.execute(insert(ApiToken), [row | {"lookup": secrets.token_hex(8)} for _ in range(MANY)])
        token = tokens.issue(session, "alice", now=NOW)
    with reading(sessions) as session, statements(sqlite_engine) as asked:
        assert tokens.identify(session, token) is not None
        assert tokens.identify(session, secrets.token_hex(32)) is None
    assert len(asked) == 2
    with sqlite_engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [step[-1] for step in plan]
            assert any("USING INDEX ix_api_tokens_lookup" in step for step in steps)
            assert not any(step.startswith("SCAN") for step in steps), steps
