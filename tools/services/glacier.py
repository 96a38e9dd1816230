"""glacier: moto's server, for what only it has: storage classes that must be restored before they can be read."""

from __future__ import annotations

import sys
from typing import Any

from tools.services.ports import LOOPBACK
from tools.services.process import Launch
from tools.services.service import Home, Service, http_json

REGION = "us-east-1"


class Glacier(Service):
    """An S3 server with Glacier's semantics; it forgets everything when it stops.

    `--set glacier.NAME=VALUE` sets an environment variable of moto.
    """

    name = "glacier"
    port_names = ("http",)

    def prepare(self, home: Home) -> Launch:
        argv = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(home.ports["http"])]
        return Launch(argv, home.flags)

    def entry(self, home: Home) -> dict[str, Any]:
        return {
            "endpoint": f"http://{home.address('http')}",
            "access_key": home.secret("access_key"),
            "secret_key": home.secret("secret_key"),
            "region": REGION,
        }

    def check(self, entry: dict[str, Any]) -> None:
        # Not data.json: that tells everything it holds, and takes as long.
        http_json(entry["endpoint"].removeprefix("http://"), "/moto-api/config")
