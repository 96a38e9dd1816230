"""`dpn peer add`: what our registry needs is entered, what is root's to do is told in words that can be pasted."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpn.access import tokens
from dpn.cli.main import app
from dpn.database import Sessions
from dpn.errors import Misconfigured
from dpn.registry.catalogue import NODES, find
from dpn.registry.records import Agreement
from dpn.settings_file import load_settings

AT_NORTH = ("--api-root", "https://dpn.north.example.org")


@pytest.fixture
def node(config: Path) -> Path:
    """The settings of a node that has its own record."""
    assert CliRunner().invoke(app, ["--config", str(config), "db", "upgrade"]).exit_code == 0
    return config


def add(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), "peer", "add", "north", *arguments])


def agreed(sessions: Sessions) -> set[str]:
    with sessions() as session:
        ours = find(session, NODES, "south")
    assert ours is not None
    return {name for name in Agreement if "north" in getattr(ours, name)}


def issued(sessions: Sessions) -> int:
    with sessions() as session:
        return len(tokens.issued(session))


def test_a_new_peer_is_agreed_with_gets_one_token_and_the_settings_to_add_are_right(
    node: Path, sessions: Sessions
) -> None:
    first = add(node, *AT_NORTH, "--host", "bags.north.example.org")
    assert first.exit_code == 1, "the settings are still missing"
    token = re.search(r"\b[0-9a-f]{64}\b", first.stdout)
    assert token is not None
    with sessions() as session:
        shown = tokens.identify(session, token[0])
    assert shown is not None
    assert (shown.owner, agreed(sessions)) == ("north", set(Agreement))

    lines = first.stdout.partition(f"add to {node}:\n")[2].partition("then:")[0]
    file = Path(tomllib.loads(lines)["peers"]["north"]["token_file"])
    assert file == node.parent / "secrets" / "north.token"
    node.write_text(f"{node.read_text()}\n{lines}")
    peer = load_settings(node).peers["north"]
    assert (peer.api_root, peer.rsync.hosts) == ("https://dpn.north.example.org", ("bags.north.example.org",))

    second = add(node)
    assert re.search(r"\b[0-9a-f]{64}\b", second.stdout) is None
    assert f"its token for us: token_file: {file} cannot be read" in second.stdout
    assert f"cat > {file}" in second.stdout
    assert issued(sessions) == 1
    with sessions() as session:
        north = find(session, NODES, "north")
    assert north is not None
    assert north.api_root == "https://dpn.north.example.org"


def test_only_what_is_agreed_is_entered(node: Path, sessions: Sessions) -> None:
    add(node, *AT_NORTH, "--agree", "replicate_from", "--agree", "restore_to")
    assert agreed(sessions) == {"replicate_from", "restore_to"}
    add(node)
    assert agreed(sessions) == {"replicate_from", "restore_to"}, "without a word it stays as it is"


def test_a_check_changes_nothing_and_tells_what_is_missing(node: Path, sessions: Sessions) -> None:
    checked = add(node, "--check")
    assert checked.exit_code == 1
    for missing in (
        "agreements: none",
        "our token for it: none that counts",
        f"settings: no [peers.north] in {node}",
    ):
        assert missing in checked.stdout
    assert (agreed(sessions), issued(sessions)) == (set(), 0)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("--api-root", "http://dpn.north.example.org"), "must be https://"),
        (("--api-root", "dpn.north.example.org"), "must be an http:// or https:// address"),
        (("--host", "bags.north.example.org"), "need --api-root"),
    ],
)
def test_what_cannot_be_a_peers_table_enters_nothing(
    node: Path, sessions: Sessions, wrong: tuple[str, str], why: str
) -> None:
    refused = add(node, *wrong)
    assert isinstance(refused.exception, Misconfigured)
    assert why in str(refused.exception)
    assert (agreed(sessions), issued(sessions)) == (set(), 0)


def test_we_are_no_peer_of_our_own(node: Path) -> None:
    ended = CliRunner().invoke(app, ["--config", str(node), "peer", "add", "south"])
    assert isinstance(ended.exception, Misconfigured)
