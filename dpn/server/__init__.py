"""The REST server: DPN REST API v2 over the catalogue."""
