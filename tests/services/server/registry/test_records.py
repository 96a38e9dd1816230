"""The REST server's other records, what vouches for lists, and requests that nobody sends by mistake only."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from dpn.registry.catalogue import FIXITY_CHECKS, INGESTS, MEMBERS, RESTORES
from dpn.registry.records import Record
from tests.fixtures.archives import a_fixity_check, a_member, a_restore, an_ingest
from tests.fixtures.records import DIGEST, a_bag, a_digest, a_node, a_transfer, uuid
from tests.fixtures.registry import RunningRegistry, running_registry
from tests.services.registry.conftest import PEERS, post, put_in

UNKNOWN = uuid(0xDEAD)
NOW = "2024-01-02T03:04:05Z"
"""What the clock of these tests says."""
LISTS = (
    *("/node", "/member", "/bag", "/digest", "/fixity_check", "/ingest", "/replicate", "/restore"),
    *(f"/bag/{uuid(1)}/digest", f"/member/{uuid(0xFFFF)}/bags"),
)


def page(registry: RunningRegistry, path: str, caller: str = "south") -> requests.Response:
    """The first hundred of a list."""
    joiner = "&" if "?" in path else "?"
    answer = registry.ask(caller, "GET", f"{path}{joiner}page=1&page_size=100")
    assert answer.status_code == 200, answer.text
    return answer


def rows(registry: RunningRegistry, path: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = page(registry, path).json()["results"]
    return results


def send(registry: RunningRegistry, method: str, path: str, record: Record, caller: str = "north") -> Any:
    return registry.ask(caller, method, path, json=record.to_wire())


class TestMembers:
    def test_the_node_itself_records_and_renames_them(self, registry: RunningRegistry) -> None:
        first, path = a_member(), f"/member/{a_member().member_id}"
        assert (send(registry, "POST", "/member/", first).status_code, rows(registry, "/member")) == (
            201,
            [first.to_wire()],
        )
        assert registry.ask("south", "GET", path.upper().replace("/MEMBER", "/member")).json() == first.to_wire()
        renamed = send(registry, "PUT", path, a_member(name="Example College"))
        assert renamed.json() == a_member(name="Example College", updated_at=registry.clock.now()).to_wire()
        assert send(registry, "POST", "/member", first).status_code == 409
        assert send(registry, "PUT", f"/member/{UNKNOWN}", first).status_code == 404
        taken = send(registry, "POST", "/member", a_member(2, name="Example College"))
        assert (taken.status_code, len(rows(registry, "/member"))) == (400, 1)

    def test_nobody_else_does(self, registry: RunningRegistry) -> None:
        put_in(registry, MEMBERS, [a_member()])
        for method, path in (("POST", "/member"), ("PUT", f"/member/{a_member().member_id}")):
            assert send(registry, method, path, a_member(name="Mine"), "south").status_code == 403
        assert rows(registry, "/member") == [a_member().to_wire()]

    def test_their_bags_are_listed_as_bags_are(self, registry: RunningRegistry) -> None:
        member = a_member().member_id
        put_in(registry, MEMBERS, [a_member()])
        post(registry, a_bag(1, member=member, size=7), a_bag(2, member=member, size=5), a_bag(3))
        bags = page(registry, f"/member/{member}/bags").json()
        assert (bags["count"], bags["total_size"]) == (2, 12)
        for query, expected in [
            (f"first_version_uuid={uuid(2)}", [uuid(2)]),
            ("admin_node=south", []),
            (f"member={member}&first_version_uuid={uuid(1)}", [uuid(1)]),
            (f"member={UNKNOWN}", []),
            (f"member={uuid(0xFFFF)}", []),
        ]:
            assert [bag["uuid"] for bag in rows(registry, f"/member/{member}/bags?{query}")] == expected, query
        nobody = registry.ask("south", "GET", f"/member/{UNKNOWN}/bags?page=1&page_size=25")
        assert (nobody.status_code, nobody.content) == (404, b"")

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("name=Example%20University%201", 1),
            ("email=dpn@example.edu", 2),
            ("email=dpn@example.edu&name=Example+University+2", 1),
            ("name=Example", 0),
            ("name=", 0),
            ("name=%00", 0),
            ("name=%25", 0),
            ("after=2023-01-01T00:00:00Z", 2),
            ("before=2022-12-31T23:59:59Z", 0),
        ],
    )
    def test_they_are_found_by_name_email_and_time(
        self, registry: RunningRegistry, query: str, expected: int
    ) -> None:
        put_in(registry, MEMBERS, [a_member(1), a_member(2)])
        assert len(rows(registry, f"/member?{query}")) == expected


class TestStatements:
    """Fixity checks and Ingest records: said once, never changed."""

    @pytest.mark.parametrize(("path", "record"), [("/fixity_check", a_fixity_check()), ("/ingest", an_ingest())])
    def test_the_node_itself_says_them_once(self, registry: RunningRegistry, path: str, record: Record) -> None:
        assert send(registry, "POST", path, record).status_code == 400, "its bag is not known"
        post(registry, a_bag())
        assert send(registry, "POST", path, record, "south").status_code == 403
        before = len(rows(registry, path))
        said = send(registry, "POST", path + "/", record)
        assert (said.status_code, said.json()) == (201, record.to_wire())
        again = send(registry, "POST", path, record)
        assert (again.status_code, again.content) == (409, b"")
        assert len(rows(registry, path)) == before + 1
        for method in ("GET", "PUT", "DELETE"):
            assert registry.ask("north", method, f"{path}/{record.key[0]}").status_code == 404

    def test_no_check_is_recorded_before_it_was_made(self, registry: RunningRegistry) -> None:
        post(registry, a_bag())
        early = send(registry, "POST", "/fixity_check", a_fixity_check(created_at="2022-12-31T00:00:00Z"))
        assert early.status_code == 400
        wire = a_fixity_check().to_wire()
        del wire["created_at"]
        answer = registry.ask("north", "POST", "/fixity_check", json=wire)
        assert (answer.status_code, answer.json()["created_at"]) == (201, NOW)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Two bags, checked and counted at several times; these tests only read them."""
    folder = tmp_path_factory.mktemp("statements")
    with running_registry(
        "north", database_url=f"sqlite:///{folder / 'north.db'}", folder=folder, peers=PEERS
    ) as registry:
        post(registry, a_bag(1), a_bag(2), a_digest(1), a_digest(2, created_at="2023-01-02T00:00:00Z"))
        put_in(registry, FIXITY_CHECKS, [
            a_fixity_check(1, 1, created_at=day(1)),
            a_fixity_check(2, 1, created_at=day(2), success=False),
            a_fixity_check(3, 1, created_at=day(3), node="south"),
            a_fixity_check(4, 2, created_at=day(4)),
            a_fixity_check(5, 2, created_at=day(4)),
        ])  # fmt: skip
        put_in(registry, INGESTS, [
            an_ingest(1, 1, created_at=day(1)),
            an_ingest(2, 1, created_at=day(2), ingested=False),
            an_ingest(3, 2, created_at=day(3)),
        ])  # fmt: skip
        put_in(registry, RESTORES, [
            a_restore(1, 1, updated_at=day(1)),
            a_restore(2, 1, updated_at=day(2), accepted=True, link="there"),
            a_restore(3, 2, updated_at=day(3), cancelled=True, cancel_reason="reject", from_node="west"),
            a_restore(4, 2, updated_at=day(4), accepted=True, link="there", finished=True),
        ])  # fmt: skip
        yield registry


def day(number: int) -> str:
    return f"2023-01-{number:02}T00:00:00Z"


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", {1, 2, 3, 4, 5}),
            (f"bag={uuid(1)}", {1, 2, 3}),
            ("node=South", {3}),
            ("success=false", {2}),
            ("success=1", {1, 3, 4, 5}),
            (f"after={day(3)}", {3, 4, 5}),
            (f"after={day(2)}&before={day(3)}", {2, 3}),
            ("latest=true", {2, 3, 5}),
            ("latest=YES&node=north", {2, 5}),
            ("latest=true&success=true", {1, 3, 5}),
            (f"latest=true&before={day(1)}", {1}),
            ("latest=false", {1, 2, 3, 4, 5}),
            ("latest=true&node=mars", set()),
            ("node=mars", set()),
            ("node=", set()),
            (f"bag={UNKNOWN}", set()),
            ("bag=%00", set()),
        ],
    )
    def test_fixity_checks(self, several: RunningRegistry, query: str, expected: set[int]) -> None:
        found = rows(several, f"/fixity_check?{query}")
        assert {row["fixity_check_id"] for row in found} == {uuid(0x3000 + number) for number in expected}

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", {1, 2, 3}),
            ("ingested=true", {1, 3}),
            ("ingested=n", {2}),
            (f"bag={uuid(2)}", {3}),
            ("latest=t", {2, 3}),
            ("latest=true&ingested=true", {1, 3}),
            (f"before={day(2)}&latest=true", {2}),
            ("bag=nothing", set()),
        ],
    )
    def test_ingests(self, several: RunningRegistry, query: str, expected: set[int]) -> None:
        found = rows(several, f"/ingest?{query}")
        assert {row["ingest_id"] for row in found} == {uuid(0x2000 + number) for number in expected}

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", {1, 2, 3, 4}),
            (f"bag={uuid(1)}", {1, 2}),
            ("to_node=north&from_node=west", {3}),
            ("to_node=south", set()),
            ("accepted=true", {2, 4}),
            ("accepted=true&finished=false", {2}),
            ("cancelled=true", {3}),
            ("cancel_reason=reject", {3}),
            ("cancel_reason=other", set()),
            (f"after={day(2)}&before={day(3)}", {2, 3}),
        ],
    )
    def test_restores(self, several: RunningRegistry, query: str, expected: set[int]) -> None:
        found = rows(several, f"/restore?{query}")
        assert {row["restore_id"] for row in found} == {uuid(0x4000 + number) for number in expected}

    @pytest.mark.parametrize(
        "query", ["/fixity_check?success=maybe", "/ingest?ingested=", "/restore?accepted=2", "/ingest?latest=x"]
    )
    def test_a_boolean_that_is_none_is_a_400_with_or_without_a_page(
        self, several: RunningRegistry, query: str
    ) -> None:
        for paging in ("", "&page=1&page_size=25"):
            answer = several.ask("south", "GET", query + paging)
            assert (answer.status_code, len(answer.json()["errors"])) == (400, 1)

    def test_pages_of_the_latest_fit_together(self, several: RunningRegistry) -> None:
        pages = [
            several.ask("south", "GET", f"/fixity_check?latest=true&page={number}&page_size=2").json()
            for number in (1, 2, 3)
        ]
        assert [each["count"] for each in pages] == [3, 3, 3]
        assert [each["next"] is None for each in pages] == [False, True, True]
        seen = [row["fixity_check_id"] for each in pages for row in each["results"]]
        assert sorted(seen) == [uuid(0x3000 + number) for number in (2, 3, 5)]

    @pytest.mark.parametrize("path", ["/digest", "/fixity_check", "/ingest"])
    @pytest.mark.parametrize("order", ["updated_at", "created_at", "updated_at,created_at"])
    def test_what_never_changes_is_ordered_by_its_creation(
        self, several: RunningRegistry, path: str, order: str
    ) -> None:
        times = [row["created_at"] for row in rows(several, f"{path}?order_by={order}")]
        assert times == sorted(times, reverse=True)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("after=0001-01-01T00:00:00Z", 2),
            ("after=0000-01-01T00:00:00Z", 2),
            ("before=0001-01-01T00:00:00Z", 0),
            ("after=9999-12-31T23:59:59Z", 0),
            ("before=9999-12-31T23:59:59.999999999Z", 2),
        ],
    )
    def test_a_time_before_or_after_all_records_is_a_time(
        self, several: RunningRegistry, query: str, expected: int
    ) -> None:
        for path in ("/bag", "/digest"):
            assert len(rows(several, f"{path}?{query}")) == expected

    def test_a_time_before_all_records_must_still_be_one(self, several: RunningRegistry) -> None:
        for text in ("0001-13-01T00:00:00Z", "0001-01-01", "0001-01-01T00:00:00", "9999-02-30T00:00:00Z"):
            assert several.ask("south", "GET", f"/bag?page=1&page_size=25&after={text}").status_code == 400


class TestRestores:
    def test_one_goes_all_the_way_over_the_wire(self, registry: RunningRegistry) -> None:
        post(registry, a_bag())
        restore, path = a_restore(), f"/restore/{a_restore().restore_id}"
        assert send(registry, "POST", "/restore", restore, "south").status_code == 403
        assert send(registry, "POST", "/restore", restore).status_code == 201
        assert send(registry, "POST", "/restore", restore).status_code == 409
        assert send(registry, "PUT", path, restore.change(accepted=True), "west").status_code == 403
        accepted = send(registry, "PUT", path, restore.change(accepted=True), "south")
        assert (accepted.status_code, accepted.json()["accepted"]) == (200, True)
        staged = restore.change(accepted=True, link="dpn.north@south.example.org:out.tar")
        assert send(registry, "PUT", path, staged.change(finished=True), "south").status_code == 400
        assert send(registry, "PUT", path, staged, "south").status_code == 200
        elsewhere = send(registry, "PUT", path, staged.change(link="elsewhere"), "south")
        assert elsewhere.json() == {"errors": ["Link is marked read-only but was changed."]}
        assert send(registry, "PUT", path, staged.change(finished=True)).json()["finished"] is True
        assert send(registry, "PUT", path, staged.change(cancelled=True), "south").status_code == 400
        assert send(registry, "PUT", f"/restore/{UNKNOWN}", restore).status_code == 404


class TestCopies:
    def test_a_bag_that_reaches_its_copies_gets_its_ingest_record(self, registry: RunningRegistry) -> None:
        assert registry.settings.ingest.copies == 3
        post(registry, a_bag(), a_digest(), a_transfer(1), a_transfer(2, to_node="west"))
        for number, node in ((1, "south"), (2, "west")):
            assert rows(registry, "/ingest") == []
            transfer = a_transfer(number, to_node=node, fixity_value=DIGEST)
            path = f"/replicate/{transfer.replication_id}"
            assert send(registry, "PUT", path, transfer, node).json()["store_requested"] is True
            stored = transfer.change(store_requested=True, stored=True)
            assert send(registry, "PUT", path, stored, node).status_code == 200
        reached = rows(registry, "/ingest")
        assert [(one["ingested"], one["replicating_nodes"]) for one in reached] == [
            (True, ["north", "south", "west"])
        ]
        lost = a_bag(replicating_nodes=("north", "south"))
        assert send(registry, "PUT", f"/bag/{lost.uuid}", lost).status_code == 200
        assert [one["ingested"] for one in rows(registry, "/ingest?latest=true")] == [False]

    def test_a_bag_that_is_recorded_with_its_copies_gets_it_at_once(self, registry: RunningRegistry) -> None:
        post(registry, a_bag(replicating_nodes=("north", "south", "west")))
        assert [one["ingested"] for one in rows(registry, "/ingest")] == [True]


class TestListState:
    def test_every_list_has_one_whatever_page_and_filter(self, several: RunningRegistry) -> None:
        put_in(several, MEMBERS, [a_member(member_id=uuid(0xFFFF))])
        for path in LISTS:
            states = {
                several.ask("south", method, f"{path}?{query}").headers["DPN-List-State"]
                for query in ("page=1&page_size=1", "page=7&page_size=100", "page=1&page_size=1&bag=x&name=x")
                for method in ("GET", "HEAD")
            }
            assert len(states) == 1, path
            assert all(0 < len(state) < 256 and state.isprintable() for state in states)

    @pytest.mark.parametrize(
        ("path", "method", "written", "changed"),
        [
            ("/member", "POST", a_member(2), a_member(2, name="Another")),
            (f"/member/{a_member().member_id}/bags", "POST", a_bag(2), None),
            ("/bag?replicated_by=south", "PUT", a_bag(replicating_nodes=("north", "south")), None),
            (f"/bag/{uuid(3)}/digest", "POST", a_digest(3), None),
            ("/fixity_check?latest=true", "POST", a_fixity_check(), None),
            ("/ingest", "POST", an_ingest(), None),
            ("/replicate", "PUT", a_transfer(fixity_value=DIGEST), None),
            ("/restore", "POST", a_restore(), None),
            ("/node", "POST", a_node("east"), None),
        ],
    )
    def test_it_changes_with_every_record_and_only_then(
        self, registry: RunningRegistry, path: str, method: str, written: Record, changed: Record | None
    ) -> None:
        put_in(registry, MEMBERS, [a_member()])
        post(registry, a_bag(), a_digest(), a_transfer(), a_bag(3))
        where = {"MemberRecord": "/member", "BagRecord": "/bag", "DigestRecord": f"/bag/{uuid(3)}/digest"}
        where |= {"FixityCheckRecord": "/fixity_check", "IngestRecord": "/ingest", "NodeRecord": "/node"}
        where |= {"ReplicationRecord": "/replicate", "RestoreRecord": "/restore"}
        place = where[type(written).__name__]

        def state() -> str:
            return page(registry, path).headers["DPN-List-State"]

        before = state()
        assert state() == before
        first = send(registry, method, f"{place}/{written.key[0]}" if method == "PUT" else place, written)
        assert first.status_code in (200, 201), first.text
        after = state()
        assert after != before
        refused = send(registry, "POST", place, written)
        assert (refused.status_code, state()) == (409, after)
        if changed is not None:
            assert send(registry, "PUT", f"{place}/{changed.key[0]}", changed).status_code == 200
            assert state() != after


class TestOddRequests:
    @pytest.mark.parametrize("path", ["/version", "/node/north", "/bag?page=1&page_size=5", "/bag", "/bag/1"])
    def test_head_is_get_without_the_body(self, registry: RunningRegistry, path: str) -> None:
        post(registry, a_bag())
        get, head = registry.ask("south", "GET", path), registry.ask("south", "HEAD", path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        ignored = {"date"}
        assert {name: value for name, value in head.headers.items() if name not in ignored} == {
            name: value for name, value in get.headers.items() if name not in ignored
        }
        assert requests.head(f"{registry.url}/api-v2{path}", timeout=10).status_code == 401

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("/bag", "GET, HEAD, POST"),
            ("/bag/", "GET, HEAD, POST"),
            (f"/bag/{uuid(1)}", "GET, HEAD, PUT"),
            ("/ingest", "GET, HEAD, POST"),
            ("/version", "GET, HEAD"),
            (f"/bag/{uuid(1)}/digest/sha256", "GET, HEAD"),
        ],
    )
    def test_a_method_that_is_not_served_is_told_which_are(
        self, registry: RunningRegistry, path: str, allowed: str
    ) -> None:
        for method in ("DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "GETS"):
            answer = registry.ask("south", method, path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, allowed), method

    def test_a_page_far_beyond_the_end_is_empty_and_quick(self, several: RunningRegistry) -> None:
        for path in LISTS[:-1]:
            started = time.monotonic()
            answer = several.ask("south", "GET", f"{path}?page=999999999&page_size=100&order_by=updated_at")
            assert (answer.status_code, answer.json()["results"], answer.json()["next"]) == (200, [], None)
            assert time.monotonic() - started < 2

    @pytest.mark.parametrize("digits", ["1000000000", "9" * 30, "9" * 6000])
    def test_numbers_without_end_are_no_pages_and_the_largest_of_sizes(
        self, several: RunningRegistry, digits: str
    ) -> None:
        assert several.ask("south", "GET", f"/bag?page={digits}&page_size=1").status_code == 400
        answer = several.ask("south", "GET", f"/bag?page=1&page_size={digits}")
        assert (answer.status_code, answer.headers["Location"]) == (302, "?page=1&page_size=100")

    def test_of_a_parameter_that_stands_twice_the_last_counts(self, several: RunningRegistry) -> None:
        twice = several.ask("south", "GET", "/bag?page=9&page=1&page_size=1&page_size=25&bag_type=R&bag_type=D")
        assert (twice.status_code, twice.json()["count"], len(twice.json()["results"])) == (200, 2, 2)
        assert len(rows(several, f"/digest?bag={uuid(1)}&bag={UNKNOWN}")) == 0

    @pytest.mark.parametrize(
        "target",
        [
            "/api-v2/bag/%00",
            "/api-v2/member/%00/bags?page=1&page_size=25",
            "/api-v2/bag/%ff%fe",
            "/api-v2/node/../../etc/passwd",
            "/api-v2//bag",
            "/api-v2/bag//",
            "/api-v2/bag/%2e%2e/node",
            "/api-v2",
            "/api-v2/",
            "/",
            "//",
            "/api-v2/restore/" + "a" * 4000,
            "*",
        ],
    )
    def test_a_path_that_is_none_is_a_404(self, registry: RunningRegistry, target: str) -> None:
        assert raw(registry, target) == 404

    @pytest.mark.parametrize("target", ["/api-v2/bag?page=1&page_size=25&member=%00&admin_node=%ED%A0%80&x=%zz"])
    def test_a_query_that_is_none_matches_nothing(self, registry: RunningRegistry, target: str) -> None:
        assert raw(registry, target) == 200


def raw(registry: RunningRegistry, target: str) -> int:
    """The status of a GET of exactly this."""
    connection = http.client.HTTPConnection(urlsplit(registry.url).netloc, timeout=10)
    try:
        connection.putrequest("GET", target, skip_accept_encoding=True)
        connection.putheader("Authorization", f"Token {registry.token('south')}")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_record_without_times_gets_ours(registry: RunningRegistry) -> None:
    wire = a_member().to_wire() | {"created_at": None}
    del wire["updated_at"]
    answer = registry.ask("north", "POST", "/member", json=wire).json()
    assert (answer["created_at"], answer["updated_at"]) == (NOW, NOW)
    assert registry.ask("north", "POST", "/member", json=wire | {"created_at": ""}).status_code == 400
