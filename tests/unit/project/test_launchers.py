"""The commands in bin/ find their checkout from anywhere, through links too, and pass on what they are given."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SAY_ARGUMENTS = '#!/bin/sh\nfor word in "$@"; do printf "[%s]" "$word"; done\n'

LAUNCHERS = {
    "dpn": "[-P][-m][dpn.cli.main]",
    "dpn_node": "[-P][-m][dpn.cli.main][node]",
    "dpn_sync": "[-P][-m][dpn.cli.main][sync]",
    "dpn_queue": "[-P][-m][dpn.cli.main][queue]",
    "dpn_cleanup": "[-P][-m][dpn.cli.main][cleanup]",
    "dpn_copy": "[-P][-m][dpn.cli.main][worker][copy]",
    "dpn_validate": "[-P][-m][dpn.cli.main][worker][validate]",
    "dpn_replication_store": "[-P][-m][dpn.cli.main][worker][replication-store]",
    "dpn_package": "[-P][-m][dpn.cli.main][worker][package]",
    "dpn_ingest_store": "[-P][-m][dpn.cli.main][worker][ingest-store]",
    "dpn_ingest_record": "[-P][-m][dpn.cli.main][worker][ingest-record]",
    "dpn_glacier_restore_init": "[-P][-m][dpn.cli.main][worker][glacier-restore-init]",
    "dpn_s3_retriever": "[-P][-m][dpn.cli.main][worker][s3-retriever]",
    "dpn_fixity_checker": "[-P][-m][dpn.cli.main][worker][fixity-checker]",
    "dpn_restore_deliver": "[-P][-m][dpn.cli.main][worker][restore-deliver]",
    "dpn_recovery": "[-P][-m][dpn.cli.main][worker][recovery]",
    "services": "[-P][-m][tools.services]",
    "demo": "[-P][-m][tools.demo]",
    "test": "[-P][-m][pytest]",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of bin/ in which python and bin/setup only say how they were called."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "bin", root / "bin")
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    for program in (python, root / "bin/setup"):
        program.write_text(SAY_ARGUMENTS)
        program.chmod(0o755)
    (root / ".venv/.installed").touch()
    return root


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, cwd="/", check=True)


def test_every_command_is_known_here():
    assert {path.name for path in (ROOT / "bin").iterdir()} >= LAUNCHERS.keys() | {"setup"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_command_works_from_anywhere_and_through_a_link(checkout, tmp_path, name):
    link = tmp_path / "link"
    link.symlink_to(checkout / "bin" / name)
    said = run(link, "--config", "two words", "*").stdout
    assert said.removeprefix("[--services]") == f"{LAUNCHERS[name]}[--config][two words][*]"


def test_a_checkout_without_environment_is_set_up_first_and_quietly(checkout):
    (checkout / ".venv/.installed").unlink()
    (checkout / "bin/setup").write_text("#!/bin/sh\necho setting up\n")
    done = run(checkout / "bin/dpn", "--version")
    assert done.stderr == "setting up\n"
    assert done.stdout == "[-P][-m][dpn.cli.main][--version]"


@pytest.mark.parametrize(
    ("arguments", "needs_services"),
    [
        ([], False),
        (["nsq"], False),
        (["--broker", "embedded", "--database", "sqlite", "--store", "file"], False),
        (["--broker", "nsq"], True),
        (["bag.tar", "--broker=nsq"], True),
        (["--nodes", "2", "--database", "postgresql"], True),
        (["--store=s3", "bag.tar"], True),
        (["--store", "glacier"], True),
    ],
)
def test_the_demo_asks_for_servers_only_if_an_option_needs_them(checkout, arguments, needs_services):
    asked = run(checkout / "bin/demo", *arguments).stderr
    assert asked == ("[--services]" if needs_services else "")
