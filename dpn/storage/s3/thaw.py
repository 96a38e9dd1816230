"""Asking S3 for an archived object: RestoreObject, with every answer that it may give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import StoreCold, StoreMissing, TransientError
from dpn.s3.connection import Connection
from dpn.s3.errors import AlreadyActive, NoExpeditedCapacity, RestoreRefused, RestoreUnderWay
from dpn.storage.availability import (
    TIERED_CLASS,
    Availability,
    RestoreRequested,
    availability_of,
    needs_no_request,
    refused_beforehand,
)
from dpn.storage.s3 import objects
from dpn.storage.settings import Tier

HTTP_OK = 200
"""Given for an object that was restored before: only its time is extended. A new restore is 202, Accepted."""


def availability(connection: Connection, key: str, clock: Clock, *, version_id: str | None) -> Availability:
    """Looks at the object at the full `key`. Raises StoreUnavailable, Misconfigured."""
    stored = objects.find(connection, key, version_id=version_id)
    if stored is None:
        objects.check_bucket(connection)
        return Availability("missing", f"{connection.service} answers that there is no object {key}")
    return availability_of(stored, clock.now())


def request_restore(
    connection: Connection,
    key: str,
    clock: Clock,
    *,
    tier: Tier,
    days: int,
    faster: bool,
    version_id: str | None,
    cancellation: Cancellation,
) -> RestoreRequested:
    """See dpn.storage.store.Store.request_restore."""
    found = availability(connection, key, clock, version_id=version_id)
    if found.stored is None:
        raise StoreMissing(f"{connection.service}: no object {key}: nothing to restore")
    if needs_no_request(found, days, clock.now()):
        return _answer("already-available", found)
    if found.state == "restoring" and not faster:
        return _answer("under-way", found)
    if why := refused_beforehand(found, tier):
        return _answer("refused", found, why)
    if version_id is None and found.stored.version_id:
        version_id = found.stored.version_id
    return _ask(connection, key, clock, found, _request(found, tier, days), version_id, cancellation)


def _request(found: Availability, tier: Tier, days: int) -> dict[str, Any]:
    parameters: dict[str, Any] = {"GlacierJobParameters": {"Tier": tier}}
    # An object of this class moves back to stay: S3 refuses a number of days.
    return parameters if found.storage_class == TIERED_CLASS else {"Days": days, **parameters}


def _ask(
    connection: Connection,
    key: str,
    clock: Clock,
    found: Availability,
    request: Any,
    version_id: str | None,
    cancellation: Cancellation,
) -> RestoreRequested:
    version: Any = {"VersionId": version_id} if version_id else {}
    try:
        answer = connection.call(
            f"asking for the restore of {key}",
            lambda: connection.client.restore_object(
                Bucket=connection.bucket, Key=key, RestoreRequest=request, **version
            ),
            cancellation,
        )
    except RestoreUnderWay as error:
        return _answer("under-way", found, str(error), asked=True)
    except NoExpeditedCapacity as error:
        return _answer("no-capacity", found, str(error), asked=True)
    except (AlreadyActive, StoreCold, RestoreRefused) as error:
        return _look_again(connection, key, clock, version_id, error)
    if answer["ResponseMetadata"]["HTTPStatusCode"] != HTTP_OK:
        return _answer("faster" if found.state == "restoring" else "accepted", found, asked=True)
    later = availability(connection, key, clock, version_id=version_id)
    if later.state == "restoring":
        return _answer("accepted", later, asked=True)
    return replace(_answer("already-available", later, asked=True), until=later.until)


def _look_again(
    connection: Connection, key: str, clock: Clock, version_id: str | None, refusal: TransientError
) -> RestoreRequested:
    """A refusal because of the object's class or state: perhaps it changed while we asked."""
    now = availability(connection, key, clock, version_id=version_id)
    if isinstance(refusal, AlreadyActive) or (isinstance(refusal, StoreCold) and now.state == "available"):
        return _answer("already-available", now, str(refusal), asked=True)
    if now.state == "missing":
        raise StoreMissing(f"{connection.service}: {key} went while its restore was asked for") from refusal
    if now.state == "restoring":
        return _answer("under-way", now, str(refusal), asked=True)
    return _answer("refused", now, str(refusal), asked=True)


def _answer(outcome: Any, found: Availability, why: str | None = None, *, asked: bool = False) -> RestoreRequested:
    until = found.until if outcome == "already-available" else None
    return RestoreRequested(outcome, why or found.why, found.storage_class, until, asked)
