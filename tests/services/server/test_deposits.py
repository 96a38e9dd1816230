"""Deposits over HTTP: only the node itself, only from its folders, never twice, and told as the registry tells."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from dpn.registry.catalogue import MEMBERS
from dpn.registry.catalogue.rows import save
from dpn.registry.records import MemberRecord
from dpn.server.deposits.service import deposit_service
from dpn.server.service import HttpService
from models.work import WorkItem
from tests.fixtures.records import LONG_AGO, uuid
from tests.fixtures.registry import RunningRegistry, running_registry
from workers.pipelines import PIPELINES

MEMBER = uuid(0xFFFF)


@dataclass
class Node:
    registry: RunningRegistry
    uploads: Path
    announced: list[int] = field(default_factory=list)

    def ask(self, method: str, path: str = "", *, by: str | None = "north", **more: Any) -> requests.Response:
        headers = {} if by is None else {"Authorization": f"Token token={self.registry.token(by)}"}
        return requests.request(
            method,
            f"{self.registry.url}/deposits{path}",
            headers=headers,
            timeout=30,
            allow_redirects=False,
            **more,
        )

    def deposit(self, *, by: str | None = "north", **fields: Any) -> requests.Response:
        body = {"source": str(self.uploads / "thing"), "member": MEMBER, "local_id": "a thing", **fields}
        return self.ask("POST", by=by, json=body)

    @property
    def items(self) -> int:
        with self.registry.sessions() as session:
            return session.scalar(select(func.count()).select_from(WorkItem)) or 0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("north")
    uploads = folder / "uploads"
    uploads.mkdir()
    announced: list[int] = []

    def deposits(running: RunningRegistry) -> list[HttpService]:
        return [
            deposit_service(
                sessions=running.sessions,
                clock=running.clock,
                namespace="north",
                source_folders=[uploads],
                server=running.settings.server,
                pipelines=PIPELINES,
                announce=announced.append,
            )
        ]

    with running_registry(
        "north",
        database_url=f"sqlite:///{folder / 'north.db'}",
        folder=folder,
        peers=("south",),
        beside=deposits,
    ) as running:
        member = MemberRecord(
            member_id=MEMBER, name="A library", email="a@example.org", created_at=LONG_AGO, updated_at=LONG_AGO
        )
        with running.sessions.begin() as session:
            save(session, MEMBERS, [member])
        yield Node(running, uploads, announced)


def test_a_deposit_is_accepted_announced_and_told_where_it_stands(node: Node) -> None:
    done = node.deposit(local_id="one", key="one")
    assert done.status_code == 201
    told = done.json()
    assert (told["repeated"], told["version"], told["status"]) == (False, 1, "pending")
    assert node.announced[-1] == told["item"]
    shown = node.ask("GET", f"/{told['bag'].upper()}")
    assert (shown.status_code, shown.json()["item"]) == (200, told["item"])
    assert "north over HTTP" in shown.json()["note"]
    assert node.ask("HEAD", f"/{told['bag']}").status_code == 200


def test_the_same_deposit_again_is_told_apart_and_announced_once(node: Node) -> None:
    first = node.deposit(local_id="two")
    before = list(node.announced)
    again = node.deposit(local_id="two")
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["repeated"], again.json()["item"]) == (True, first.json()["item"])
    assert node.announced == before


def test_of_many_that_post_one_deposit_at_once_one_makes_it(node: Node) -> None:
    before = len(node.announced)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: node.deposit(local_id="at once", key="at once"), range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["item"] for answer in answers}) == 1
    assert len(node.announced) == before + 1


def test_another_deposit_under_the_same_key_is_refused_and_told_what_is_different(node: Node) -> None:
    first = node.deposit(local_id="three", key="three")
    items = node.items
    refused = node.deposit(local_id="three", key="three", title="Three")
    assert refused.status_code == 400
    (why,) = refused.json()["errors"]
    assert f"item {first.json()['item']}" in why
    assert "title is now 'Three', was none" in why
    assert node.items == items


@pytest.mark.parametrize(("by", "status"), [("south", 403), (None, 401)])
def test_nobody_else_deposits_or_looks(node: Node, by: str | None, status: int) -> None:
    before = node.items
    assert node.deposit(by=by, local_id="theirs").status_code == status
    assert node.ask("GET", f"/{uuid(1)}", by=by).status_code == status
    assert node.items == before


@pytest.mark.parametrize(
    "source",
    ["/etc", "thing", "../uploads/thing", "{uploads}/../secrets", "{uploads}/link/x", "file:///etc", "{uploads}x"],
)
def test_a_source_outside_the_folders_is_refused_whatever_way_it_is_named(node: Node, source: str) -> None:
    link = node.uploads / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    before = node.items
    refused = node.deposit(source=source.format(uploads=node.uploads), local_id="outside")
    assert refused.status_code == 400
    (why,) = refused.json()["errors"]
    assert "ingest.source_folders" in why
    assert node.items == before


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"local_id": 5}, "local_id: "),
        ({"member": None}, "member: "),
        ({"unknown": "x"}, "unknown: "),
        ({"named_over_http": False}, "named_over_http: "),
        ({"bag_type": "photo"}, "bag_type: "),
        ({"rights": ["x"] * 1001}, "rights: "),
        ({"rights": ["x"]}, "--rights 'x'"),
        ({"member": uuid(7)}, "no member"),
        ({"local_id": "a\u202eb"}, "control characters"),
        ({"source": "s3://bucket"}, "empty prefix"),
        ({"source": "s3://[x/y/"}, "names no bucket"),
        ({"source": "{uploads}/round"}, "leads nowhere"),
        ({"source": "{uploads}/a\0b"}, "leads nowhere"),
        ({"as_is": True}, "is not a DPN bag to be taken as it is"),
    ],
)
def test_what_cannot_be_deposited_is_refused_with_the_reason(
    node: Node, fields: dict[str, Any], said: str
) -> None:
    if not (node.uploads / "round").is_symlink():
        (node.uploads / "round").symlink_to("round")
    if "source" in fields:
        fields = {"source": fields["source"].format(uploads=node.uploads)}
    before = node.items
    refused = node.deposit(**{"local_id": "refused", **fields})
    assert refused.status_code == 400
    assert said in " ".join(refused.json()["errors"])
    assert node.items == before


def test_no_member_and_no_body_and_too_large_a_body_are_refused(node: Node) -> None:
    assert node.ask("POST", data=b"[]").status_code == 400
    assert node.ask("POST", data=b"{").status_code == 400
    assert node.ask("POST", data=b'{"source": "' + b"x" * 1_100_000 + b'"}').status_code == 413


def test_unknown_deposits_and_methods_are_answered_as_by_the_registry(node: Node) -> None:
    for path in (f"/{uuid(9)}", "/not-a-uuid", f"/{uuid(9)}/more"):
        missing = node.ask("GET", path)
        assert (missing.status_code, missing.content) == (404, b"")
    refused = node.ask("DELETE", f"/{uuid(9)}")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    refused = node.ask("GET")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")


def test_the_description_needs_no_token_and_names_what_there_is(node: Node) -> None:
    document = node.ask("GET", "/openapi.json", by=None).json()
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        "/deposits": {"post"},
        "/deposits/{bag}": {"get"},
    }
    body = document["components"]["schemas"]["DepositBody"]
    assert {"source", "member", "local_id"} == set(body["required"])
    answers = set(document["paths"]["/deposits"]["post"]["responses"])
    assert answers == {"200", "201", "400", "401", "403", "408", "413", "500", "503"}
