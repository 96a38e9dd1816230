"""bin/setup: what it says when it cannot go on, and that it does nothing twice."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SYSTEM_PROGRAMS = """
cat chmod cp cut dirname env flock grep head id ls mkdir mktemp mv readlink rm sed sh sha256sum sort tail touch
"""

PYTHON = """\
#!/bin/sh
# Makes an environment with itself as its Python; records each pip call; fails as FAIL says.
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo "VIRTUAL_ENV=$4" > "$4/bin/activate" ;;
    "-m pip install "*) n=0; while [ $n -lt 12 ]; do echo "Collecting package$n"; n=$((n + 1)); done
        echo "$*" >> "$(dirname "$0")/../../calls"
        [ -z "${FAIL:-}" ] || { echo "Looking in indexes: https://user:pw@packages.example/simple"
            echo "HTTPSConnectionPool(host='packages.example', port=443): refused"; exit 1; } ;;
    "-c import sys"*) [ -z "${OLD:-}" ] ;;
    "--version") echo "Python 3.11.2" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what bin/setup reads, and a PATH where nothing is real but the small tools."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "bin").mkdir()
    shutil.copy(ROOT / "bin/setup", root / "bin/setup")
    shutil.copy(ROOT / "pyproject.toml", root)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in SYSTEM_PROGRAMS.split():
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    for name, text in (("python3", PYTHON), ("rsync", "#!/bin/sh\n"), ("ssh", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return root


def setup(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": str(checkout.parent / "programs"), "HOME": str(checkout.parent)} | environment
    command = [checkout / "bin/setup", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


def pip_calls(checkout: Path) -> list[str]:
    calls = checkout / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_everything_from_outside_is_installed_by_hash(checkout):
    assert setup(checkout).returncode == 0
    *locked, project = pip_calls(checkout)
    assert [call.rpartition("/")[2] for call in locked] == ["requirements-build.lock", "requirements.lock"]
    assert all("--require-hashes" in call for call in locked)
    assert "--no-index" in project
    assert project.endswith(f"--editable {checkout}")


def test_a_second_run_does_nothing(checkout):
    setup(checkout)
    calls = pip_calls(checkout)
    second = setup(checkout)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert pip_calls(checkout) == calls


def test_changed_pins_are_installed_and_only_they(checkout):
    setup(checkout)
    with (checkout / "tools/requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    (checkout / "calls").unlink()
    assert setup(checkout).returncode == 0
    lock, _project = pip_calls(checkout)
    assert lock.endswith("requirements.lock")


def test_a_checkout_that_was_moved_gets_a_new_environment(checkout):
    setup(checkout)
    moved = checkout.rename(checkout.parent / "moved")
    assert "making .venv" in setup(moved).stdout


def test_an_installation_that_failed_is_not_taken_for_done_and_names_no_registry(checkout):
    failed = setup(checkout, FAIL="1")
    assert failed.returncode == 2
    assert "refused" in failed.stderr
    assert "packages.example" not in failed.stdout + failed.stderr
    assert setup(checkout).returncode == 0
    assert len(pip_calls(checkout)) == 4


def test_a_python_that_is_too_old_is_refused_with_the_remedy(checkout):
    refused = setup(checkout, OLD="1")
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "setup: Python 3.11 or newer is needed: install python3 (3.11+) and run bin/setup again\n"
    )


def test_help_is_help_and_nothing_of_the_script(checkout):
    told = setup(checkout, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("usage: bin/setup [--services]\n")
    assert "#" not in told.stdout
    assert len(told.stdout.splitlines()) < 12


def test_it_says_what_it_does_while_it_does_it(checkout):
    lines = setup(checkout).stdout.splitlines()
    assert any("packages of tools/requirements.lock" in line for line in lines)
    assert f"setup:   10 of {locked(checkout)} are here" in lines


def locked(checkout: Path) -> int:
    lines = (checkout / "tools/requirements.lock").read_text().splitlines()
    return sum(not line.startswith(" ") for line in lines)


SETPRIV = """\
#!/bin/sh
# As another user: whatever lies in the folder `roots` is closed to it.
shift 5
case "$1" in */roots/*) exit 126 ;; esac
exec "$@"
"""


@pytest.fixture
def as_root(checkout):
    """Root, whose own Python comes first in PATH, on a machine with another one."""
    programs = checkout.parent / "programs"
    for name, text in (("setpriv", SETPRIV), ("id", "#!/bin/sh\n[ $1 = -un ] && echo root || echo 0\n")):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (programs / "true").symlink_to(shutil.which("true") or "")
    roots = checkout.parent / "roots"
    roots.mkdir()
    shutil.copy(programs / "python3", roots / "python3")
    return lambda: setup(checkout, PATH=f"{roots}:{programs}")


def test_root_takes_a_python_that_the_nodes_user_can_run(checkout, as_root):
    made = as_root()
    assert f"making .venv with Python 3.11.2, {checkout.parent}/programs/python3\n" in made.stdout
    assert "only root" not in made.stdout


def test_where_only_root_can_run_any_python_that_is_said_with_the_remedy(checkout, as_root):
    (checkout.parent / "programs/python3").unlink()
    made = as_root()
    assert made.returncode == 0
    assert "setup: only root can run that Python: a node that runs as another user needs one" in made.stdout
    assert "remove .venv, and run bin/setup again" in made.stdout


def test_without_apt_missing_programs_are_named_in_one_line(checkout):
    (checkout.parent / "programs/rsync").unlink()
    refused = setup(checkout)
    assert refused.returncode == 2
    assert refused.stderr == "setup: please install first: rsync (Debian: apt-get install rsync)\n"


def test_an_unknown_option_is_refused(checkout):
    refused = setup(checkout, "--service")
    assert refused.returncode == 2
    assert "--service" in refused.stderr
