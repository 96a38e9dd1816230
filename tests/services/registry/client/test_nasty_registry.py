"""Another implementation of the registry, as nasty as it can be, makes us lose, double, change or leak nothing."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dpn.clock import ManualClock
from dpn.database import open_engine, open_sessions, reading
from dpn.errors import Misconfigured, PeerRefused, PeerUnavailable
from dpn.registry.catalogue import KINDS, NODES, batches, ensure_nodes
from dpn.registry.catalogue.rows import save
from dpn.registry.client import IncompleteList, RegistryClient, RejectedRecord
from dpn.registry.records import Record
from models.base import Base
from tests.fixtures.nasty.registry import NastyRegistry, Row, Trap
from tests.fixtures.registry import node_settings, peer_settings
from workers.sync.sync import Sync

TOKEN = "the-token-that-north-gave-us"
OPENING = datetime(2024, 6, 1, 12, tzinfo=UTC)
Records = dict[str, dict[tuple[str, ...], Record]]

MAY_BE_SHORT = {Trap.NO_ORDER, Trap.COUNT_TOO_LARGE, Trap.ENDS_EARLY, Trap.MOVING, Trap.LEAVING}
"""With these a walk may say that it is not sure to have seen all."""

PASSING = {Trap.HTML_ERRORS, Trap.EMPTY_ERRORS, Trap.REDIRECT_ELSEWHERE, Trap.ENDS_EARLY}
"""What happens now and then, and makes rounds of a sync break off."""


SHOW_MORE_THAN_THEY_COUNT = {Trap.COUNT_TOO_SMALL, Trap.OTHERS_ROWS, Trap.FORGED_ROWS, Trap.BROKEN_ROWS}


def can_be_had_whole(traps: set[Trap]) -> bool:
    """Whether anybody could be sure to have read everything. See the walk's docstring for what nobody can."""
    counts_are_wrong = bool(traps & SHOW_MORE_THAN_THEY_COUNT)
    if Trap.NO_ORDER in traps and (counts_are_wrong or Trap.LEAVING in traps):
        return False
    return not (Trap.LEAVING in traps and (counts_are_wrong or Trap.MOVING in traps))


def uuid(space: int, number: int) -> str:
    return f"00000000-0000-4000-a{space:03x}-{number:012x}"


def bag(number: int, owner: str = "north", **fields: Any) -> Row:
    identity = uuid(1, number)
    return {
        "uuid": identity, "local_id": f"{owner}/{number}", "member": uuid(0, 1), "size": 1000 + number,
        "first_version_uuid": identity, "version": 1, "bag_type": "D", "rights": [], "interpretive": [],
        "ingest_node": owner, "admin_node": owner, "replicating_nodes": [owner],
    } | fields  # fmt: skip


def digest(number: int, owner: str = "north", **fields: Any) -> Row:
    return {"bag": uuid(1, number), "algorithm": "sha256", "node": owner, "value": f"{number:064x}"} | fields


def ingest(number: int, of: int, **fields: Any) -> Row:
    nodes = ["north", "south", "west"]
    return {
        "ingest_id": uuid(2, number), "bag": uuid(1, of), "ingested": True, "replicating_nodes": nodes
    } | fields  # fmt: skip


def check(number: int, of: int, node: str = "north", **fields: Any) -> Row:
    return {
        "fixity_check_id": uuid(3, number), "bag": uuid(1, of), "node": node, "success": True,
        "fixity_at": "2024-01-01T00:00:00Z",
    } | fields  # fmt: skip


def transfer(number: int, of: int, owner: str = "north", to: str = "south", **fields: Any) -> Row:
    return {
        "replication_id": uuid(4, number), "bag": uuid(1, of), "from_node": owner, "to_node": to,
        "fixity_algorithm": "sha256", "fixity_nonce": None, "fixity_value": None, "protocol": "rsync",
        "link": f"{to}@north.example.org:{number}.tar", "store_requested": False, "stored": False,
        "cancelled": False, "cancel_reason": None, "cancel_reason_detail": None,
    } | fields  # fmt: skip


def restore(number: int, of: int, owner: str = "north", holder: str = "south", **fields: Any) -> Row:
    return {
        "restore_id": uuid(5, number), "bag": uuid(1, of), "from_node": holder, "to_node": owner,
        "protocol": "rsync", "link": None, "accepted": False, "finished": False,
        "cancelled": False, "cancel_reason": None, "cancel_reason_detail": None,
    } | fields  # fmt: skip


def member(number: int, **fields: Any) -> Row:
    return {"member_id": uuid(0, number), "name": f"member {number}", "email": f"{number}@example.org"} | fields


def node(namespace: str) -> Row:
    return {
        "name": namespace, "namespace": namespace, "api_root": f"https://{namespace}.example.org",
        "ssh_pubkey": None, "replicate_from": [], "replicate_to": [], "restore_from": [], "restore_to": [],
        "protocols": ["rsync"], "fixity_algorithms": ["sha256"], "storage": {"region": "r", "type": "t"},
    }  # fmt: skip


STAMPED = {"created_at": "2024-05-01T00:00:00Z", "updated_at": "2024-05-01T00:00:00Z"}


def what_is_not_norths() -> dict[str, list[Row]]:
    """Records of ours (bags from 100 on) and of west's (from 200 on), as our registry has them."""
    ours, wests = range(100, 103), range(200, 203)
    return {
        "member": [member(50) | STAMPED],
        "bag": [bag(n, "south") | STAMPED for n in ours] + [bag(n, "west") | STAMPED for n in wests],
        "digest": [digest(n, "south") | STAMPED for n in ours] + [digest(n, "west") | STAMPED for n in wests],
        "ingest": [ingest(n, n) | STAMPED for n in (*ours, *wests)],
        "fixity_check": [check(n, n, "south") | STAMPED for n in ours]
        + [check(n, n, "west") | STAMPED for n in wests],
        "replicate": [transfer(n, n, "south", "north") | STAMPED for n in ours]
        + [transfer(n, n, "west", "south") | STAMPED for n in wests],
        "restore": [restore(n, n, "south", "north") | STAMPED for n in ours]
        + [restore(n, n, "west", "north") | STAMPED for n in wests],
    }


def passed_on() -> dict[str, list[Row]]:
    """What others own, in north's lists, worse than it is; and a few of theirs that we do not know at all."""
    spoils = {
        "member": {"name": "renamed by north"}, "bag": {"local_id": "renamed"}, "digest": {"value": "ee" * 32},
        "ingest": {"ingested": False}, "fixity_check": {"success": False},
        "replicate": {"cancelled": True, "cancel_reason": "other"},
        "restore": {"cancelled": True, "cancel_reason": "other"},
    }  # fmt: skip
    later = {"updated_at": "2024-06-01T12:00:00Z"}
    known = {
        kind: [
            row | spoils[kind] | (later if kind in ("member", "bag", "replicate", "restore") else {})
            for row in rows
        ]
        for kind, rows in what_is_not_norths().items()
    }
    known["bag"].append(bag(300, "west") | STAMPED)
    known["digest"].append(digest(300, "west") | STAMPED)
    known["replicate"].append(transfer(300, 200, "west", "south") | STAMPED)
    known["restore"].append(restore(300, 200, "west", "south") | STAMPED)
    known["fixity_check"].append(check(300, 200, "west") | STAMPED)
    known["ingest"].append(ingest(300, 200) | STAMPED)
    return known


def forged() -> dict[str, list[Row]]:
    """Records that name north as their owner, of bags that are not north's."""
    later = STAMPED | {"updated_at": "2024-06-01T12:00:00Z"}
    return {
        "bag": [bag(n, "north") | later for n in (100, 200)],
        "digest": [digest(n, "north", value="dd" * 32) | STAMPED for n in (101, 201)],
        "ingest": [ingest(400, 100, ingested=False) | STAMPED],
        "fixity_check": [check(200, 200, "north", success=False) | STAMPED],
        "replicate": [transfer(400, 100, "north", "south") | later, transfer(200, 200, "north", "south") | later],
        "restore": [restore(100, 100, "north", "south") | later],
    }


def fill(registry: NastyRegistry) -> None:
    """What north honestly has."""
    for name in ("north", "south", "west"):
        registry.put("node", node(name))
    for n in range(1, 13):
        registry.put("member", member(n))
    for n in range(1, 31):
        letter = "I" if n <= 2 else "R" if n <= 4 else "D"
        refers = {"interpretive": [uuid(1, 1)], "rights": [uuid(1, 3)]} if letter == "D" else {}
        add_bag(registry, n, bag_type=letter, **refers)
    if Trap.FAR_STAMPS in registry.traps:
        far = [(31, "1970-01-02T00:00:00Z"), (32, "2199-12-31T23:59:59Z")]
        for n, stamp in far:
            times = {"created_at": stamp, "updated_at": stamp}
            registry.put("bag", bag(n) | times)
            registry.put("digest", digest(n) | {"created_at": stamp})
            registry.put("replicate", transfer(n, n) | times)


def add_bag(registry: NastyRegistry, n: int, **fields: Any) -> None:
    """A bag with all that belongs to it. Its clock goes on in between, as slowly as clocks do."""
    registry.now += timedelta(seconds=n % 3)
    registry.put("bag", bag(n, **fields))
    registry.put("digest", digest(n))
    registry.put("ingest", ingest(n, n))
    registry.put("fixity_check", check(n, n))
    registry.put("replicate", transfer(n, n, to="south" if n % 2 else "west"))
    registry.put("restore", restore(n, n, holder="south" if n % 3 else "west"))


def goes_on(registry: NastyRegistry, n: int) -> None:
    """What happens at north in the course of things."""
    registry.change("member", uuid(0, n % 12 + 1), name=f"renamed {n}")
    registry.change("bag", uuid(1, n % 30 + 1), replicating_nodes=["north", "west"])
    registry.change("replicate", uuid(4, n % 30 + 1), cancelled=True, cancel_reason="other")
    registry.change("restore", uuid(5, n % 30 + 1), cancelled=True, cancel_reason="reject")
    add_bag(registry, 500 + n)


def restless(registry: NastyRegistry, *, first: int, times: int) -> Callable[[str], None]:
    """Something changes before a page is made, so many times."""
    left = iter(range(first, first + times))
    leavers = iter(range(first, first + times))

    def on_list(kind: str) -> None:
        if Trap.MOVING in registry.traps and (n := next(left, None)) is not None:
            goes_on(registry, 7 * n)
        if Trap.LEAVING in registry.traps and (n := next(leavers, None)) is not None:
            rows = registry.rows(kind)
            if kind not in ("bag", "node", "member") and len(rows) > 8:
                gone = rows[n % len(rows)]
                registry.remove(kind, *(gone[name] for name in _kind(kind).record.KEY))

    return on_list


def _kind(name: str) -> Any:
    return next(kind for kind in KINDS if kind.name == name)


def as_records(rows: list[Row], kind: str) -> dict[tuple[str, ...], Record]:
    records = [_kind(kind).record.from_wire(row) for row in rows]
    return {record.key: record for record in records}


class Elsewhere:
    """A server that nobody should ever call."""

    def __enter__(self) -> Elsewhere:
        self.seen: list[str] = []
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                elsewhere.seen.append(f"{self.command} {self.path} {self.headers}")
                self.send_error(404)

            do_PUT = do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        yield server


def a_registry(traps: set[Trap], elsewhere: Elsewhere, seed: int = 0) -> NastyRegistry:
    """North's, with its records and a few to a page."""
    registry = NastyRegistry(
        "north", TOKEN, traps=traps, seed=seed, page_size=12, elsewhere=elsewhere.url, now=OPENING
    )
    fill(registry)
    if Trap.OTHERS_ROWS in traps:
        registry.others = passed_on()
    if Trap.FORGED_ROWS in traps:
        registry.others = {
            kind: registry.others.get(kind, []) + rows for kind, rows in (forged() | {"x": []}).items()
        } | {kind: rows for kind, rows in registry.others.items() if kind not in forged()}
    return registry


def a_client(registry: NastyRegistry) -> RegistryClient:
    form = "token" if Trap.SPECIFIED_AUTHORIZATION in registry.traps else "token-parameter"
    return RegistryClient("north", peer_settings(registry.url, token=TOKEN, authorization=form))


class OurNode:
    """South: a real database, and the real sync of north into it."""

    def __init__(self, template: Path, folder: Path, registry: NastyRegistry) -> None:
        file = folder / "south.db"
        shutil.copy(template, file)
        self._engine = open_engine(f"sqlite:///{file}")
        self.sessions = open_sessions(self._engine)
        self.clock = ManualClock(OPENING)
        self.registry = registry
        self.sync = Sync({"north": a_client(registry)}, self.sessions, self.clock, structlog.get_logger())

    def close(self) -> None:
        self._engine.dispose()

    def settle(self, most: int = 25) -> None:
        """Syncs until a round had nothing in its way, and nothing changed meanwhile."""
        may_be_short = Trap.COUNT_TOO_LARGE in self.registry.traps
        for _ in range(most):
            before = dict(self.registry.troubles_left), self.registry.changes
            [result] = self.sync.run()
            self.clock.advance(60)
            self.registry.now += timedelta(seconds=60)
            errors = [text for text in (result.error, *(one.error for one in result.types.values())) if text]
            was_quiet = before == (self.registry.troubles_left, self.registry.changes)
            if was_quiet and all(may_be_short and "short" in text for text in errors):
                return
        raise AssertionError(f"no round came to its end: {errors}")

    def records(self) -> Records:
        with reading(self.sessions) as session:
            return {
                kind.name: {record.key: record for batch in batches(session, kind) for record in batch}
                for kind in KINDS
                if kind is not NODES
            }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """South's database before it has heard of north."""
    file = tmp_path_factory.mktemp("south") / "template.db"
    engine = open_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    with open_sessions(engine).begin() as session:
        our_settings = node_settings(
            "south", database_url="sqlite://", folder=file.parent, peers=("north", "west")
        )
        ensure_nodes(session, our_settings.node, our_settings.peers, now=OPENING)
        for kind, rows in what_is_not_norths().items():
            save(session, _kind(kind), list(as_records(rows, kind).values()))
    engine.dispose()
    return file


# What the client makes of it.

LISTS: dict[str, Callable[[RegistryClient], Iterator[list[Any]]]] = {
    "member": lambda client: client.list_members(),
    "bag": lambda client: client.list_bags(admin_node="north"),
    "digest": lambda client: client.list_digests(node="north"),
    "ingest": lambda client: client.list_ingests(),
    "fixity_check": lambda client: client.list_fixity_checks(node="north"),
    "replicate": lambda client: client.list_transfers(from_node="north"),
    "restore": lambda client: client.list_restores(to_node="north"),
}
STEADY = sorted(set(Trap) - PASSING)


@pytest.mark.parametrize("trap", STEADY)
def test_every_list_is_read_whole_by_the_client_or_said_to_be_short(trap: Trap, elsewhere: Elsewhere) -> None:
    with a_registry({trap}, elsewhere) as registry:
        client = a_client(registry)
        for kind, read in LISTS.items():
            keys, rejected = set(), 0
            before = set(as_records(registry.rows(kind), kind))
            try:
                for page in read(client):
                    keys |= {row.key for row in page if not isinstance(row, RejectedRecord)}
                    rejected += sum(isinstance(row, RejectedRecord) for row in page)
            except IncompleteList:
                assert trap in MAY_BE_SHORT
            if trap is not Trap.NO_ORDER:
                assert before <= keys, kind
            if trap is Trap.OTHERS_ROWS and kind not in ("member", "ingest"):  # these name no owner
                assert keys == before, "what was not asked for was taken for an answer"
            assert rejected == 0 or trap in (Trap.OTHERS_ROWS, Trap.FORGED_ROWS, Trap.BROKEN_ROWS), kind
    assert elsewhere.seen == []


def test_a_verdict_and_the_wrong_author_are_understood_from_it(elsewhere: Elsewhere) -> None:
    with a_registry(set(), elsewhere) as registry:
        client = a_client(registry)
        first, second = (client.get_transfer(uuid(4, n)) for n in (1, 2))
        assert client.put_transfer(first.change(fixity_value=f"{1:064x}")).store_requested
        assert json.loads(registry.seen[-1].body).keys() >= registry.rows("replicate")[0].keys() - {"updated_at"}
        with pytest.raises(PeerRefused, match="403"):
            client.put_transfer(second.change(fixity_value=f"{2:064x}"))
        ours = client.get_restore(uuid(5, 1))
        assert client.put_restore(ours.change(accepted=True)).accepted


def test_a_restore_is_answered_with_the_record_itself_or_not_at_all(elsewhere: Elsewhere) -> None:
    with a_registry(set(), elsewhere) as registry:
        client = a_client(registry)
        ours = client.get_restore(uuid(5, 1).upper())
        put = client.put_restore(ours.change(accepted=True, link="south@south.example.org:1.tar"))
        assert (put.accepted, put.link) == (True, "south@south.example.org:1.tar")
        with pytest.raises(PeerRefused) as refusal:
            client.put_restore(ours.change(protocol="other"))
        assert (refusal.value.status, refusal.value.message) == (
            400,
            "Protocol is marked read-only but was changed.",
        )
        registry.traps.add(Trap.IDENTITY_CHANGES)
        with pytest.raises(PeerUnavailable, match="another record than was asked for: bag"):
            client.put_restore(ours)


def test_a_member_is_got_by_its_id(elsewhere: Elsewhere) -> None:
    with a_registry({Trap.DRESSED_UP}, elsewhere) as registry:
        client = a_client(registry)
        assert client.get_member(uuid(0, 7).upper()).name == "member 7"
        with pytest.raises(PeerRefused, match="404"):
            client.get_member(uuid(0, 99))


def test_the_token_is_shown_in_the_form_that_the_settings_name_and_a_401_names_the_setting(
    elsewhere: Elsewhere,
) -> None:
    with a_registry({Trap.SPECIFIED_AUTHORIZATION}, elsewhere) as registry:
        assert a_client(registry).get_node("north").namespace == "north"
        assert registry.seen[-1].authorization == f"token {TOKEN}"
        wrong = RegistryClient("north", peer_settings(registry.url, token=TOKEN))
        with pytest.raises(Misconfigured, match=r'peers\.north\.authorization than "token-parameter"'):
            wrong.get_node("north")
        assert registry.seen[-1].authorization == f"Token token={TOKEN}"


def test_a_lists_state_is_asked_for_with_its_filters_and_believed_within_reason(elsewhere: Elsewhere) -> None:
    with a_registry({Trap.RESTLESS_STATE}, elsewhere) as registry:
        client = a_client(registry)
        first, second = (
            client.list_state("replicate", from_node="north", stored=False, bag=None) for _ in range(2)
        )
        assert first != second
        assert "replicate/?from_node=north&stored=false&page=1&page_size=1" in registry.seen[-1].path
        registry.traps = {Trap.NOISY_STATE}
        assert client.list_state("bag") is None
        registry.traps = set()
        assert client.list_state("bag") is None


def test_what_the_clock_shows_there_is_told(elsewhere: Elsewhere) -> None:
    with a_registry(set(), elsewhere) as registry:
        client = a_client(registry)
        assert client.time_there is None
        client.get_node("north")
        assert client.time_there == registry.now


# What our sync makes of it.


def prove(traps: set[Trap], template: Path, folder: Path, elsewhere: Elsewhere, seed: int = 0) -> None:
    """North is synced, goes on, and is synced again; everything that is promised is checked."""
    at_first = traps - {Trap.IDENTITY_CHANGES}  # nobody can know what the first lie hides
    with a_registry(at_first, elsewhere, seed) as registry:
        us = OurNode(template, folder, registry)
        try:
            others = us.records()
            registry.on_list = restless(registry, first=0, times=8)
            us.settle()
            nothing_is_lost_or_doubled(us, others)
            before = us.records()
            registry.traps = traps
            registry.now += timedelta(hours=2)
            us.clock.advance(7200)
            for n in range(1, 6):
                goes_on(registry, 200 + n)
            registry.on_list = restless(registry, first=8, times=4)
            registry.troubles_left = {None: 4, Trap.CLOCK_STEPS_BACK: 2}
            us.settle()
            if Trap.IDENTITY_CHANGES in traps:
                nothing_is_another(us.records(), before)
            else:
                nothing_is_lost_or_doubled(us, others)
            nothing_leaked(registry, elsewhere)
        finally:
            us.close()


def nothing_is_lost_or_doubled(us: OurNode, others: Records) -> None:
    """North's honest records are here as they are there, nothing else is, and what is not north's is as ever."""
    found = us.records()
    traps = us.registry.traps
    for kind, here in found.items():
        there = as_records(us.registry.rows(kind), kind)
        spoilt = {key for key, record in others[kind].items() if here.get(key) != record}
        assert not spoilt, f"{kind}: others' records changed: {spoilt}"
        if can_be_had_whole(traps):
            assert not there.keys() - here.keys(), f"{kind}: lost {sorted(there.keys() - here.keys())}"
        if Trap.LEAVING not in traps:
            assert here.keys() - there.keys() == others[kind].keys(), f"{kind}: not what there is"
        hidden = {"created_at"} if Trap.RESTAMPED in traps else set()
        for key, record in there.items() if can_be_had_whole(traps) else ():
            seen, told = (one.model_dump(exclude=hidden) for one in (here[key], record))
            assert seen == told, f"{kind} {key}: not as it is"


NEVER_CHANGES = {
    "bag", "size", "first_version_uuid", "version", "ingest_node", "protocol", "value", "success", "ingested",
}  # fmt: skip


def nothing_is_another(here: Records, before: Records) -> None:
    """What never changes has not, whatever has been said since."""
    for kind, records in before.items():
        for key, record in records.items():
            fixed = NEVER_CHANGES & type(record).model_fields.keys()
            assert here[kind][key].model_dump(include=fixed) == record.model_dump(include=fixed), f"{kind} {key}"


def nothing_leaked(registry: NastyRegistry, elsewhere: Elsewhere) -> None:
    assert elsewhere.seen == [], "another server was called"
    form = "token " if Trap.SPECIFIED_AUTHORIZATION in registry.traps else "Token token="
    assert {asked.authorization for asked in registry.seen} == {form + TOKEN}
    assert {asked.method for asked in registry.seen} == {"GET"}, "a sync wrote to its peer"
    assert not any(asked.body for asked in registry.seen), "a sync told its peer of our records"
    assert not any(TOKEN in asked.path for asked in registry.seen)


def test_without_any_trap_all_is_synced(template: Path, tmp_path: Path, elsewhere: Elsewhere) -> None:
    prove(set(), template, tmp_path, elsewhere)


@pytest.mark.parametrize("trap", list(Trap))
def test_no_trap_alone_costs_doubles_changes_or_leaks_a_record(
    trap: Trap, template: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    prove({trap}, template, tmp_path, elsewhere)


@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(traps=st.sets(st.sampled_from(list(Trap)), min_size=2, max_size=8), seed=st.integers(0, 2**16))
def test_no_traps_together_cost_double_change_or_leak_a_record(
    traps: set[Trap], seed: int, template: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    prove(traps, template, tmp_path, elsewhere, seed)
