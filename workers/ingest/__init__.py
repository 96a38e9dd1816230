"""The ingest pipeline: package, store, record."""
