"""The REST client: what we ask of another node's registry (DPN REST API v2)."""

from dpn.registry.client.answers import NoAnswer
from dpn.registry.client.client import RegistryClient
from dpn.registry.client.lists import IncompleteList
from dpn.registry.client.rows import RejectedRecord

__all__ = ["IncompleteList", "NoAnswer", "RegistryClient", "RejectedRecord"]
