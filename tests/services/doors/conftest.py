"""A migrated database, on SQLite and PostgreSQL, and an intake that makes toys of what comes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import insert_missing
from dpn.work import outbox
from dpn.work.items import new_item
from models.work import WorkItem
from tests.fixtures.scripted.bench import Bench
from tests.fixtures.toy import TOYS, ToyManifest


@dataclass
class ToyIntake:
    """Makes a toy of each JSON text, and owes a refusal of all else."""

    taken: list[bytes] = field(default_factory=list)

    def take(self, session: Session, door: str, body: bytes, *, clock: Clock) -> int | None:
        number = len(self.taken)
        self.taken.append(body)
        try:
            name = json.loads(body)
        except ValueError:
            outbox.owe(
                session,
                key=f"refusal {number}",
                destination=f"door:{door}",
                body="not JSON",
                item_id=None,
                clock=clock,
            )
            return None
        row = new_item(
            task="toy",
            identifier=f"{name} {number}",
            remote_node=None,
            note="asked for",
            manifest=ToyManifest().model_dump(mode="json"),
            pipelines=TOYS,
            clock=clock,
        )
        insert_missing(session, WorkItem, [row])
        return session.scalars(select(WorkItem.id).where(WorkItem.identifier == row["identifier"])).one()


@pytest.fixture
def intake(bench: Bench) -> ToyIntake:
    bench.pipelines = TOYS
    return ToyIntake()
