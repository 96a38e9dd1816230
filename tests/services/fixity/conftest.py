"""A migrated database, and a clock that only moves when told to."""

from __future__ import annotations

from tests.services.work.conftest import clock, item, sessions

__all__ = ["clock", "item", "sessions"]
