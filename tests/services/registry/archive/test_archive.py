"""`dpn registry export` and `import`: whole or not at all, in one direction only, on either database."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text

from dpn.access import tokens
from dpn.audit.trail import events_of_object
from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions, reading
from dpn.registry.archive import ArchiveReader, BrokenArchive, Import, KindResult, Problem, check, export
from dpn.registry.catalogue import (
    BAGS,
    DIGESTS,
    KINDS,
    TRANSFERS,
    RefusedRecord,
    UnreadableRow,
    find,
    set_aside,
)
from dpn.registry.catalogue.rows import save
from models.registry import MemberSource
from tests.fixtures.archives import (
    LATER,
    CommandLine,
    a_fixity_check,
    a_header,
    a_line,
    a_member,
    a_restore,
    an_ingest,
    lines_of,
    one_of_each,
    put_all,
    sealed,
)
from tests.fixtures.records import DIGEST, OTHER_DIGEST, a_bag, a_digest, a_node, a_transfer, uuid

NOW = ManualClock().now()


@dataclass(frozen=True)
class Registry:
    """A migrated database of the node `north`."""

    url: str
    sessions: Sessions

    def archive(self) -> bytes:
        file = io.BytesIO()
        export(self.sessions, file, node="north", now=NOW)
        return file.getvalue()

    def take(self, archive: bytes, *, dry_run: bool = False) -> tuple[dict[str, KindResult], list[Problem]]:
        """Imports it as the command does."""
        problems: list[Problem] = []
        check(io.BytesIO(archive))
        reader = ArchiveReader(io.BytesIO(archive))
        return Import(self.sessions, "north", problems.append, dry_run=dry_run).run(reader), problems


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    """Empty; with room for a second one in `another`."""
    yield from _registry(
        request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "migrated_url"}[request.param])
    )


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[Registry]:
    yield from _registry(sqlite_url)


@pytest.fixture
def on_postgresql(migrated_url: str) -> Iterator[Registry]:
    yield from _registry(migrated_url)


@pytest.fixture
def another(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Registry]:
    """A second, empty one, on SQLite."""
    copy = tmp_path / "another.db"
    copy.write_bytes(migrated_sqlite.read_bytes())
    yield from _registry(f"sqlite:///{copy}")


def _registry(url: str) -> Iterator[Registry]:
    engine = open_engine(url)
    yield Registry(url, open_sessions(engine))
    engine.dispose()


@pytest.fixture
def north(registry: Registry, tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "north", registry.url)


# -- what is exported --------------------------------------------------------------------------------------------


def test_an_export_holds_every_kind_in_order_of_reference_and_only_its_user_may_read_it(
    north: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    put_all(registry.sessions, one_of_each())
    file = tmp_path / "registry.jsonl"
    done = north("registry", "export", file)
    assert done.returncode == 0, done.stderr
    header, *records, end = lines_of(file.read_bytes())
    assert (header["format"], header["version"], header["node"], header["registry"]) == (
        "dpn-registry",
        1,
        "north",
        "north",
    )
    assert records == [a_line(record) for record in one_of_each()]
    assert end["end"]["counts"] == dict.fromkeys((kind.name for kind in KINDS), 1) | {"member_source": 0}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert lines_of(north.export("-"))[1:-1] == records
    assert [*tmp_path.glob(".*.tmp")] == []


def test_the_same_records_make_the_same_bytes_on_either_database(
    on_postgresql: Registry, another: Registry
) -> None:
    names = [a_node(name) for name in ("a-c", "ab", "a_b", "b")]
    records = [
        *names,
        *(a_bag(n) for n in (3, 1, 2)),
        a_digest(2),
        a_digest(1),
        a_transfer(2, 2),
        a_transfer(1, 1),
    ]
    put_all(on_postgresql.sessions, records)
    put_all(another.sessions, reversed(records))
    assert on_postgresql.archive() == another.archive()


def test_an_export_shows_one_moment_whoever_writes_meanwhile(registry: Registry) -> None:
    put_all(registry.sessions, [a_bag(1), a_digest(1), a_transfer(1)])
    before = registry.archive()

    class WrittenTo(io.BytesIO):
        """Each line that is written is followed by a commit of somebody else's."""

        number = 100

        def write(self, data: Any) -> int:
            self.number += 1
            put_all(registry.sessions, [a_bag(self.number), a_digest(self.number)])
            put_all(registry.sessions, [a_transfer(1, stored=True, updated_at=LATER)])
            return super().write(data)

    file = WrittenTo()
    export(registry.sessions, file, node="north", now=NOW)
    assert file.number > 103
    assert file.getvalue() == before


def test_no_token_and_nothing_of_one_is_exported(north: CommandLine, registry: Registry) -> None:
    with registry.sessions.begin() as session:
        token = tokens.issue(session, "south", now=NOW)
    with registry.sessions() as session:
        row = session.execute(text("SELECT salt, sha256 FROM api_tokens")).one()
    exported = north.export().decode()
    assert not any(secret in exported for secret in (token, row.salt, row.sha256))


def test_a_registry_that_cannot_be_read_whole_replaces_no_export(on_sqlite: Registry, tmp_path: Path) -> None:
    north, file = CommandLine(tmp_path / "north", on_sqlite.url), tmp_path / "registry.jsonl"
    put_all(on_sqlite.sessions, one_of_each())
    assert north("registry", "export", file).returncode == 0
    before = file.read_bytes()
    with on_sqlite.sessions.begin() as session:
        session.execute(text("UPDATE bags SET rights = '[broken'"))
    done = north("registry", "export", file)
    assert done.returncode == 2
    assert b"a bag record cannot be written: a row of the registry is damaged" in done.stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("where", "says"), [("/dev/null", b"no regular file"), ("missing/registry.jsonl", b"No such file")]
)
def test_where_an_export_cannot_be_is_said_in_a_line(
    on_sqlite: Registry, tmp_path: Path, where: str, says: bytes
) -> None:
    done = CommandLine(tmp_path / "north", on_sqlite.url)("registry", "export", tmp_path / where)
    assert (done.returncode, says in done.stderr, b"Traceback" in done.stderr) == (2, True, False)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


# -- what an import does -----------------------------------------------------------------------------------------


def test_what_was_exported_makes_the_same_registry_again(
    registry: Registry, another: Registry, tmp_path: Path
) -> None:
    put_all(registry.sessions, [*one_of_each(), a_member(2)])
    with registry.sessions.begin() as session:
        session.add(MemberSource(member_id=a_member(2).member_id, peer="south"))
    north = CommandLine(tmp_path / "north", registry.url)
    again = CommandLine(tmp_path / "again", another.url)
    exported = north.export()
    done = again("registry", "import", "-", given=exported)
    assert done.returncode == 0, done.stderr
    assert lines_of(again.export())[1:-1] == lines_of(exported)[1:-1]
    assert [line["record"] for line in lines_of(exported) if line.get("kind") == "member_source"] == [
        {"member_id": a_member(2).member_id, "peer": "south"}
    ]


def test_importing_again_changes_nothing(registry: Registry) -> None:
    put_all(registry.sessions, one_of_each())
    archive = registry.archive()
    results, problems = registry.take(archive)
    assert problems == []
    assert all((of.added, of.updated, of.unchanged) == (0, 0, of.read) for of in results.values())
    assert registry.archive() == archive


def test_an_old_export_takes_nothing_back_and_a_new_one_moves_all_on(
    registry: Registry, another: Registry
) -> None:
    old = [a_bag(), a_member(), a_transfer(), a_restore()]
    new = [
        a_bag(updated_at=LATER, replicating_nodes=("north", "south")),
        a_member(updated_at=LATER, name="Renamed"),
        a_transfer(updated_at=LATER, fixity_value=DIGEST, store_requested=True, stored=True),
        a_restore(updated_at=LATER, accepted=True, link="dpn@south:bag.tar"),
    ]
    put_all(another.sessions, old)
    put_all(registry.sessions, new)
    old_archive, new_archive = another.archive(), registry.archive()
    assert registry.take(old_archive)[1] == []
    assert registry.archive() == new_archive
    results, problems = another.take(new_archive)
    assert problems == []
    assert {name: of.updated for name, of in results.items() if of.updated} == dict.fromkeys(
        ("bag", "member", "replicate", "restore"), 1
    )
    assert another.archive() == new_archive


def test_contradictions_are_told_with_both_values_and_ours_stays(
    north: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    put_all(registry.sessions, [a_bag(1), a_bag(2), a_digest(1), an_ingest(1), a_fixity_check(1), a_transfer(1)])
    before = registry.archive()
    file = tmp_path / "other.jsonl"
    others = [
        a_bag(1, size=7),
        a_bag(3),
        a_digest(1, value=OTHER_DIGEST),
        an_ingest(1, ingested=False),
        a_fixity_check(1, success=False),
        a_transfer(1, link="dpn@elsewhere:x"),
    ]
    file.write_bytes(sealed([a_header(), *(a_line(record) for record in others)]))
    done = north("registry", "import", "--json", file)
    *problems, summary = lines_of(done.stdout)
    assert done.returncode == 1
    assert [(problem["line"], problem["kind"]) for problem in problems] == [
        (2, "bag"), (4, "digest"), (5, "ingest"), (6, "fixity_check"), (7, "replicate"),
    ]  # fmt: skip
    assert problems[0]["values"] == {"size": {"ours": 1_048_576, "theirs": 7}}
    assert problems[1]["values"] == {"value": {"ours": DIGEST, "theirs": OTHER_DIGEST}}
    assert summary["event"] == "imported"
    assert summary["kinds"]["bag"] == {"read": 2, "added": 1, "updated": 0, "unchanged": 0, "problems": 1}
    in_words = north("registry", "import", file)
    assert in_words.returncode == 1
    assert f'value: here "{DIGEST}", in the file "{OTHER_DIGEST}"' in in_words.stderr.decode()
    with registry.sessions.begin() as session:
        session.execute(BAGS.table.delete().where(BAGS.table.c.uuid == uuid(3)))
    assert registry.archive() == before


def test_two_bags_do_not_get_one_place_in_a_family(registry: Registry) -> None:
    put_all(registry.sessions, [a_bag(1)])
    second = [a_bag(n, first_version_uuid=uuid(1), version=2) for n in (2, 3)]
    usurper = a_bag(4, first_version_uuid=uuid(1), version=1)
    archive = sealed([a_header(), *(a_line(bag) for bag in (*second, usurper))])
    foreseen = registry.take(archive, dry_run=True)
    results, problems = registry.take(archive)
    assert foreseen == (results, problems)
    assert [problem.key for problem in problems] == [uuid(3), uuid(4)]
    assert uuid(2) in problems[0].reason
    assert uuid(1) in problems[1].reason
    assert results["bag"].added == 1


def test_a_record_whose_bag_is_nowhere_is_left_out_and_spoils_nothing(registry: Registry) -> None:
    lines = [a_bag(1), a_digest(1), a_digest(2), a_transfer(1, 1), a_transfer(2, 2)]
    archive = sealed([a_header(), *(a_line(record) for record in lines)])
    foreseen = registry.take(archive, dry_run=True)
    results, problems = registry.take(archive)
    assert foreseen == (results, problems)
    assert [(problem.kind, problem.line) for problem in problems] == [("digest", 4), ("replicate", 6)]
    assert "sync with the bag's node" in problems[0].reason
    with registry.sessions() as session:
        assert find(session, TRANSFERS, *a_transfer(1).key) is not None
        assert find(session, DIGESTS, *a_digest(2).key) is None


def test_a_dry_run_tells_what_would_change_and_changes_nothing(
    north: CommandLine, registry: Registry, another: Registry, tmp_path: Path
) -> None:
    put_all(another.sessions, one_of_each())
    file = tmp_path / "registry.jsonl"
    file.write_bytes(another.archive())
    before = registry.archive()
    foreseen = north("registry", "import", "--dry-run", "--json", file)
    assert foreseen.returncode == 0, foreseen.stderr
    assert registry.archive() == before
    done = north("registry", "import", "--json", file)
    (would,), (was,) = lines_of(foreseen.stdout), lines_of(done.stdout)
    assert (would["dry_run"], was["dry_run"]) == (True, False)
    assert would["kinds"] == was["kinds"]
    assert sum(of["added"] for of in was["kinds"].values()) == len(one_of_each())


def test_an_import_that_is_killed_anywhere_is_simply_begun_again(registry: Registry, another: Registry) -> None:
    """Killed before each commit in turn: what a batch had not committed is as if it had not been read."""
    put_all(another.sessions, [*one_of_each(), a_member(2)])
    with another.sessions.begin() as session:
        session.add(MemberSource(member_id=a_member(2).member_id, peer="south"))
    archive = another.archive()

    class Killed(BaseException):
        pass

    def killed_at(commit: int) -> Callable[[], Any]:
        left = iter(range(commit))

        def begin() -> Any:
            if next(left, None) is None:
                raise Killed
            return begin_really()

        return begin

    begin_really = registry.sessions.begin
    for commit in range(len(KINDS)):
        registry.sessions.begin = killed_at(commit)  # type: ignore[method-assign]
        with pytest.raises(Killed):
            registry.take(archive)
        registry.sessions.begin = begin_really  # type: ignore[method-assign]
        partial = registry.archive()
        assert len(lines_of(partial)) < len(lines_of(archive))
    registry.take(archive)
    assert registry.archive() == archive


def test_an_import_process_that_is_killed_leaves_whole_batches_and_is_begun_again(
    north: CommandLine, registry: Registry, another: Registry, tmp_path: Path
) -> None:
    put_all(another.sessions, [record for n in range(1, 6001) for record in (a_bag(n), a_digest(n))])
    file = tmp_path / "registry.jsonl"
    file.write_bytes(another.archive())
    process = north.start("registry", "import", file)
    while _count(registry) == 0 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert 0 < _count(registry) <= 12_000
    done = north("registry", "import", file)
    assert done.returncode == 0, done.stderr
    assert registry.archive() == another.archive()


def _count(registry: Registry) -> int:
    with registry.sessions() as session:
        rows = [session.scalar(text(f"SELECT count(*) FROM {kind.table.name}")) for kind in (BAGS, DIGESTS)]  # noqa: S608
    return sum(int(count or 0) for count in rows)


def test_what_another_process_adds_meanwhile_is_not_overwritten(on_postgresql: Registry) -> None:
    """It has inserted, not yet committed, when the import looks: nothing to be seen there."""
    put_all(on_postgresql.sessions, [a_bag()])
    further = a_transfer(stored=True, store_requested=True, fixity_value=DIGEST, updated_at=LATER)
    archive = sealed([a_header(), a_line(a_bag()), a_line(a_transfer())])
    with on_postgresql.sessions() as session:
        save(session, TRANSFERS, [further])
        thread = threading.Thread(target=on_postgresql.take, args=(archive,))
        thread.start()
        _until_somebody_waits_for_a_lock(on_postgresql)
        session.commit()
        thread.join(30)
    with on_postgresql.sessions() as session:
        assert find(session, TRANSFERS, *further.key) == further


def _until_somebody_waits_for_a_lock(registry: Registry) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with registry.sessions() as session:
            if session.scalar(waiting):
                return
        time.sleep(0.01)
    pytest.fail("the import does not wait for the other one")


# -- what is no archive ------------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_noticed(on_sqlite: Registry) -> None:
    put_all(on_sqlite.sessions, one_of_each())
    archive = on_sqlite.archive()
    line_ends = [number for number, byte in enumerate(archive, 1) if byte == ord("\n")]
    for length in sorted({*range(0, len(archive), 17), *line_ends} - {len(archive)}):
        with pytest.raises(BrokenArchive):
            check(io.BytesIO(archive[:length]))
    assert check(io.BytesIO(archive)).counts["bag"] == 1


def test_a_byte_that_is_another_one_is_noticed_anywhere(on_sqlite: Registry) -> None:
    put_all(on_sqlite.sessions, one_of_each())
    archive = on_sqlite.archive()
    for place in range(len(archive)):
        for other in {archive[place] ^ 1, archive[place] ^ 0x20, ord(" ")} - {archive[place]}:
            with pytest.raises(BrokenArchive):
                check(io.BytesIO(archive[:place] + bytes([other]) + archive[place + 1 :]))


def test_lines_that_are_missing_swapped_or_doubled_are_noticed(on_sqlite: Registry) -> None:
    put_all(on_sqlite.sessions, [*one_of_each(), a_bag(2)])
    lines = on_sqlite.archive().splitlines(keepends=True)
    for number in range(1, len(lines) - 1):
        for changed in (
            [*lines[:number], *lines[number + 1 :]],
            [*lines[:number], lines[number], *lines[number:]],
            [*lines[:number], *reversed(lines[number : number + 2]), *lines[number + 2 :]],
        ):
            with pytest.raises(BrokenArchive):
                check(io.BytesIO(b"".join(changed)))
    with pytest.raises(BrokenArchive, match="follows the last line"):
        check(io.BytesIO(b"".join([*lines, lines[-1]])))


BAG, MEMBER = a_line(a_bag()), a_line(a_member())


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"\x89PNG\n"], r"line 1: not UTF-8 .* give a file that `dpn registry export` wrote"),
        ([b"[]\n"], "line 1: a JSON object is needed, not list"),
        ([BAG], "line 1: it does not begin with"),
        ([a_header(version=2)], "line 1: format version 2 is newer than 1.* upgrade this software"),
        ([a_header(version=True)], "line 1: it does not begin with"),
        ([a_header(node="../x")], "line 1: not a node's namespace"),
        ([a_header(time="yesterday")], "line 1: not a time"),
        ([a_header(), {"kind": "spaceship", "record": {}}], "line 2: 'spaceship' is no kind .* upgrade"),
        ([a_header(), {"kind": ["bag"], "record": {}}], "line 2: .* is no kind"),
        ([a_header(), {"kind": "bag"}], "line 2: no bag record: a JSON object is needed"),
        ([a_header(), {"kind": "bag", "record": {**BAG["record"], "size": 0}}], "line 2: no bag record: size"),
        ([a_header(), {"kind": "bag", "record": {**BAG["record"], "local_id": "x\0"}}], "line 2: .* control"),
        ([a_header(), b'{"kind":"bag","kind":"bag"}\n'], "line 2: the key 'kind' stands twice"),
        ([a_header(), b'{"kind":"bag","record":NaN}\n'], "line 2: a number that JSON does not have"),
        ([a_header(), b"[" * 100_000 + b"]" * 100_000 + b"\n"], "line 2: nested"),
        ([a_header(), b" " * 1_048_577 + b"\n"], "line 2: more than 1048576 bytes"),
        ([a_header(), b"\n"], "line 2: not JSON"),
        ([a_header(), BAG, MEMBER], "line 3: out of order"),
        ([a_header(), BAG, BAG], "line 3: out of order, or the same record once more"),
        ([a_header(), {"kind": "member_source", "record": {}}], "line 2: a member_source that does not follow"),
        (
            [a_header(), MEMBER, {"kind": "member_source", "record": {"member_id": uuid(1), "peer": "x"}}],
            "line 3: no member_source: it is of another member",
        ),
        (
            [a_header(), MEMBER, {"kind": "member_source", "record": {"member_id": uuid(0x5001), "peer": 7}}],
            "line 3: no member_source: peer: a text is needed",
        ),
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_named_with_what_to_do(lines: list[Any], says: str) -> None:
    with pytest.raises(BrokenArchive, match=says):
        check(io.BytesIO(sealed(lines)))


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_broken_file_changes_nothing_and_says_where_it_is_broken(
    north: CommandLine, registry: Registry, tmp_path: Path, way: str
) -> None:
    good = [a_line(a_bag(n)) for n in range(1, 2001)]
    broken = sealed([a_header(), *good, {"kind": "digest", "record": {"bag": "x"}}])
    file = tmp_path / "registry.jsonl"
    file.write_bytes(broken)
    before = registry.archive()
    given = {"file": {}, "stdin": {"given": broken}}[way]
    done = north("registry", "import", file if way == "file" else "-", **given)
    assert done.returncode == 2
    assert b"dpn: line 2002: no digest record: bag: not a hyphenated UUID" in done.stderr
    assert b"Traceback" not in done.stderr
    assert registry.archive() == before


def test_a_pipe_by_name_is_read_as_standard_input_is(on_sqlite: Registry, tmp_path: Path) -> None:
    put_all(on_sqlite.sessions, one_of_each())
    archive, pipe = on_sqlite.archive(), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(archive,))
    writer.start()
    done = CommandLine(tmp_path / "north", on_sqlite.url)("registry", "import", "--json", pipe)
    writer.join(30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kinds"]["bag"]["unchanged"] == 1


@pytest.mark.parametrize("file", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_is_said_in_a_line(on_sqlite: Registry, tmp_path: Path, file: str) -> None:
    done = CommandLine(tmp_path / "north", on_sqlite.url)("registry", "import", tmp_path / file)
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False)


# -- what sync has set aside -------------------------------------------------------------------------------------


def test_what_was_set_aside_is_listed_with_its_reason(north: CommandLine, registry: Registry) -> None:
    strange = UnreadableRow("bag", "size: too small [red]", '{"uuid": "\x1b[2J"}')
    with registry.sessions.begin() as session:
        refusal = RefusedRecord(
            "digest", a_digest(7).key, HTTPStatus.NOT_FOUND, ("its bag is unknown",), a_digest(7)
        )
        set_aside(session, "south", [refusal, strange], NOW)
        set_aside(session, "west", [strange], NOW)
    listed = lines_of(north("registry", "aside", "--json").stdout)
    assert [(one["peer"], one["kind"], one["status"]) for one in listed] == [
        ("south", "bag", 422), ("south", "digest", 404), ("west", "bag", 422),
    ]  # fmt: skip
    assert listed[1]["record"] == a_digest(7).to_wire()
    assert listed[1]["first_seen_at"] == "2024-01-02T03:04:05Z"
    heading, of_west = north("registry", "aside", "--peer", "west").stdout.decode().splitlines()
    assert heading.split()[-1] == "reason"
    assert of_west.rstrip().endswith("size: too small [red]")
    bounded = north("registry", "aside", "--json", "--limit", "1")
    assert len(lines_of(bounded.stdout)) == 1
    assert b"dpn: 1 of 3: --limit shows more" in bounded.stderr


def test_an_operator_decides_that_a_record_is_not_a_peers(north: CommandLine, registry: Registry) -> None:
    put_all(registry.sessions, [a_bag(1, admin_node="south"), a_bag(2)])
    its = ("registry", "disown", "south", "bag", uuid(1).upper())
    assert b"--reason: say why" in north(*its).stderr
    assert north("registry", "disown", "north", "bag", uuid(2), "--reason", "x").returncode == 2
    done = north(*its, "--reason", "west's")
    assert (done.returncode, done.stdout) == (0, b"1 bag removed\n"), done.stderr
    assert north(*its, "--withdraw").returncode == 0
    assert b"was not disowned" in north(*its, "--withdraw").stderr
    with reading(registry.sessions) as session:
        assert find(session, BAGS, uuid(1)) is None
        events = [(event.outcome, event.detail["reason"]) for event in events_of_object(session, uuid(1))]
    assert events == [("disowned", "west's"), ("withdrawn", "")]


# -- what lists hold ---------------------------------------------------------------------------------------------


def test_a_recount_says_what_it_corrected(north: CommandLine, registry: Registry) -> None:
    put_all(registry.sessions, one_of_each())
    with registry.sessions.begin() as session:
        session.execute(delete(TRANSFERS.table))
    done = north("registry", "recount")
    assert done.returncode == 0, done.stderr
    corrected = dict(line.split()[-2:] for line in done.stdout.decode().splitlines()[1:])
    assert (corrected["replicate"], corrected["bag"]) == ("1", "0")


# -- how much memory it takes ------------------------------------------------------------------------------------


def test_neither_reading_nor_writing_takes_more_memory_for_more_records(
    on_sqlite: Registry, another: Registry, tmp_path: Path
) -> None:
    put_all(on_sqlite.sessions, (a_bag(n) for n in range(1, 10_001)))
    file = tmp_path / "registry.jsonl"

    def peak_of(work: Callable[[], Any]) -> int:
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def write() -> None:
        with file.open("wb") as opened:
            export(on_sqlite.sessions, opened, node="north", now=NOW)

    def read() -> None:
        with file.open("rb") as opened:
            check(opened)
            Import(another.sessions, "north", print).run(ArchiveReader(opened))

    assert peak_of(write) < 8_000_000
    assert file.stat().st_size > 4_000_000
    assert peak_of(read) < 12_000_000
