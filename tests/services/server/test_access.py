"""Who asks: tokens that expire, and when each was last used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import requests
from starlette.requests import Request

from dpn.access import tokens
from dpn.access.scopes import Scope
from dpn.clock import ManualClock
from dpn.database import Sessions
from dpn.errors import Misconfigured
from dpn.registry.client import RegistryClient
from dpn.runtime import Threads
from dpn.server.access import NodeTokens
from dpn.server.replies import Refusal
from tests.fixtures.registry import RunningRegistry, peer_settings

PATIENCE_SECONDS = 20
WRITER_HOLDS_SECONDS = 5.0


class AtOnce(Threads):
    """Does right away what is started, and counts it."""

    started = 0

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        self.started += 1
        work()
        return threading.Thread()


def asking(token: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Token token={token}".encode())]})


def last_use(sessions: Sessions) -> object:
    with sessions() as session:
        return tokens.issued(session)[-1].last_used_at


def test_an_expired_token_is_refused_with_the_moment_and_whom_to_ask(
    registry: RunningRegistry, clock: ManualClock
) -> None:
    with registry.sessions.begin() as session:
        token = tokens.issue(session, "south", now=clock.now(), expires_at=clock.now() + timedelta(days=1))
    client = RegistryClient("north", peer_settings(registry.url, token=token))
    clock.advance(86_399)
    assert client.get_node("south").namespace == "south"
    clock.advance(1)
    why = "This token expired at 2024-01-03T03:04:05Z: ask the operators of north for a new one."
    header = {"Authorization": f"Token token={token}"}
    answer = requests.get(f"{registry.url}/api-v2/version", headers=header, timeout=10)
    assert (answer.status_code, answer.text.splitlines()) == (401, ["HTTP Token: Access denied.", why])
    with pytest.raises(Misconfigured) as told:
        client.get_node("south")
    assert why in str(told.value)


def test_a_token_for_something_else_opens_no_registry_and_no_deposits_not_even_with_our_own_name(
    registry: RunningRegistry, clock: ManualClock
) -> None:
    jobs = [Scope.JOBS_ALL, Scope.ENDPOINTS_WRITE]
    with registry.sessions.begin() as session:
        token = tokens.issue(session, "north", now=clock.now(), scopes=jobs)
    header = {"Authorization": f"Token token={token}"}
    answer = requests.get(f"{registry.url}/api-v2/version", headers=header, timeout=10)
    why = "This token is for endpoints:write, jobs:all: `dpn token issue` makes one for a node."
    assert (answer.status_code, answer.text.splitlines()) == (401, ["HTTP Token: Access denied.", why])
    access = NodeTokens(registry.sessions, "north", clock, AtOnce())
    for guard in (access.any_node, access.this_node):
        with pytest.raises(Refusal) as refused:
            guard.admit(asking(token))
        assert refused.value.status == 401
    assert last_use(registry.sessions) is None


def test_the_last_use_is_noted_once_in_some_minutes_by_all_servers_together(
    registry: RunningRegistry, clock: ManualClock
) -> None:
    runtime = AtOnce()
    request = asking(registry.token("south"))
    server, another = (NodeTokens(registry.sessions, "north", clock, runtime) for _ in range(2))
    began = clock.now()
    for _ in range(3):
        assert server.any_node.admit(request).namespace == "south"
    assert (runtime.started, last_use(registry.sessions)) == (1, began)
    clock.advance(200)
    another.any_node.admit(request)
    assert last_use(registry.sessions) == began
    clock.advance(200)
    server.any_node.admit(request)
    assert last_use(registry.sessions) == clock.now()
    clock.advance(-7200)  # it had been ahead
    server.any_node.admit(request)
    assert last_use(registry.sessions) == clock.now()


def test_no_request_waits_for_the_note_of_its_use_nor_fails_with_it(
    any_registry: RunningRegistry, clock: ManualClock
) -> None:
    header = {"Authorization": f"Token token={any_registry.token('south')}"}
    with any_registry.sessions.begin() as session:
        holder = session.connection().exec_driver_sql("UPDATE api_tokens SET label = 'held'")
        assert holder.rowcount == 1
        before = time.monotonic()
        assert requests.get(f"{any_registry.url}/api-v2/version", headers=header, timeout=30).status_code == 200
        assert time.monotonic() - before < WRITER_HOLDS_SECONDS
    deadline = time.monotonic() + PATIENCE_SECONDS
    while last_use(any_registry.sessions) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last_use(any_registry.sessions) == clock.now()
    with any_registry.sessions.begin() as session:
        session.connection().exec_driver_sql("ALTER TABLE api_tokens RENAME COLUMN last_used_at TO gone")
    clock.advance(600)
    assert requests.get(f"{any_registry.url}/api-v2/version", headers=header, timeout=10).status_code == 200
