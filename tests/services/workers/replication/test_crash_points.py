"""A worker that dies between any two steps leaves an item that ends exactly as if nothing had happened.

Steps are every call to the owner, the store, the staging volume and rsync, and every commit: the worker is killed
after the first, after the second, and so on, once each. (To die before a step is to die after the one before.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import workers.replication.copy
from dpn.clock import ManualClock
from dpn.database import reading
from models.work import AuditEvent, WorkItem
from tests.fixtures.in_full import in_full
from tests.fixtures.mortality import Life, dies_once, require_the_same_end
from tests.services.workers.replication.consortium import North, South, make_south


def replicate(
    north: North, south: South, bag: Path, corrupt: Callable[[Path], None], life: Life
) -> dict[str, Any]:
    """The story of one bag, with the worker dying once on the way; returns all that is left in the end."""
    transfer = north.deposit(bag)
    corrupt(north.outbound / bag.name)
    item = south.request(transfer)
    dies_once(south, life, south.settle_all, [(workers.replication.copy, "fetch", "rsync")])
    south.clean_up()
    return what_is_left(north, south, transfer.replication_id, item, bag)


def what_is_left(north: North, south: South, replication_id: str, item: int, bag: Path) -> dict[str, Any]:
    told = north.transfer(replication_id)
    store = Path(south.settings.store.url.removeprefix("file://"))
    manifest = south.manifest(item)
    with reading(south.sessions) as session:
        items = session.execute(select(WorkItem.task, WorkItem.stage, WorkItem.status, WorkItem.needs_attention))
        events = session.execute(select(AuditEvent.event_type, AuditEvent.outcome)).all()
        left = {
            "items": sorted(map(tuple, items)),
            "events": Counter(map(tuple, events)),
            "reservations": south.reservations(),
        }
    return {
        **left,
        "owner": (told.store_requested, told.stored, told.cancelled, told.cancel_reason),
        "fixity": told.fixity_value is not None,
        "stored": [path.read_bytes() == bag.read_bytes() for path in store.rglob("*.tar")],
        "receipt": manifest.receipt is not None,
        "staged": south.staged(),
        "quarantined": len(south.quarantined()),
    }


def nothing(_tar: Path) -> None:
    """The bag is as it should be."""


def damage_payload(tar: Path) -> None:
    content = bytearray(tar.read_bytes())
    content[content.index(bytes(range(64))) + 5] ^= 1
    tar.write_bytes(content)


def replace_tag_manifest(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes().replace(b"manifest-sha256.txt\n", b"manifest-sha256.tXt\n"))


@pytest.mark.parametrize(
    ("corrupt", "status"),
    [
        (nothing, "success"),
        (damage_payload, "failed"),
        pytest.param(replace_tag_manifest, "failed", marks=in_full),
    ],
)
def test_a_worker_that_dies_at_any_moment_changes_nothing_about_the_end(
    north: North,
    make_bag: Callable[..., Path],
    tmp_path: Path,
    corrupt: Callable[[Path], None],
    status: str,
) -> None:
    def story(number: int, life: Life) -> dict[str, Any]:
        south = make_south(tmp_path / f"south-{number}", north, ManualClock())
        left = replicate(north, south, make_bag(1000), corrupt, life)
        south.sessions.kw["bind"].dispose()
        return left

    undisturbed = Life()
    expected = story(0, undisturbed)
    assert expected["items"][-1][2] == status
    require_the_same_end(story, expected, undisturbed.moments)
