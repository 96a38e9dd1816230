"""The REST server as other nodes meet it: who is let in, what lists show, how refusals look."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from dpn.access import tokens
from dpn.registry.records import BagRecord
from tests.fixtures.records import DIGEST, a_bag, a_digest, a_node, a_transfer, uuid
from tests.fixtures.registry import RunningRegistry, running_registry
from tests.services.registry.conftest import PEERS, post

UNKNOWN = uuid(0xDEAD)


def rows(registry: RunningRegistry, path: str, caller: str = "south") -> list[dict[str, Any]]:
    joiner = "&" if "?" in path else "?"
    answer = registry.ask(caller, "GET", f"{path}{joiner}page=1&page_size=100")
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


class TestWhoIsLetIn:
    @pytest.mark.parametrize(
        "form",
        [
            "Token token={}",
            'Token token="{}"',
            "Token {}",
            "token {}",
            "token token={}",
            'Token token="{}", nonce="7"',
        ],
    )
    def test_every_form_of_the_header_that_nodes_send(self, registry: RunningRegistry, form: str) -> None:
        header = {"Authorization": form.format(registry.token("south"))}
        assert requests.get(f"{registry.url}/api-v2/node/north", headers=header, timeout=10).status_code == 200

    @pytest.mark.parametrize(
        "header", [None, "", "Token", "Token token=", "Bearer {}", "Basic {}", "Token x{}", "Token é"]
    )
    def test_nobody_else(self, registry: RunningRegistry, header: str | None) -> None:
        headers = (
            {} if header is None else {"Authorization": header.format(registry.token("south")).encode("latin-1")}
        )
        for path in ("/node", "/bag", "/version", f"/replicate/{UNKNOWN}"):
            answer = requests.get(f"{registry.url}/api-v2{path}", headers=headers, timeout=10)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Token")

    def test_a_revoked_token_is_worthless_at_once_and_its_successor_is_not(
        self, registry: RunningRegistry
    ) -> None:
        assert registry.ask("south", "GET", "/version").status_code == 200
        with registry.sessions.begin() as session:
            successor = tokens.issue(session, "south", now=registry.clock.now())
            first = tokens.issued(session)[0]
            assert tokens.revoke(session, first.id, now=registry.clock.now())
            assert not tokens.revoke(session, first.id, now=registry.clock.now())
        assert registry.ask("south", "GET", "/version").status_code == 401
        header = {"Authorization": f"Token token={successor}"}
        assert requests.get(f"{registry.url}/api-v2/version", headers=header, timeout=10).status_code == 200

    def test_the_database_never_sees_a_token(self, registry: RunningRegistry) -> None:
        token = registry.token("south")
        assert len(token) * 4 >= 256
        with registry.sessions() as session:
            stored = [str(list(row)) for row in session.connection().exec_driver_sql("SELECT * FROM api_tokens")]
        assert stored
        assert token not in "".join(stored)

    def test_peers_write_nothing_but_their_transfers(self, with_a_transfer: RunningRegistry) -> None:
        registry = with_a_transfer
        for method, path, record in [
            ("POST", "/node", a_node("east")),
            ("PUT", "/node/south", a_node("south")),
            ("POST", "/bag", a_bag(2)),
            ("PUT", f"/bag/{uuid(1)}", a_bag(1)),
            ("POST", f"/bag/{uuid(1)}/digest", a_digest()),
            ("POST", "/replicate", a_transfer(2)),
        ]:
            answer = registry.ask("south", method, path, json=record.to_wire())
            assert (answer.status_code, answer.text) == (403, "Only the node itself may do this.\n"), path
            assert registry.ask("south", method, path, data=b"{").status_code == 403, "the body was looked at"
        unrelated = registry.ask("west", "PUT", f"/replicate/{uuid(0x1001)}", json=a_transfer().to_wire())
        assert unrelated.status_code == 403

    def test_anyone_may_ask_whether_the_server_is_well(self, registry: RunningRegistry) -> None:
        answer = requests.get(f"{registry.url}/healthz", timeout=10)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


class TestSingleRecords:
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_each_is_found_with_and_without_a_slash_and_in_capitals(
        self, with_a_transfer: RunningRegistry, slash: str
    ) -> None:
        for path, record in [
            (f"/bag/{uuid(1).upper()}", a_bag()),
            (f"/replicate/{uuid(0x1001).upper()}", a_transfer()),
            (f"/bag/{uuid(1)}/digest/sha256", a_digest()),
        ]:
            assert with_a_transfer.ask("south", "GET", path + slash).json() == record.to_wire()
        assert with_a_transfer.ask("south", "GET", "/node/NORTH" + slash).json()["namespace"] == "north"

    @pytest.mark.parametrize(
        "path",
        [
            f"/bag/{UNKNOWN}",
            f"/replicate/{UNKNOWN}",
            f"/bag/{UNKNOWN}/digest/sha256",
            f"/bag/{uuid(1)}/digest/md5",
            "/node/mars",
            "/bag/1",
            "/bag/%00",
            "/bag/..%2f..%2fetc",
            "/node/%F0%9F%92%A9",
            "/nothing",
        ],
    )
    def test_what_is_not_there_is_an_empty_404(self, with_a_transfer: RunningRegistry, path: str) -> None:
        answer = with_a_transfer.ask("south", "GET", path)
        assert (answer.status_code, answer.content) == (404, b"")

    def test_what_is_there_already_is_an_empty_409(self, with_a_transfer: RunningRegistry) -> None:
        for path, record in [
            ("/bag", a_bag()),
            (f"/bag/{uuid(1)}/digest", a_digest()),
            ("/replicate", a_transfer()),
            ("/node", a_node("south")),
        ]:
            answer = with_a_transfer.ask("north", "POST", path, json=record.to_wire())
            assert (answer.status_code, answer.content) == (409, b""), path

    def test_a_new_record_keeps_the_times_it_has_and_gets_those_it_has_not(
        self, registry: RunningRegistry
    ) -> None:
        post(registry, a_bag())
        assert registry.ask("north", "GET", f"/bag/{uuid(1)}").json()["updated_at"] == "2023-01-01T00:00:00Z"
        wire = a_bag(2).to_wire()
        del wire["created_at"]
        wire["updated_at"] = None
        answer = registry.ask("north", "POST", "/bag/", json=wire)
        assert (
            answer.json() == a_bag(2, created_at=registry.clock.now(), updated_at=registry.clock.now()).to_wire()
        )

    def test_a_change_is_stamped_by_us_and_no_change_is_not(self, registry: RunningRegistry) -> None:
        post(registry, a_bag())
        same = registry.ask(
            "north", "PUT", f"/bag/{uuid(1)}/", json=a_bag(updated_at="2030-01-01T00:00:00Z").to_wire()
        )
        assert same.json() == a_bag().to_wire()
        changed = registry.ask("north", "PUT", f"/bag/{uuid(1)}", json=a_bag(local_id="new").to_wire())
        assert changed.json() == a_bag(local_id="new", updated_at=registry.clock.now()).to_wire()

    def test_a_bags_digest_is_posted_under_that_bag(self, registry: RunningRegistry) -> None:
        post(registry, a_bag(1), a_bag(2))
        wrong = registry.ask("north", "POST", f"/bag/{uuid(2)}/digest", json=a_digest(1).to_wire())
        assert wrong.status_code == 400
        none = registry.ask("north", "POST", f"/bag/{UNKNOWN}/digest", json=a_digest(1).to_wire())
        assert none.status_code == 404

    def test_a_version_of_a_family_is_there_once(self, registry: RunningRegistry) -> None:
        post(registry, a_bag(1), a_bag(2, first_version_uuid=uuid(1), version=2))
        again = a_bag(3, first_version_uuid=uuid(1), version=2)
        answer = registry.ask("north", "POST", "/bag", json=again.to_wire())
        assert answer.status_code == 400
        assert uuid(2) in answer.json()["errors"][0]

    def test_refusals_say_why(self, with_a_transfer: RunningRegistry) -> None:
        changed = a_transfer(link="elsewhere").to_wire()
        answer = with_a_transfer.ask("south", "PUT", f"/replicate/{uuid(0x1001)}", json=changed)
        assert (answer.status_code, answer.json()) == (
            400,
            {"errors": ["Link is marked read-only but was changed."]},
        )

    def test_a_field_left_out_is_a_field_changed(self, with_a_transfer: RunningRegistry) -> None:
        post(with_a_transfer, a_transfer(2, fixity_nonce="n"))
        wire = a_transfer(2).to_wire()
        del wire["fixity_nonce"]
        answer = with_a_transfer.ask("south", "PUT", f"/replicate/{uuid(0x1002)}", json=wire)
        assert answer.json() == {"errors": ["Fixity nonce is marked read-only but was changed."]}
        del wire["link"]
        answer = with_a_transfer.ask("south", "PUT", f"/replicate/{uuid(0x1002)}", json=wire)
        assert answer.json() == {"errors": ["link: Field required"]}

    def test_methods_that_a_path_does_not_have(self, registry: RunningRegistry) -> None:
        for method, path in (("DELETE", f"/bag/{uuid(1)}"), ("PATCH", "/bag"), ("PUT", "/replicate")):
            assert registry.ask("north", method, path).status_code == 405


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"[]", "one JSON object"),
            (b'"text"', "one JSON object"),
            (b"\xff\xfe", "UTF-8"),
            (b'{"uuid": 1, "uuid": 2}', "stands twice"),
            (b'{"size": NaN}', "JSON does not have"),
            (b'{"size": 1e999}', "JSON does not have"),
            (b'{"a":' + b"[" * 50 + b"]" * 50 + b"}", "deep"),
            (b"[" * 100_000, "deep"),
            (b'{"size": "big"}', "size: Input should be a valid integer"),
            (json.dumps(a_bag().to_wire() | {"local_id": "a\x00b"}).encode(), "local_id"),
            (json.dumps(a_bag().to_wire() | {"local_id": "\ud800"}).encode(), "local_id"),
        ],
    )
    def test_what_is_no_record_is_refused_with_its_reason(
        self, registry: RunningRegistry, body: bytes, problem: str
    ) -> None:
        answer = registry.ask("north", "POST", "/bag", data=body)
        assert answer.status_code == 400
        assert any(problem in error for error in answer.json()["errors"]), answer.text

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_is_read_no_further_than_allowed(self, registry: RunningRegistry, chunked: bool) -> None:
        limit = registry.settings.server.max_body_bytes
        sent = 0

        def endless() -> Any:
            nonlocal sent
            while sent < 50 * limit:
                sent += 65_536
                yield b" " * 65_536

        body = endless() if chunked else b" " * (limit + 1)
        try:
            answer = registry.ask("north", "POST", "/bag", data=body)
        except requests.ConnectionError:  # the server closed while we still sent
            assert chunked
        else:
            assert answer.status_code == 413
        assert sent < 50 * limit

    def test_nothing_is_read_from_a_stranger(self, registry: RunningRegistry) -> None:
        host, port = urlsplit(registry.url).hostname, urlsplit(registry.url).port
        with socket.create_connection((str(host), port or 0), timeout=10) as stranger:
            stranger.sendall(b"POST /api-v2/bag HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
            assert stranger.recv(100).startswith(b"HTTP/1.1 401")

    def test_a_length_that_lies_is_no_way_around(self, registry: RunningRegistry) -> None:
        answer = registry.ask("north", "POST", "/bag", data=b"{}", headers={"Content-Length": "9" * 30})
        assert answer.status_code in (400, 413)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Five bags and three transfers; these tests only read them."""
    folder = tmp_path_factory.mktemp("lists")
    url = f"sqlite:///{folder / 'north.db'}"
    with running_registry("north", database_url=url, folder=folder, peers=PEERS) as registry:
        for number in range(1, 6):
            stamp = f"2023-01-0{number}T00:00:00Z"
            post(registry, a_bag(number, size=number, created_at=stamp, updated_at=stamp))
            post(registry, a_digest(number, created_at=stamp))
        post(
            registry,
            a_transfer(1, 1, updated_at="2023-02-01T00:00:00Z"),
            a_transfer(2, 1, to_node="west", updated_at="2023-02-02T00:00:00Z"),
            a_transfer(3, 2, updated_at="2023-02-03T00:00:00Z"),
        )
        yield registry


class TestLists:
    @pytest.mark.parametrize(
        ("query", "completed"),
        [
            ("", {"page": ["1"], "page_size": ["25"]}),
            ("?page=3", {"page": ["3"], "page_size": ["25"]}),
            ("?page_size=10&stored=false", {"page": ["1"], "page_size": ["10"], "stored": ["false"]}),
            ("?page=2&page_size=101", {"page": ["2"], "page_size": ["100"]}),
        ],
    )
    def test_a_page_that_was_not_named_is_named_by_redirect(
        self, several: RunningRegistry, query: str, completed: dict[str, list[str]]
    ) -> None:
        for slash in ("", "/"):
            answer = several.ask("south", "GET", f"/replicate{slash}{query}")
            assert (answer.status_code, answer.content) == (302, b"")
            location = urlsplit(requests.compat.urljoin(answer.url, answer.headers["Location"]))
            assert location.path == f"/api-v2/replicate{slash}"
            assert parse_qs(location.query) == completed

    @pytest.mark.parametrize(
        "query", ["page=0", "page=-1", "page=x", "page_size=0", "page_size=1e2", "page=%D9%A1", "page="]
    )
    def test_a_page_that_cannot_be_is_an_empty_400(self, several: RunningRegistry, query: str) -> None:
        answer = several.ask("south", "GET", f"/bag?{query}")
        assert (answer.status_code, answer.content) == (400, b"")

    def test_the_envelope_leads_from_page_to_page(self, several: RunningRegistry) -> None:
        path, seen, sizes = "/bag/?page=1&page_size=2&admin_node=north", [], []
        while path:
            page = several.ask("south", "GET", path).json()
            assert list(page) == ["count", "next", "previous", "results", "total_size"]
            assert (page["count"], page["total_size"]) == (5, 15)
            seen += [row["uuid"] for row in page["results"]]
            sizes.append(len(page["results"]))
            assert (page["previous"] is None) == (len(sizes) == 1)
            path = (page["next"] or "").removeprefix(f"{several.url}/api-v2")
        assert (sorted(seen), sizes) == ([uuid(number) for number in range(1, 6)], [2, 2, 1])
        beyond = several.ask("south", "GET", "/bag?page=999999999&page_size=100").json()
        assert (beyond["count"], beyond["next"], beyond["results"]) == (5, None, [])

    def test_newest_first_when_asked_for(self, several: RunningRegistry) -> None:
        for order in ("updated_at", "created_at", "nonsense,updated_at", "updated_at,created_at"):
            assert [row["size"] for row in rows(several, f"/bag?order_by={order}")] == [5, 4, 3, 2, 1]
        assert rows(several, "/digest?order_by=updated_at,created_at")[0]["bag"] == uuid(5)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", {1, 2, 3}),
            (f"bag={uuid(1)}", {1, 2}),
            (f"bag={uuid(1).upper()}", {1, 2}),
            ("to_node=south", {1, 3}),
            ("to_node=West", {2}),
            ("from_node=north&to_node=south", {1, 3}),
            ("stored=false&cancelled=0&store_requested=No", {1, 2, 3}),
            ("stored=true", set()),
            ("after=2023-02-02T00:00:00Z", {2, 3}),
            ("after=2023-02-02T00:00:00.999Z", {2, 3}),
            ("after=2023-02-02T01:00:00+01:00", {2, 3}),
            ("before=2023-02-02T00:00:00Z", {1, 2}),
            ("after=2023-02-02T00:00:00Z&before=2023-02-02T00:00:00Z", {2}),
            ("after=2099-01-01T00:00:00Z", set()),
            ("bag_valid=true", {1, 2, 3}),
        ],
    )
    def test_transfers_are_filtered(self, several: RunningRegistry, query: str, expected: set[int]) -> None:
        found = rows(several, f"/replicate?{query}" if query else "/replicate")
        assert {row["replication_id"] for row in found} == {uuid(0x1000 + number) for number in expected}

    @pytest.mark.parametrize(
        "query",
        [
            f"bag={UNKNOWN}",
            "bag=1",
            "bag=",
            "to_node=mars",
            "to_node=",
            "from_node=-x",
            "from_node=%00",
            "cancel_reason=nobody-said-that",
            "cancel_reason=",
            "cancel_reason=%00",
        ],
    )
    def test_an_unknown_value_shows_nothing_never_everything(self, several: RunningRegistry, query: str) -> None:
        answer = several.ask("south", "GET", f"/replicate?page=1&page_size=25&{query}")
        assert (answer.status_code, answer.json()["count"], answer.json()["results"]) == (200, 0, [])

    @pytest.mark.parametrize(
        "query",
        [
            "stored=maybe",
            "stored=",
            "cancelled=2",
            "store_requested=null",
            "after=yesterday",
            "before=",
            "after=1",
        ],
    )
    def test_a_boolean_or_time_that_is_none_is_a_400_that_names_it(
        self, several: RunningRegistry, query: str
    ) -> None:
        answer = several.ask("south", "GET", f"/replicate?page=1&page_size=25&{query}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0].startswith(query.partition("=")[0])

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("bag_type=d", 5),
            ("bag_type=R", 0),
            ("bag_type=X", 0),
            ("admin_node=north", 5),
            ("admin_node=south", 0),
            ("ingest_node=north", 5),
            (f"member={uuid(0xFFFF)}", 5),
            (f"member={UNKNOWN}", 0),
            (f"first_version_uuid={uuid(3)}", 1),
            ("replicated_by=north", 5),
            ("replicated_by=south,north", 5),
            ("replicated_by=south", 0),
            ("replicated_by=", 0),
            ("replicating_nodes=north", 5),
        ],
    )
    def test_bags_are_filtered(self, several: RunningRegistry, query: str, expected: int) -> None:
        assert len(rows(several, f"/bag?{query}")) == expected

    def test_digests_are_listed_for_all_bags_and_for_one(self, several: RunningRegistry) -> None:
        assert len(rows(several, "/digest")) == 5
        assert len(rows(several, "/digest?after=2023-01-04T00:00:00Z")) == 2
        assert rows(several, f"/digest?bag={uuid(2)}") == rows(several, f"/bag/{uuid(2)}/digest/")
        assert rows(several, f"/bag/{UNKNOWN}/digest") == []

    def test_nodes_are_listed_without_their_secrets(self, several: RunningRegistry) -> None:
        found = rows(several, "/node")
        assert sorted(node["namespace"] for node in found) == ["north", "south", "west"]
        assert not any("token" in name or "credential" in name for node in found for name in node)


def spoil(registry: RunningRegistry, statement: str) -> None:
    with registry.sessions.begin() as session:
        session.connection().exec_driver_sql(statement)


def test_a_failure_that_nobody_expected_shows_nothing_of_its_cause(registry: RunningRegistry) -> None:
    spoil(registry, "UPDATE nodes SET protocols = 'no json' WHERE namespace = 'west'")
    answer = registry.ask("north", "GET", "/node/west")
    assert (answer.status_code, list(answer.json())) == (500, ["errors"])
    assert not any(word in answer.text for word in ("Traceback", "JSON", "no json", "Error"))
    assert registry.ask("north", "GET", "/node/north").status_code == 200


def test_a_database_that_does_not_answer_is_a_matter_of_time(registry: RunningRegistry) -> None:
    token = {"Authorization": f"Token token={registry.token('north')}"}
    spoil(registry, "DROP TABLE message_digests")
    answer = requests.get(f"{registry.url}/api-v2/bag/{uuid(1)}/digest/sha256", headers=token, timeout=10)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "message_digests" not in answer.text


def test_a_transfer_goes_all_the_way_over_the_wire(with_a_transfer: RunningRegistry) -> None:
    south = with_a_transfer.client("south")
    transfer = south.get_transfer(uuid(0x1001))
    confirmed = south.put_transfer(transfer.change(fixity_value=DIGEST))
    assert confirmed.store_requested
    stored = south.put_transfer(confirmed.change(stored=True))
    assert stored.stored
    bag = BagRecord.from_wire(with_a_transfer.ask("west", "GET", f"/bag/{uuid(1)}").json())
    assert bag.replicating_nodes == ("north", "south")
    assert bag.updated_at == with_a_transfer.clock.now()
