"""Runs migrations on the connection that the caller hands in."""

from __future__ import annotations

from alembic import context

import models.messages
import models.preservation
import models.registry
import models.work  # noqa: F401
from models import partial_indexes
from models.base import Base

partial_indexes.declare()
connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
