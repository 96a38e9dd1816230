"""nsqlookupd and nsqd."""

from __future__ import annotations

from typing import Any

from tools.services.ports import LOOPBACK
from tools.services.process import Launch
from tools.services.programs import find_built
from tools.services.service import Home, NotReady, Service, http_get, http_json


class Nsqlookupd(Service):
    """Tells consumers which nsqd has a topic. `--set nsqlookupd.FLAG=VALUE` passes `-FLAG=VALUE`."""

    name = "nsqlookupd"
    port_names = ("tcp", "http")

    def prepare(self, home: Home) -> Launch:
        return Launch([find_built("nsqlookupd"), *_common_flags(home), *_extra_flags(home)], {})

    def entry(self, home: Home) -> dict[str, Any]:
        return {"tcp": home.address("tcp"), "http": home.address("http")}

    def check(self, entry: dict[str, Any]) -> None:
        _ping(entry["http"])


class Nsqd(Service):
    """The queue, registered with our nsqlookupd. `--set nsqd.FLAG=VALUE` passes `-FLAG=VALUE`."""

    name = "nsqd"
    port_names = ("tcp", "http")
    needs = ("nsqlookupd",)

    def prepare(self, home: Home) -> Launch:
        return Launch(
            [
                find_built("nsqd"),
                *_common_flags(home),
                f"-data-path={home.folder('data')}",
                f"-lookupd-tcp-address={home.others['nsqlookupd']['tcp']}",
                *_extra_flags(home),
            ],
            {},
        )

    def entry(self, home: Home) -> dict[str, Any]:
        return {
            "tcp": home.address("tcp"),
            "http": home.address("http"),
            "nsqlookupd_http": home.others["nsqlookupd"]["http"],
        }

    def check(self, entry: dict[str, Any]) -> None:
        """Answers, and nsqlookupd knows it: else consumers would not find it for the first seconds."""
        _ping(entry["http"])
        producers = http_json(entry["nsqlookupd_http"], "/nodes")["producers"]
        known = {f"{producer['broadcast_address']}:{producer['tcp_port']}" for producer in producers}
        if entry["tcp"] not in known:
            raise NotReady(f"nsqlookupd at {entry['nsqlookupd_http']} does not know nsqd {entry['tcp']} yet")


def _common_flags(home: Home) -> list[str]:
    return [
        f"-tcp-address={home.address('tcp')}",
        f"-http-address={home.address('http')}",
        f"-broadcast-address={LOOPBACK}",
    ]


def _extra_flags(home: Home) -> list[str]:
    return [f"-{flag}={value}" for flag, value in home.flags.items()]


def _ping(address: str) -> None:
    answer = http_get(address, "/ping")
    if answer != "OK":
        raise NotReady(f"GET http://{address}/ping: {answer[:100]!r}, not OK")
