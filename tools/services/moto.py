"""glacier and sqs: moto's servers, for what only they have. They forget everything when they stop."""

from __future__ import annotations

import sys
from typing import Any

from tools.services.ports import LOOPBACK
from tools.services.process import Launch
from tools.services.service import Home, Service, http_json

REGION = "us-east-1"


class Moto(Service):
    """A moto server. `--set NAME.VARIABLE=VALUE` sets an environment variable of moto."""

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


class Glacier(Moto):
    """An S3 server with storage classes that must be restored before they can be read."""

    name = "glacier"


class Sqs(Moto):
    """Amazon's queues: visibility time-outs, redelivery under the same MessageId."""

    name = "sqs"
