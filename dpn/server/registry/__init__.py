"""/api-v2: DPN REST API v2 over the catalogue."""
