"""The server's OpenAPI: served to anyone, and true, as schemathesis finds by asking everything that it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from dpn.clock import ManualClock
from dpn.database import open_engine, open_sessions
from dpn.registry.catalogue import FIXITY_CHECKS, INGESTS, MEMBERS, RESTORES
from dpn.registry.records import FixityCheckRecord, IngestRecord, MemberRecord, RestoreRecord
from dpn.server.openapi import describe
from tests.fixtures.records import a_bag, a_digest, a_transfer, uuid
from tests.fixtures.registry import RunningRegistry, node_settings, registry_of, running_registry
from tests.services.registry.conftest import PEERS, post, put_in


def document(api_root: str) -> dict[str, Any]:
    """What a registry at this address says of itself."""
    settings = node_settings("north", database_url="sqlite://", folder=Path("/nowhere"), api_root=api_root)
    sessions = open_sessions(open_engine("sqlite://"))
    return describe(registry_of(sessions, settings, ManualClock()))


DOCUMENT = document("http://127.0.0.1:1")

BODILESS = (content_type_conformance, response_schema_conformance)
"""OpenAPI cannot say that an answer has a body or none, which is how a page that is no number is refused."""


def asking(*, examples: int, everything: bool, **more: Any) -> Any:
    """The operations; with `everything` each limit of what is described is tried, and each method that is not."""
    config = {
        "suppress-health-check": ["too_slow"],  # a busy machine is no reason to fail
        "generation": {"max-examples": examples, "deterministic": True, "database": "none"},
        "phases": {"coverage": {"enabled": everything, "generate-duplicate-query-parameters": True}},
        # A record may have the form that is described and still break a rule: name a bag that is not there.
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "302", "400", "401", "403", "404", "409"]}
        },
    }
    return schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict(config | more))


anything = asking(examples=3, everything=True)
THERE = {"uuid": uuid(1), "namespace": "south", "algorithm": "sha256"}
A_PAGE = {"query.page": 1, "query.page_size": 25}
what_is_there = asking(examples=3, everything=False, parameters=THERE | A_PAGE)
a_little = asking(examples=2, everything=False, parameters=THERE)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """One record of each kind, all of the same id."""
    folder = tmp_path_factory.mktemp("openapi")
    url = f"sqlite:///{folder / 'north.db'}"
    one = {"bag": uuid(1), "created_at": "2023-01-01T00:00:00Z", "updated_at": "2023-01-01T00:00:00Z"}
    with running_registry("north", database_url=url, folder=folder, peers=PEERS) as running:
        post(running, a_bag(), a_digest(), a_transfer(replication_id=uuid(1)))
        member = one | {"member_id": uuid(1), "name": "Inst", "email": "dpn@inst.example"}
        put_in(running, MEMBERS, [MemberRecord.from_wire(member)])
        check = one | {
            "fixity_check_id": uuid(1),
            "node": "north",
            "success": True,
            "fixity_at": one["created_at"],
        }
        put_in(running, FIXITY_CHECKS, [FixityCheckRecord.from_wire(check)])
        put_in(running, INGESTS, [IngestRecord.from_wire(one | {"ingest_id": uuid(1), "ingested": True})])
        restore = one | {"restore_id": uuid(1), "from_node": "south", "to_node": "north", "protocol": "rsync"}
        put_in(running, RESTORES, [RestoreRecord.from_wire(restore)])
        yield running


def ask(case: Any, registry: RunningRegistry, caller: str | None) -> requests.Response:
    """Asks, and compares the answer with what is described; a list that is described is never refused."""
    headers = {"Authorization": f"Token token={registry.token(caller)}"} if caller else {}
    answer = case.call(base_url=f"{registry.url}/api-v2", headers=headers, allow_redirects=False)
    bodiless = answer.status_code == 400 and not answer.content and case.method == "GET"
    case.validate_response(answer, excluded_checks=BODILESS if bodiless else (), headers=headers)
    if case.method == "GET" and case.meta.generation.mode.is_positive:
        assert answer.status_code != 400, answer.text
    return answer


@anything.parametrize()
def test_the_node_itself_finds_every_operation_as_described(case: Any, filled: RunningRegistry) -> None:
    ask(case, filled, "north")


@what_is_there.parametrize()
def test_the_node_itself_finds_every_record_as_described(case: Any, filled: RunningRegistry) -> None:
    answer = ask(case, filled, "north")
    if case.method == "GET":
        assert answer.status_code in (200, 302, 400)


@what_is_there.parametrize()
def test_a_peer_finds_every_operation_as_described(case: Any, filled: RunningRegistry) -> None:
    answer = ask(case, filled, "south")
    if case.method != "GET" and case.path not in ("/replicate/{uuid}", "/restore/{uuid}"):
        assert answer.status_code == 403


@a_little.parametrize()
def test_a_stranger_finds_nothing_but_the_description(case: Any, filled: RunningRegistry) -> None:
    answer = ask(case, filled, None)
    assert answer.status_code == (200 if case.path == "/openapi.json" else 401)


def test_the_description_is_served_to_anyone_and_tells_no_secret(filled: RunningRegistry) -> None:
    served = [requests.get(filled.url + path, timeout=10) for path in ("/openapi.json", "/api-v2/openapi.json")]
    assert all(answer.status_code == 200 for answer in served)
    expected = document(filled.url)
    assert [answer.json() for answer in served] == [json.loads(json.dumps(expected))] * 2
    for secret in (filled.token("north"), "sqlite", "south", "staging"):
        assert secret not in served[0].text


def test_every_route_is_described_and_every_description_has_its_route(filled: RunningRegistry) -> None:
    for path, methods in DOCUMENT["paths"].items():
        real = path.format(**THERE)
        answer = filled.ask("north", "OPTIONS", real)
        described = {method.upper() for method in methods} | ({"HEAD"} if "get" in methods else set())
        assert set(answer.headers["Allow"].split(", ")) == described, path
