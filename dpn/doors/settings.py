"""The tables `[doors.NAME]`: where requests come from outside, and where their replies go."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, SecretStr, model_validator

from dpn.broker.settings import NsqSettings
from dpn.s3.settings import S3Access
from dpn.setting_types import AbsolutePath, Section, secret_of

QueueName = Annotated[str, Field(min_length=1, max_length=255)]


class _DoorSettings(Section):
    incoming: QueueName
    outgoing: QueueName | None = None
    """Without one there are no replies."""
    prefetch: Annotated[PositiveInt, Field(le=1000)] = 8
    """How many messages are taken before the first of them is settled."""


class AmqpDoorSettings(_DoorSettings):
    """A queue of a server that speaks AMQP 0-9-1, such as RabbitMQ."""

    kind: Literal["amqp"]
    url: SecretStr | None = None
    url_file: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None
    client_cert_file: AbsolutePath | None = None
    client_key_file: AbsolutePath | None = None
    heartbeat_seconds: Annotated[PositiveInt, Field(ge=2, le=600)] = 30

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give exactly one of url and url_file: amqp://USER:PASSWORD@HOST:5672/VHOST")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together: give both or neither")
        return self

    def address(self) -> str:
        """The address, password included."""
        return secret_of(self.url, self.url_file, "url_file")


class SqsDoorSettings(_DoorSettings, S3Access):
    """A queue of Amazon SQS, or of a server that speaks as it does."""

    kind: Literal["sqs"]
    visibility_seconds: Annotated[PositiveInt, Field(le=43_200)] = 60


class NsqDoorSettings(_DoorSettings, NsqSettings):
    """A topic of nsqd. All processes that share the requests share `channel`."""

    kind: Literal["nsq"]
    channel: QueueName = "dpn"

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not (self.nsqd_tcp_addresses or self.nsqlookupd_http_addresses):
            raise ValueError("give nsqd_tcp_addresses or nsqlookupd_http_addresses, where messages are read")
        if self.outgoing is not None and not self.nsqd_http_addresses:
            raise ValueError("outgoing needs nsqd_http_addresses, where replies are published")
        return self


DoorSettings = Annotated[AmqpDoorSettings | SqsDoorSettings | NsqDoorSettings, Field(discriminator="kind")]
