"""Builds the stages of an ingest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.fixity.copies import Copies
from dpn.work.pipeline import StageSpec
from workers.bag_store import BagStore
from workers.ingest import INGEST_RECORD, INGEST_STORE, PACKAGE
from workers.ingest.package import PackageStage
from workers.ingest.record import IngestRecordStage
from workers.ingest.store import IngestStoreStage
from workers.runner.services import Services
from workers.stage import Stage


def _package(services: Services) -> PackageStage:
    settings = services.settings
    outbound = (one.folder for one in settings.ingest.outbound.values())
    return PackageStage(
        node=services.namespace,
        staging=services.staging,
        settings=settings.ingest,
        our_folders=(*settings.staging.volumes.values(), *outbound),
    )


def _store(services: Services) -> IngestStoreStage:
    bag_store = BagStore(
        staging=services.staging,
        store=services.store,
        breakers=services.breakers,
        conflict_poll_seconds=services.settings.work.verdict_poll_seconds,
    )
    return IngestStoreStage(
        node=services.namespace,
        bag_store=bag_store,
        copies=Copies(services.sessions, services.settings.fixity.every_days),
    )


def _record(services: Services) -> IngestRecordStage:
    return IngestRecordStage(
        node=services.namespace,
        peers=frozenset(services.settings.peers),
        sessions=services.sessions,
        staging=services.staging,
        settings=services.settings.ingest,
        clock=services.clock,
        poll_seconds=services.settings.work.verdict_poll_seconds,
        new_id=services.runtime.new_id,
    )


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {
    PACKAGE: _package,
    INGEST_STORE: _store,
    INGEST_RECORD: _record,
}
