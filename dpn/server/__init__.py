"""The REST server: DPN REST API v2 over the catalogue."""

from dpn.server.app import create_app

__all__ = ["create_app"]
