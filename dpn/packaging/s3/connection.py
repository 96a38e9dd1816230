"""The S3 server that deposits come from: asked to list and to give, never to change anything."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from dpn.bags.errors import SourceRefused
from dpn.bags.index import DEFAULT_MAX_ENTRIES
from dpn.cancellation import Cancellation
from dpn.errors import SourceChanged, StoreCold, StoreMismatch, StoreMissing
from dpn.packaging.errors import FetchDamaged
from dpn.packaging.location import S3Location, service_of
from dpn.packaging.settings import DepositS3Settings
from dpn.s3.connection import Connection
from dpn.s3.errors import NoBucket, PreconditionFailed
from dpn.s3.limits import AnswerLimits, Retries
from dpn.s3.pages import ListedObject, list_objects
from dpn.s3.refusals import Refusals

PERMISSIONS = "s3:ListBucket and s3:GetObject there, or have the depositor allow it"


class S3Source:
    """One prefix. Safe to use from several threads at once. Every call ends in an answer or an error of ours."""

    def __init__(
        self,
        location: S3Location,
        settings: DepositS3Settings,
        *,
        retries: Retries | None = None,
        limits: AnswerLimits | None = None,
    ) -> None:
        self.location = location
        self.connection = Connection(
            settings,
            location.bucket,
            location.prefix,
            Refusals(service_of(location), "ingest.s3", "the deposit's source", PERMISSIONS),
            max_connections=settings.fetch_threads + 1,
            retries=retries,
            limits=limits,
        )

    def list(self, cancellation: Cancellation) -> Iterator[ListedObject]:
        """Every object under the prefix, in the server's order. Raises StoreUnavailable, Misconfigured,
        SourceRefused (there is no such bucket, or more in it than a bag can hold)."""
        with _as_a_source_fails():
            for number, one in enumerate(list_objects(self.connection, cancellation), 1):
                if number > DEFAULT_MAX_ENTRIES:
                    too_many = f"more than {DEFAULT_MAX_ENTRIES:,} objects: deposit it in several bags"
                    raise SourceRefused(f"{self.location} has {too_many}")
                yield one

    def get(self, key: str, etag: str, start: int) -> dict[str, Any]:
        """The answer with the object's bytes from `start` on, if it is still the one with this entity tag.

        Tried once. Raises SourceChanged, SourceRefused, StoreUnavailable, Misconfigured.
        """
        wanted: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {"ChecksumMode": "ENABLED"}
        request = self._of(self.connection.client.get_object, key, etag, **wanted)
        with _as_a_source_fails():
            return self.connection.call(f"fetching {self.location}{key}", request, attempts=1)

    def head(self, key: str, etag: str, cancellation: Cancellation) -> dict[str, Any]:
        """What the server says of an object, its checksums included. Raises as `get`."""
        request = self._of(self.connection.client.head_object, key, etag, ChecksumMode="ENABLED")
        with _as_a_source_fails():
            return self.connection.call(f"asking for {self.location}{key}", request, cancellation)

    def body(
        self, answer: Mapping[str, Any], size: int, cancellation: Cancellation
    ) -> Generator[bytes, None, None]:
        """The `size` bytes that an answer to `get` has. Raises FetchDamaged, StoreUnavailable, Interrupted."""
        with _as_a_source_fails():
            yield from self.connection.body(f"reading {self.location}", answer, size, cancellation)

    def _of(self, request: Any, key: str, etag: str, **more: Any) -> partial[dict[str, Any]]:
        location = self.location
        return partial(request, Bucket=location.bucket, Key=location.prefix + key, IfMatch=etag, **more)


@contextmanager
def _as_a_source_fails() -> Iterator[None]:
    """What the server's refusals mean to a depositor."""
    try:
        yield
    except NoBucket as error:
        raise SourceRefused(f"{error}: there is no such bucket: correct the source") from error
    except StoreCold as error:
        raise SourceRefused(f"{error}, then deposit it again") from error
    except (StoreMissing, PreconditionFailed) as error:
        raise SourceChanged(f"{error}: the object is gone or another one since it was listed") from error
    except StoreMismatch as error:
        raise FetchDamaged(f"{error}: it is fetched again") from error
