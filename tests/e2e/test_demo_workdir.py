"""The demo's folder is its alone: nobody else's files are touched, and nothing of its own is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.demo.workdir import open_workdir
from tools.network.environment import clean_environment
from tools.network.errors import Unusable

PATIENCE_SECONDS = 20.0

KILLED_DEMO = """
import os, signal, sys
from pathlib import Path
from tools.demo.workdir import open_workdir
with open_workdir(Path(sys.argv[1]) if sys.argv[1:] else None, keep=False) as workdir:
    workdir.mark(["north"])
    (workdir.path / "north").mkdir()
    print(workdir.path, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def gone(path: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


def kill_a_demo(*arguments: str) -> Path:
    command = (sys.executable, "-P", "-c", KILLED_DEMO, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return Path(done.stdout.strip())


def test_a_temporary_folder_is_gone_at_the_end() -> None:
    with open_workdir(None, keep=False) as workdir:
        (workdir.path / "north").mkdir()
    assert not workdir.path.exists()


def test_it_is_gone_after_a_failure_too_and_stays_if_it_is_to_be_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_workdir(None, keep=False) as lost:
        raise RuntimeError
    assert not lost.path.exists()
    with open_workdir(tmp_path / "kept", keep=True) as kept:
        (kept.path / "north").mkdir()
    assert (kept.path / "north").exists()


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="ascii")
    with pytest.raises(Unusable, match=r"not empty \('thesis.tex'\)"), open_workdir(tmp_path, keep=False):
        pytest.fail("must not open")
    assert (tmp_path / "thesis.tex").read_text(encoding="ascii") == "years of work"


def test_an_earlier_demos_folder_is_emptied_but_for_what_is_not_the_demos(tmp_path: Path) -> None:
    with open_workdir(tmp_path, keep=True) as workdir:
        workdir.mark(["north", "south"])
        for name in ("north", "south"):
            (workdir.path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    with open_workdir(tmp_path, keep=False) as workdir:
        assert not (workdir.path / "north").exists()
        workdir.mark(["north"])
        (workdir.path / "north").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_named_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with open_workdir(tmp_path, keep=False) as workdir:
        workdir.mark(["north"])
    assert tmp_path.exists()
    with open_workdir(made, keep=False):
        assert made.exists()
    assert not made.exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        open_workdir(tmp_path, keep=False) as workdir,
        pytest.raises(Unusable, match="another demo works there"),
        open_workdir(workdir.path, keep=False),
    ):
        pytest.fail("must not open")


@pytest.mark.parametrize("name", ["50%", "a#b", "what?", "new\nline", 'quo"te'])
def test_a_name_that_addresses_and_settings_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unusable, match="cannot stand in its name"), open_workdir(tmp_path / name, keep=False):
        pytest.fail("must not open")
    assert not (tmp_path / name).exists()


def test_a_place_where_nothing_can_be_made_is_refused() -> None:
    with (
        pytest.raises(Unusable, match="name a folder that you may write"),
        open_workdir(Path("/proc/x"), keep=False),
    ):
        pytest.fail("must not open")


def test_the_folder_of_a_demo_that_was_killed_is_removed_by_its_janitor() -> None:
    assert gone(kill_a_demo())


def test_the_janitor_leaves_a_named_folder_and_what_is_not_the_demos(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"nodes": []}', encoding="ascii")
    (tmp_path / "notes.txt").touch()
    kill_a_demo(str(tmp_path))
    assert gone(tmp_path / "north")
    assert gone(tmp_path / "demo.json")
    assert (tmp_path / "notes.txt").exists()


def test_a_result_that_is_written_into_the_folder_stays_there(tmp_path: Path) -> None:
    with open_workdir(tmp_path / "made", keep=False) as workdir:
        workdir.spare(workdir.path / "out.json")
        workdir.mark(["north"])
        (workdir.path / "out.json").touch()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["out.json"]
