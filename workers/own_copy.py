"""Our copy of a bag, in the store that its receipt names: how the stages that read it get at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dpn.errors import Misconfigured
from dpn.storage.settings import StoreSettings
from dpn.storage.store import Store
from dpn.work.breakers import Breakers
from models.manifests import CopyFacts


@dataclass(frozen=True)
class OwnCopies:
    """The store that our copies lie in, and its settings."""

    store: Store
    settings: StoreSettings
    breakers: Breakers

    @contextmanager
    def reach(self, copied: CopyFacts) -> Iterator[Store]:
        """The store of the copy, behind its breaker.

        Raises Misconfigured if that is not the one of the settings: elsewhere the copy would only seem missing.
        Raises ServiceUnavailable while the store is left alone.
        """
        where = _url(self.settings, copied.key)
        if copied.store != self.store.name or copied.receipt.url != where:
            raise Misconfigured(
                f"our copy lies at {copied.receipt.url} in store {copied.store}, the settings say {where} in "
                f"store {self.store.name}: correct [store]"
            )
        with self.breakers.guard(f"store:{self.store.name}"):
            yield self.store


def _url(settings: StoreSettings, key: str) -> str:
    """Where a receipt of this store says that the object is."""
    parts = urlsplit(settings.url)
    if parts.scheme == "file":
        return (Path(unquote(parts.path)) / key).as_uri()
    prefix = parts.path.strip("/")
    return f"s3://{parts.netloc}/{prefix + '/' if prefix else ''}{key}"
