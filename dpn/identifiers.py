"""How bags, nodes and digests are named (DPN REST API v2): always in lower case."""

from __future__ import annotations

import re

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
UUID_VERSION_4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
"""A node's."""

SHA256_HEX = re.compile(r"[0-9a-f]{64}\Z")
