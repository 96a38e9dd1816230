"""The tables `[broker]` and `[broker.nsq]`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from dpn.setting_types import Address, Section


class NsqSettings(Section):
    """Where nsqd and nsqlookupd are."""

    nsqd_http_addresses: tuple[Address, ...] = ()
    nsqd_tcp_addresses: tuple[Address, ...] = ()
    nsqlookupd_http_addresses: tuple[Address, ...] = ()


class BrokerSettings(Section):
    """How an item's id reaches a worker."""

    kind: Literal["embedded", "nsq"] = "embedded"
    poll_seconds: PositiveFloat = 1.0
    nsq: NsqSettings = NsqSettings()

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "nsq":
            if not self.nsq.nsqd_http_addresses:
                raise ValueError("nsq needs [broker.nsq] nsqd_http_addresses, where messages are published")
            if not (self.nsq.nsqd_tcp_addresses or self.nsq.nsqlookupd_http_addresses):
                raise ValueError(
                    "nsq needs [broker.nsq] nsqlookupd_http_addresses or nsqd_tcp_addresses to read from"
                )
        return self
