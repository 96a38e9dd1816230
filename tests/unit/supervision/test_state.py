"""Who holds the lock runs the node, nobody else does; what it said is whole, or is not believed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dpn.errors import Misconfigured
from dpn.supervision.process_id import ProcessId
from dpn.supervision.settings import ProcessesSettings
from dpn.supervision.state import AlreadyUp, JobState, NodeState, ProcessState, StateFolder

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)


def us() -> ProcessId:
    found = ProcessId.of(os.getpid())
    assert found is not None
    return found


def state(process: str = "ready", *, failed: bool = False, node: str = "up") -> NodeState:
    one = ProcessState(name="serve", state=process, since=NOW, process=us())  # type: ignore[arg-type]
    job = JobState(name="sync", due=NOW, failed=failed)
    return NodeState(node="south", state=node, since=NOW, supervisor=us(), processes=(one,), jobs=(job,))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def test_only_one_holds_the_lock_and_whoever_looks_does_not_take_it(folder: StateFolder) -> None:
    assert not folder.is_held()
    with folder.held():
        assert folder.is_held()
        assert folder.is_held()
        with pytest.raises(AlreadyUp), StateFolder(folder.path).held():
            pytest.fail("two at once")
    assert not folder.is_held()
    with folder.held():
        pass


def test_what_was_said_is_read_as_it_was(folder: StateFolder) -> None:
    with folder.held():
        folder.write(state())
        assert folder.read() == state()
    assert folder.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", '{"node": "south"}'])
def test_what_is_damaged_counts_as_nothing(folder: StateFolder, text: str) -> None:
    assert folder.read() is None
    folder.make()
    (folder.path / "state.json").write_text(text)
    assert folder.read() is None


def test_a_folder_that_cannot_be_made_names_the_setting() -> None:
    with pytest.raises(Misconfigured, match=r"processes\.directory"), StateFolder(Path("/proc/state")).held():
        pytest.fail("nothing can be written there")


@pytest.mark.parametrize(
    ("said", "well"),
    [
        (state(), True),
        (state("starting"), False),
        (state("down"), False),
        (state(failed=True), False),
        (state(node="stopping"), False),
    ],
)
def test_a_node_is_well_if_all_that_should_run_does_and_no_job_has_failed(said: NodeState, well: bool) -> None:
    assert said.well is well


def test_the_folder_is_the_users_own_unless_the_settings_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/dpn")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert ProcessesSettings().folder("south") == Path("/home/dpn/.local/state/dpn/south")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert ProcessesSettings().folder("south") == Path("/var/state/dpn/south")
    assert ProcessesSettings(directory=Path("/run/dpn")).folder("south") == Path("/run/dpn")


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    assert us().alive()
    assert not ProcessId(os.getpid(), us().start_ticks - 1, us().boot_id).alive()
    assert not ProcessId(os.getpid(), us().start_ticks, "another boot").alive()
    assert ProcessId.of(2**22 + 1) is None
