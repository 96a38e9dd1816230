"""Our own copy of a bag, straight from our store: cold ones are asked to be readable first."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpn.cli.restore.fetch import BagFetch, FetchedBag, NotFetched
from dpn.cli.thaw import request_thaw
from dpn.database import reading
from dpn.errors import Misconfigured, StoreMismatch, StoreMissing
from dpn.fixity.begin import copy_facts
from dpn.storage.availability import RestoreRequested
from dpn.storage.errors import ObjectReplaced
from dpn.storage.ownership.own_store import open_own_store
from dpn.storage.store import Store
from dpn.work.breakers import Breakers
from models.manifests import CopyFacts
from models.preservation import StoredCopy
from workers.own_copy import OwnCopies
from workers.runner.services import breaker_policy

TAKES = {"Bulk": "up to 48 hours", "Standard": "up to 12 hours", "Expedited": "a few minutes"}
"""How long a cold store takes for a restore by each tier (Amazon S3 User Guide, "Archive retrieval options")."""


def from_store(bag_fetch: BagFetch, *, wait_seconds: float) -> FetchedBag:
    """The bag from our own store. A cold one is asked to make it readable.

    Raises NotFetched if it cannot be read within `wait_seconds`, or is bad or missing; Misconfigured if we keep
    none; what `BagFetch.run` does.
    """
    node, settings, copied = bag_fetch.node, bag_fetch.node.settings, _copy_of(bag_fetch)
    jitter = random.SystemRandom().random
    breakers = Breakers(node.sessions, breaker_policy(settings.work), clock=node.clock, jitter=jitter)
    own_store = open_own_store(
        settings.needed_store(), node=node.namespace, sessions=node.sessions, clock=node.clock
    )
    copies = OwnCopies(own_store, settings.needed_store(), breakers)

    def get(tar: Path, _lock: int, progress: Callable[[int], None]) -> dict[str, Any]:
        with copies.reach(copied) as store:
            got = store.retrieve(
                copied.key,
                tar,
                receipt=copied.receipt,
                cancellation=bag_fetch.cancellation,
                progress=lambda done, _: progress(done),
            )
        return {"url": copied.receipt.url, "bytes": got.size}

    try:
        with copies.reach(copied) as store:
            _until_readable(bag_fetch, copied, store, wait_seconds)
        return bag_fetch.run(f"our store {copied.store}", get)
    except StoreMissing as error:
        raise NotFetched("missing", f"our copy is not there: {error}. {_elsewhere(copied.bag)}") from error
    except (StoreMismatch, ObjectReplaced) as error:
        raise NotFetched("bad", f"our copy is bad: {error}. {_elsewhere(copied.bag)}") from error


def _copy_of(bag_fetch: BagFetch) -> CopyFacts:
    with reading(bag_fetch.node.sessions) as session:
        copy = session.get(StoredCopy, bag_fetch.bag.uuid)
        if copy is None:
            raise Misconfigured(
                f"we keep no copy of bag {bag_fetch.bag.uuid}: dpn restore request {bag_fetch.bag.uuid}"
            )
        return copy_facts(copy)


def _until_readable(bag_fetch: BagFetch, copied: CopyFacts, store: Store, wait_seconds: float) -> None:
    """Returns once the copy can be read; asks for that, if need be. Raises NotFetched after `wait_seconds`."""
    clock, settings = bag_fetch.node.clock, bag_fetch.node.settings.fixity
    until = clock.monotonic() + wait_seconds
    while (found := store.availability(copied.key, version_id=copied.receipt.version_id)).state != "available":
        if found.state == "missing":
            raise StoreMissing(found.why)
        asked = _ask(bag_fetch, copied, store) if found.state == "cold" else None
        if asked is not None and asked.outcome == "already-available":
            return  # where our clock says that this is over, the store is right
        why = found.why if asked is None else asked.why
        left = until - clock.monotonic()
        if left <= 0:
            takes = TAKES[settings.retrieval_tier]
            raise NotFetched(
                "cold",
                f"our copy is on its way from cold storage ({why}): a {settings.retrieval_tier} restore takes "
                f"{takes}. Give the same command again then; it stays readable for "
                f"{settings.keep_restored_days} days",
            )
        bag_fetch.cancellation.wait(min(left, settings.look_again_seconds))
        bag_fetch.cancellation.check()


def _ask(bag_fetch: BagFetch, copied: CopyFacts, store: Store) -> RestoreRequested:
    """Has the copy made readable. Raises NotFetched if it refuses."""
    asked = request_thaw(
        bag_fetch.node,
        store,
        copied.key,
        bag=copied.bag,
        size=copied.size,
        version_id=copied.receipt.version_id,
        url=copied.receipt.url,
        cancellation=bag_fetch.cancellation,
    )
    if asked.outcome in ("refused", "no-capacity"):
        tier = bag_fetch.node.settings.fixity.retrieval_tier
        raise NotFetched(
            "refused",
            f"the store gives no {tier} restore of {copied.receipt.url}: {asked.why}. Try again later, or set "
            "another fixity.retrieval_tier",
        )
    return asked


def _elsewhere(bag: str) -> str:
    return f"Another node has one: dpn restore request {bag}. `dpn items --attention` shows what is known of ours"
