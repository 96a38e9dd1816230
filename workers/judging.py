"""Judging a whole bag: what all stages that do so have in common. An I/O error is never a verdict."""

from __future__ import annotations

from dpn.bags.validation.verdict import verdict as judge

__all__ = ["judge"]
