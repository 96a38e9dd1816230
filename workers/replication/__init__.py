"""The replication pipeline: copy, validate, store."""
