"""Publishes the intents that committed transactions left behind, as often as needed; repeats do no harm."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from sqlalchemy import delete, select

from dpn.broker import Broker, BrokerUnavailable
from dpn.database import Sessions, reading
from models.work import DispatchIntent

BATCH = 100


def publish_intents(sessions: Sessions, broker: Broker, *, item_id: int | None = None) -> int:
    """Publishes what is intended (of one item, or of all), oldest first; returns how many messages went out.

    An intent is removed only once its message was taken. Raises BrokerUnavailable; what is left stays intended.
    """
    published = 0
    while True:
        with reading(sessions) as session:
            wanted = select(DispatchIntent.id, DispatchIntent.topic, DispatchIntent.item_id)
            if item_id is not None:
                wanted = wanted.where(DispatchIntent.item_id == item_id)
            batch = session.execute(wanted.order_by(DispatchIntent.id).limit(BATCH)).all()
        if not batch:
            return published
        sent: list[int] = []
        try:
            for queue, intents in groupby(sorted(batch, key=_queue), key=_queue):
                of_queue = list(intents)
                broker.publish(queue, *(intent.item_id for intent in of_queue))
                sent += [intent.id for intent in of_queue]
        except BrokerUnavailable:
            if not sent:
                raise
        with sessions.begin() as session:
            session.execute(delete(DispatchIntent).where(DispatchIntent.id.in_(sent)))
        published += len(sent)
        if len(sent) < len(batch):
            raise BrokerUnavailable(f"published {published} messages, then no nsqd took any")


def _queue(intent: Any) -> str:
    return str(intent.topic)
