"""The registry: the records' rules, where they are kept, the REST server (DPN REST API v2) and its client."""
