"""Bags: read, validate, build. What this package calls valid is kept for decades."""
