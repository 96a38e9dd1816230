"""Registries of a node `north`."""

from __future__ import annotations

from tests.services.registry.conftest import any_registry, clock, registry, with_a_transfer

__all__ = ["any_registry", "clock", "registry", "with_a_transfer"]
