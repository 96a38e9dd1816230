"""An operator's yes to a node that asks for a bag which it neither owns, nor ingested, nor is known to hold."""

from __future__ import annotations

from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.work.items import NotAllowed, retry_item
from dpn.work.pipeline import Pipelines
from dpn.work.queries import find_item
from models.manifests import RestoreManifest
from models.work import Task


def allow_restore(session: Session, item_id: int, *, operator: str, pipelines: Pipelines, clock: Clock) -> None:
    """Lets the bag be handed out and makes the item due. Raises NoSuchItem, NotAllowed, ManifestUnreadable."""
    item = find_item(session, item_id, lock=True)
    if item.task != Task.RESTORE:
        raise NotAllowed(f"item {item_id} is a {item.task}: only a restore is allowed")
    manifest = RestoreManifest.read(item.manifest)
    manifest.allowed_by = operator
    item.manifest = manifest.model_dump(mode="json")
    detail = {"restore": item.identifier, "to_node": manifest.transfer.to_node}
    event = Event(EventType.OPERATOR_ALLOW, manifest.transfer.bag, "pending", detail, item.id)
    record(session, [event], agent=operator, at=clock.now())
    session.flush()
    retry_item(session, item_id, operator=operator, pipelines=pipelines, clock=clock)
