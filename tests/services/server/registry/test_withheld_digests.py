"""With `ingest.withhold_digests` nobody learns from us the digest that it must have the bag to know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpn.clock import ManualClock
from tests.fixtures.records import DIGEST, a_bag, a_digest, a_transfer, uuid
from tests.fixtures.registry import RunningRegistry, running_registry
from tests.services.registry.conftest import PEERS, post

TRANSFER = a_transfer().key[0]


@pytest.fixture
def withholding(database_url: str, tmp_path: Path, clock: ManualClock) -> Iterator[RunningRegistry]:
    """North's, with one bag, offered to both peers."""
    ingest = {"withhold_digests": True}
    with running_registry(
        "north", database_url=database_url, folder=tmp_path, peers=PEERS, clock=clock, ingest=ingest
    ) as registry:
        post(registry, a_bag(), a_digest(), a_transfer(1), a_transfer(2, to_node="west"))
        yield registry


def told(registry: RunningRegistry, node: str) -> list[bool]:
    """Whether the bag's digest stands in each of the answers that could hold it; the last is that of a transfer to
    south."""
    paths = ["/digest", f"/bag/{uuid(1)}/digest", "/replicate"]
    lists = [registry.ask(node, "GET", f"{path}?page=1&page_size=10") for path in paths]
    answers = [
        *lists,
        registry.ask(node, "GET", f"/bag/{uuid(1)}/digest/sha256"),
        registry.ask(node, "GET", f"/replicate/{TRANSFER}"),
    ]
    for answer in lists:
        assert answer.status_code == 200
        assert answer.json()["count"] == len(answer.json()["results"])
    return [DIGEST in answer.text for answer in answers]


def send(registry: RunningRegistry, node: str, number: int, digest: str) -> str:
    """The node sends what it computed of its copy; returns what it is answered."""
    transfer = a_transfer(number, to_node=node, fixity_value=digest)
    answer = registry.ask(node, "PUT", f"/replicate/{transfer.key[0]}", json=transfer.to_wire())
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_node_sees_our_digest_once_it_has_sent_its_own(withholding: RunningRegistry) -> None:
    assert told(withholding, "north") == [True, True, False, True, False], "it is ours"
    assert told(withholding, "south") == told(withholding, "west") == [False] * 5
    send(withholding, "south", 1, DIGEST)
    assert told(withholding, "south") == [True] * 5
    assert told(withholding, "west") == [False] * 5, "nor what another one sent"
    send(withholding, "west", 2, DIGEST)
    assert told(withholding, "west") == [True] * 5


def test_a_wrong_one_teaches_nothing(withholding: RunningRegistry) -> None:
    assert DIGEST not in send(withholding, "south", 1, "0" * 64)
    assert told(withholding, "south") == [False] * 5


def test_the_state_of_a_list_changes_with_what_is_shown(withholding: RunningRegistry) -> None:
    def state() -> str:
        return withholding.ask("south", "GET", "/digest?page=1&page_size=10").headers["DPN-List-State"]

    before = state()
    assert state() == before
    send(withholding, "south", 1, DIGEST)
    assert state() != before
