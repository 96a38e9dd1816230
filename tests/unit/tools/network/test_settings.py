"""A demo node is a node like any other: its settings are complete, its peers accept what it offers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.settings_file import load_settings
from dpn.transfer.link import parse_link
from dpn.work.settings import WorkSettings
from tools.network.place import LIVELY, Place, Ports, link, node_settings, write_settings
from tools.network.toml_text import merged, to_toml

BAG = "a9f7cbab-b531-4eb7-b532-770f592629ba"
NORTH, SOUTH = Ports(10_001, 10_002), Ports(10_003, 10_004)

texts = st.text(st.characters(exclude_categories=("Cs",)))
keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
plain = texts | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
tables = st.recursive(
    st.dictionaries(keys, plain | st.lists(plain)),
    lambda below: st.dictionaries(keys, plain | below),
    max_leaves=20,
)


@pytest.fixture
def south(tmp_path: Path) -> Place:
    place = Place("south", tmp_path / "a workdir, with Ümlaut" / "south")
    place.make_folders()
    place.write_secret("north.token", "north's token")
    return place


@given(tables)
def test_what_is_written_as_toml_is_read_as_it_was(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_settings_laid_over_others_replace_values_and_leave_the_rest() -> None:
    base = {"work": {"lease_seconds": 60, "sweep_seconds": 1}, "node": {"name": "x"}}
    over = merged(base, {"work": {"lease_seconds": 3}, "transfer": {"rsync": "rsync"}})
    assert over["work"] == {"lease_seconds": 3, "sweep_seconds": 1}
    assert set(over) == {"work", "node", "transfer"}
    assert base["work"] == {"lease_seconds": 60, "sweep_seconds": 1}


def test_a_nodes_settings_are_complete_and_readable_by_its_owner_only(south: Place) -> None:
    stands_on = {"database": {"url": "sqlite:////x/node.db"}, "store": {"url": south.store.as_uri()}}
    write_settings(south, node_settings(south, SOUTH, {"north": NORTH}, stands_on=stands_on))
    settings = load_settings(south.settings_file, environment={})
    assert settings.node.namespace == "south"
    assert settings.node.api_root.endswith(f":{settings.server.port}")
    assert settings.peers["north"].secret() == "north's token"
    assert settings.staging.volumes == {"main": south.volume}
    assert south.settings_file.stat().st_mode & 0o777 == 0o600
    assert south.secret("north.token").stat().st_mode & 0o777 == 0o600


def test_a_demo_is_livelier_than_a_real_node_but_its_lease_is_the_real_one() -> None:
    assert "lease_seconds" not in LIVELY
    assert WorkSettings.model_validate(LIVELY).lease_seconds == WorkSettings().lease_seconds


def test_the_link_that_a_node_offers_is_one_that_its_peer_accepts(south: Place) -> None:
    stands_on = {"database": {"url": "sqlite:////x/node.db"}, "store": {"url": south.store.as_uri()}}
    write_settings(south, node_settings(south, SOUTH, {"north": NORTH}, stands_on=stands_on))
    source = load_settings(south.settings_file, environment={}).peers["north"].rsync
    assert parse_link(link(NORTH, "south", BAG), source, bag=BAG).path == f"outbound/south/{BAG}.tar"
