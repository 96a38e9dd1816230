"""A node's data are worked on by their owner's processes only, unless it is said to be meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpn.cli.main import app
from dpn.cli.owner import ROOT, require_owner
from dpn.errors import Misconfigured
from dpn.settings_file import load_settings

SOMEBODY = 12345


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *words])


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files away")
@pytest.mark.parametrize("command", ["items", "queue", "db upgrade", "cron queue", "node status"])
def test_root_does_not_work_on_what_is_anothers_unless_it_is_meant(config: Path, command: str) -> None:
    database = config.with_name("node.db")
    os.chown(database, SOMEBODY, SOMEBODY)
    refused = run(config, *command.split())
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert isinstance(refused.exception, Misconfigured)
    assert str(refused.exception).startswith(f"{database} belongs to {SOMEBODY}, and this runs as root: ")
    assert not isinstance(run(config, *command.split(), "--as-root-anyway").exception, Misconfigured)
    assert not isinstance(run(config, "--as-root-anyway", *command.split()).exception, Misconfigured)


def test_another_user_than_the_one_whose_the_data_are_is_refused(config: Path) -> None:
    settings = load_settings(config, {})
    require_owner(settings)
    with pytest.raises(Misconfigured, match=r"node\.db belongs to .*, and this runs as 12345"):
        require_owner(settings, SOMEBODY)
    config.with_name("node.db").unlink()
    require_owner(settings, SOMEBODY)  # nothing is there yet: whoever makes it is its owner


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files away")
def test_root_does_not_make_what_would_lie_in_anothers_folder(config: Path, tmp_path: Path) -> None:
    settings = load_settings(config, {})
    config.with_name("node.db").unlink()
    require_owner(settings)
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    with pytest.raises(Misconfigured, match="belongs to 12345"):
        require_owner(settings)
