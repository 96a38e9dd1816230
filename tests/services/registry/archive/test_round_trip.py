"""Whatever the registry holds comes out of an archive as it went in, byte for byte."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions
from dpn.registry.archive import ArchiveReader, Import, check, export
from dpn.registry.records import (
    BagRecord,
    DigestRecord,
    FixityCheckRecord,
    IngestRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    RestoreRecord,
)
from models.base import Base
from models.registry import MemberSource
from tests.fixtures.archives import put_all

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)
PROSE = st.none() | st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40
)
TIMES = st.integers(-2_208_000_000, 253_300_000_000).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
UUIDS = st.uuids(version=4).map(str)
NODES = st.sampled_from(("north", "south", "west", "a-c", "a_c", "ac"))
OTHERS = NODES.filter(lambda node: node != "north")
SEVERAL_NODES = st.frozensets(NODES).map(lambda names: tuple(sorted(names)))


def given_times(*names: str) -> dict[str, st.SearchStrategy[Any]]:
    return dict.fromkeys(names or ("created_at", "updated_at"), TIMES)


def records_of(kind: type[Record], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(fields).map(kind.model_validate)


@st.composite
def registries(draw: st.DrawFn) -> tuple[list[Record], dict[str, str]]:
    """Records that fit together, and the sources of some members."""
    nodes = draw(
        st.lists(
            records_of(
                NodeRecord,
                name=WORDS,
                namespace=NODES,
                api_root=st.just("https://dpn.example.org"),
                ssh_pubkey=PROSE,
                replicate_to=SEVERAL_NODES,
                **given_times(),
            ),
            unique_by=lambda node: node.namespace,
            max_size=4,
        )
    )
    members = draw(_some(records_of(MemberRecord, member_id=UUIDS, name=WORDS, email=WORDS, **given_times())))
    sources = {member.member_id: draw(OTHERS) for member in members if draw(st.booleans())}
    ids = draw(st.lists(UUIDS, unique=True, max_size=4))
    records: list[Record] = [*nodes, *members]
    for uuid in ids:
        bag = {"uuid": st.just(uuid), "first_version_uuid": st.just(uuid), "version": st.just(1), "member": UUIDS}
        lists = st.lists(st.sampled_from(ids), unique=True).map(lambda chosen: tuple(sorted(chosen)))
        records.append(
            draw(
                records_of(
                    BagRecord,
                    **bag,
                    local_id=WORDS,
                    size=st.integers(1, 2**63 - 1),
                    bag_type=st.sampled_from("DIR"),
                    rights=lists,
                    interpretive=lists,
                    ingest_node=NODES,
                    admin_node=NODES,
                    replicating_nodes=SEVERAL_NODES,
                    **given_times(),
                )
            )
        )
    if not ids:
        return records, sources
    bags, hexes = st.sampled_from(ids), st.text("0123456789abcdef", min_size=64, max_size=64)
    of_a_bag = {"bag": bags, "node": NODES}
    digest = records_of(
        DigestRecord, **of_a_bag, algorithm=st.just("sha256"), value=hexes, **given_times("created_at")
    )
    records += draw(st.lists(digest, unique_by=lambda one: one.bag, max_size=3))
    records += draw(
        _some(
            records_of(
                IngestRecord,
                ingest_id=UUIDS,
                bag=bags,
                ingested=st.booleans(),
                replicating_nodes=SEVERAL_NODES,
                **given_times("created_at"),
            )
        )
    )
    records += draw(
        _some(
            records_of(
                FixityCheckRecord,
                **of_a_bag,
                fixity_check_id=UUIDS,
                success=st.booleans(),
                **given_times("fixity_at", "created_at"),
            )
        )
    )
    transfer = {
        "bag": bags,
        "from_node": NODES,
        "to_node": NODES,
        "protocol": st.just("rsync"),
        "cancelled": st.booleans(),
        "cancel_reason": PROSE,
        "cancel_reason_detail": PROSE,
        **given_times(),
    }
    records += draw(
        _some(
            records_of(
                ReplicationRecord,
                **transfer,
                replication_id=UUIDS,
                fixity_algorithm=st.just("sha256"),
                fixity_nonce=PROSE,
                fixity_value=st.none() | hexes,
                link=WORDS,
                store_requested=st.booleans(),
                stored=st.booleans(),
            )
        )
    )
    restore = records_of(
        RestoreRecord, **transfer, restore_id=UUIDS, link=PROSE, accepted=st.booleans(), finished=st.booleans()
    )
    return records + draw(_some(restore)), sources


def _some(records: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(records, max_size=3, unique_by=lambda record: record.key)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def two(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, Engine]]:
    """Two databases, emptied for each example."""
    folder: Path = tmp_path_factory.mktemp("round-trip")
    second = _on_sqlite(folder / "two.db")
    is_sqlite = request.param == "sqlite"
    yield _on_sqlite(folder / "one.db") if is_sqlite else request.getfixturevalue("emptied_postgresql"), second
    second.dispose()


def _on_sqlite(path: Path) -> Engine:
    """Quick: what it would lose in a power cut is not what is tested here."""
    engine = open_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    Base.metadata.create_all(engine)
    return engine


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(registry=registries(), seed=st.integers(0, 1000))
def test_export_import_export_gives_equal_bytes(
    two: tuple[Engine, Engine], registry: tuple[list[Record], dict[str, str]], seed: int
) -> None:
    records, member_sources = registry
    one, other = (_emptied(engine) for engine in two)
    shuffled = random.Random(seed).sample(records, len(records))
    put_all(one, shuffled)
    with one.begin() as session:
        session.add_all(MemberSource(member_id=member, peer=peer) for member, peer in member_sources.items())
    first = _archive(one)
    for taker in (other, other, one):
        problems: list[Any] = []
        check(io.BytesIO(first))
        Import(taker, "north", problems.append).run(ArchiveReader(io.BytesIO(first)))
        assert problems == []
        assert _archive(taker) == first


def _emptied(engine: Engine) -> Sessions:
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    return open_sessions(engine)


def _archive(sessions: Sessions) -> bytes:
    file = io.BytesIO()
    export(sessions, file, node="north", now=ManualClock().now())
    return file.getvalue()
