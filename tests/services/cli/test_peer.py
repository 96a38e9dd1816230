"""`dpn peer add` with a peer whose registry runs: nothing is missing once the two can work together."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpn.cli.main import app
from tests.fixtures.registry import RunningRegistry, running_registry


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(f"""
        [node]
        namespace = "south"
        api_root = "https://dpn.south.example.org"
        [database]
        url = "sqlite:///{tmp_path / "south.db"}"
        [transfer]
        identity_file = "{tmp_path}/id_ed25519"
        known_hosts_file = "{tmp_path}/known_hosts"
        """)
    assert CliRunner().invoke(app, ["--config", str(file), "db", "upgrade"]).exit_code == 0
    return file


def add(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), "peer", "add", "north", *arguments])


def pasted(config: Path, told: Result, north: RunningRegistry) -> None:
    """Does what root is told to."""
    lines = told.stdout.partition(f"add to {config}:\n")[2].partition("then:")[0]
    config.write_text(f"{config.read_text()}\n{lines}")
    secrets = config.parent / "secrets"
    secrets.mkdir()
    (secrets / "north.token").write_text(north.token("south"))


def test_step_by_step_until_nothing_is_missing(config: Path, tmp_path: Path) -> None:
    with running_registry(
        "north", database_url=f"sqlite:///{tmp_path / 'north.db'}", folder=tmp_path, peers=["south"]
    ) as north:
        pasted(config, add(config, "--api-root", north.url), north)
        without_keys = add(config)
        assert without_keys.exit_code == 1
        assert "its registry: answers at" in without_keys.stdout
        assert "bags from 127.0.0.1: transfer.identity_file:" in without_keys.stdout

        make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id_ed25519")]
        subprocess.run(make_key, check=True)
        key = (tmp_path / "id_ed25519.pub").read_text().rpartition(" ")[0]
        (tmp_path / "known_hosts").write_text(f"elsewhere.example.org {key}\n")
        unpinned = add(config, "--check")
        assert (unpinned.exit_code, "127.0.0.1 ssh-ed25519 …" in unpinned.stdout) == (1, True)

        (tmp_path / "known_hosts").write_text(f"127.0.0.1 {key}\n")
        complete = add(config, "--check")
        assert complete.exit_code == 0, complete.stdout
        assert f"our public key, for its operators: {key}" in complete.stdout

        (config.parent / "secrets" / "north.token").write_text("another")
        refused = add(config, "--check")
        assert refused.exit_code == 1
        assert "its registry: north does not accept our token" in refused.stdout
