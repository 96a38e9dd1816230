"""Proves the copies: reads every stored tar back from its store and holds its SHA-256 against the deposit's."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.errors import DpnError, Interrupted, StoreCold, StoreMissing
from dpn.storage.store import Store
from dpn.storage.stores import open_store
from tools.demo.deposit import Request
from tools.network.backends import Backends
from tools.network.node import RunningNode

RESTORE_SECONDS = 120.0
RESTORE_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Copy:
    """What a node's store holds of a bag. `sha256` is of all `bytes` that were read; None if nothing is there."""

    request: Request
    url: str | None
    bytes: int = 0
    sha256: str | None = None
    problem: str = ""

    @property
    def verified(self) -> bool:
        """Whether the copy is the deposited tar, to the byte."""
        deposit = self.request.deposit
        return self.sha256 is not None and self.sha256 == deposit.sha256 and self.bytes == deposit.size


def read_back(
    nodes: Mapping[str, RunningNode],
    requests: Sequence[Request],
    backends: Backends,
    *,
    cancellation: Cancellation | None = None,
) -> list[Copy]:
    """Every copy as its store gives it back now. A store that cannot be read is a problem of the copy."""
    cancellation = cancellation or Cancellation()
    stores = {
        name: open_store(node.settings.needed_store(), clock=SystemClock())
        for name, node in nodes.items()
        if any(request.to_node == name for request in requests)
    }
    return [
        _read(request, nodes[request.to_node], stores[request.to_node], backends, cancellation)
        for request in requests
    ]


def _read(
    request: Request, node: RunningNode, store: Store, backends: Backends, cancellation: Cancellation
) -> Copy:
    key = f"{request.deposit.uuid}.tar"
    url = f"{node.settings.needed_store().url.rstrip('/')}/{key}"
    try:
        count, sha256 = _digest(store, key, lambda: backends.ask_for_restore(node.place, key), cancellation)
    except StoreMissing:
        return Copy(request, None, problem="the store does not have it")
    except Interrupted:
        raise
    except (DpnError, OSError) as error:
        return Copy(request, url, problem=str(error))
    return Copy(request, url, count, sha256)


def chunks_of(
    store: Store, key: str, ask_for_restore: Callable[[], None], cancellation: Cancellation
) -> Iterator[bytes]:
    """An object's bytes; one in cold storage is restored first, and waited for. Raises what the store raises."""
    deadline = time.monotonic() + RESTORE_SECONDS
    asked = False
    while True:
        chunks = store.read(key)
        try:
            first = next(chunks, b"")
            break
        except StoreCold:
            if time.monotonic() > deadline:
                raise
            if not asked:
                ask_for_restore()
                asked = True
            cancellation.wait(RESTORE_LOOK_SECONDS)
            cancellation.check()
    yield first
    for chunk in chunks:
        cancellation.check()
        yield chunk


def _digest(
    store: Store, key: str, ask_for_restore: Callable[[], None], cancellation: Cancellation
) -> tuple[int, str]:
    """Bytes and SHA-256 of an object."""
    digest, count = hashlib.sha256(), 0
    for chunk in chunks_of(store, key, ask_for_restore, cancellation):
        digest.update(chunk)
        count += len(chunk)
    return count, digest.hexdigest()
