"""Builds the stages of an ingest: a process imports those that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.work.pipeline import StageSpec
from workers.ingest import INGEST_RECORD, INGEST_STORE, PACKAGE
from workers.runner.services import Services
from workers.stage import Stage


def _package(services: Services) -> Stage:
    from workers.ingest.package import PackageStage

    settings = services.settings
    outbound = (one.folder for one in settings.ingest.outbound.values())
    return PackageStage(
        node=services.namespace,
        staging=services.staging,
        settings=settings.ingest,
        sessions=services.sessions,
        poll_seconds=settings.work.verdict_poll_seconds,
        our_folders=(*settings.staging.volumes.values(), *outbound),
    )


def _store(services: Services) -> Stage:
    from dpn.fixity.copies import Copies
    from workers.bag_store import BagStore
    from workers.ingest.store import IngestStoreStage

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


def _record(services: Services) -> Stage:
    from workers.ingest.record import IngestRecordStage

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
