"""Deposits from S3: what lies under a prefix is fetched, several objects at once, and goes on after a kill."""

from __future__ import annotations

from dpn.packaging.s3.entries import fetched_entries, object_sizes, unfit_objects

__all__ = ["fetched_entries", "object_sizes", "unfit_objects"]
