"""The `[broker]` table."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from dpn.setting_types import Address, Section


class BrokerSettings(Section):
    """How an item's id reaches a worker."""

    kind: Literal["embedded", "nsq"] = "embedded"
    poll_seconds: PositiveFloat = 1.0
    nsqd_http_addresses: tuple[Address, ...] = ()
    nsqd_tcp_addresses: tuple[Address, ...] = ()
    nsqlookupd_http_addresses: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "nsq":
            if not self.nsqd_http_addresses:
                raise ValueError("broker nsq needs nsqd_http_addresses, where messages are published")
            if not (self.nsqd_tcp_addresses or self.nsqlookupd_http_addresses):
                raise ValueError("broker nsq needs nsqlookupd_http_addresses or nsqd_tcp_addresses to read from")
        return self
