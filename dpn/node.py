"""What one process of a node has open: its settings, its database, its log, its clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from dpn.broker import Broker
from dpn.clock import Clock
from dpn.database import Sessions
from dpn.settings import Settings
from dpn.telemetry.logs import Log


@dataclass(frozen=True)
class OpenNode:
    """A node's settings, its open database, its log and its clock."""

    settings: Settings
    config: Path
    engine: Engine
    sessions: Sessions
    clock: Clock
    log: Log

    @property
    def namespace(self) -> str:
        return self.settings.node.namespace


def open_broker(node: OpenNode) -> Broker:
    """The broker that the settings name."""
    if node.settings.broker.kind == "nsq":
        from dpn.broker.nsq import NsqBroker

        return NsqBroker(node.settings.broker.nsq, client_name=f"dpn/{node.namespace}")
    from dpn.broker.embedded import EmbeddedBroker

    return EmbeddedBroker(node.engine, poll_seconds=node.settings.broker.poll_seconds)
