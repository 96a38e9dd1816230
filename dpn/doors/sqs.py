"""A door to Amazon SQS, or to a server that speaks as it does: long polls, each message deleted once it is ours.

SQS calls a message the same whenever it delivers it, so that a repetition is known by its id.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpn.doors.door import Gate, GateState, Receive, Settled
from dpn.doors.reception import Incoming
from dpn.doors.settings import SqsDoorSettings
from dpn.errors import ServiceUnavailable, TransientError

if TYPE_CHECKING:
    from botocore.client import BaseClient

POLL_SECONDS = 2
"""How long a poll waits for a message: SQS allows 20, but a process that stops must not leave a poll behind that
would take a message with it."""
MOST_AT_ONCE = 10
"""Of what SQS hands out."""
RETRIES = 2
MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
NOT_TAKEN = frozenset({"InvalidMessageContents", "InvalidParameterValue"})


class SqsDoor:
    """See the module's docstring."""

    def __init__(self, name: str, settings: SqsDoorSettings) -> None:
        self.name = name
        self.destination = f"door:{name}"
        self.answers = settings.outgoing is not None
        self._settings = settings
        self._urls: dict[str, str] = {}
        self._opening = threading.Lock()
        self._opened: BaseClient | None = None

    def serve(self, receive: Receive, settled: Settled, gate: Gate) -> None:
        while not gate.is_closed:
            if gate.wait_until(GateState.OPEN, POLL_SECONDS):
                self._take(self._poll(), receive, settled)

    def send(self, body: str) -> None:
        if self._settings.outgoing is None:
            raise TransientError(f"door {self.name} has no outgoing queue: name one, or withdraw what is owed")
        outgoing = self._settings.outgoing
        self._call("send_message", QueueUrl=self._url(outgoing), MessageBody=body)

    def rest(self) -> None:
        """There is no connection that would have to be kept."""

    def depth(self) -> int | None:
        return None

    def close(self) -> None:
        """There is nothing open."""

    def _poll(self) -> list[dict[str, Any]]:
        answer = self._call(
            "receive_message",
            QueueUrl=self._url(self._settings.incoming),
            MaxNumberOfMessages=min(MOST_AT_ONCE, self._settings.prefetch),
            WaitTimeSeconds=POLL_SECONDS,
            VisibilityTimeout=self._settings.visibility_seconds,
            AttributeNames=["ApproximateReceiveCount"],
        )
        return list(answer.get("Messages", []))

    def _take(self, messages: Sequence[dict[str, Any]], receive: Receive, settled: Settled) -> None:
        for message in messages:
            here = {"QueueUrl": self._url(self._settings.incoming), "ReceiptHandle": message["ReceiptHandle"]}
            again = message.get("Attributes", {}).get("ApproximateReceiveCount") not in (None, "1")
            incoming = Incoming(message["Body"].encode(), message_id=message["MessageId"], redelivered=again)
            received = receive(incoming)
            if received is None:
                self._call("change_message_visibility", **here, VisibilityTimeout=0)
            else:
                self._call("delete_message", **here)
                settled([received.id])

    def _url(self, queue: str) -> str:
        """The queue's address; one that is missing is made."""
        if queue not in self._urls:
            from botocore.exceptions import ClientError

            try:
                answer = self._call("get_queue_url", QueueName=queue)
            except ServiceUnavailable as error:
                if not (isinstance(error.__cause__, ClientError) and _code(error.__cause__) in MISSING):
                    raise
                answer = self._call("create_queue", QueueName=queue)
            self._urls[queue] = answer["QueueUrl"]
        return self._urls[queue]

    def _call(self, method: str, **parameters: Any) -> Any:
        """Raises ServiceUnavailable; TransientError for a message that SQS does not take."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(), method)(**parameters)
        except ClientError as error:
            if _code(error) in MISSING:
                self._urls.clear()
            if _code(error) in NOT_TAKEN:
                raise TransientError(f"{self.destination}: the message is not taken: {_code(error)}") from error
            reason = f"{_code(error)}: {error.response.get('Error', {}).get('Message', '')}"
            raise ServiceUnavailable(self.destination, reason) from error
        except BotoCoreError as error:
            raise ServiceUnavailable(self.destination, str(error)) from error

    def _client(self) -> BaseClient:
        with self._opening:
            if self._opened is None:
                import boto3  # not for every process: botocore costs 28 MB
                from botocore.config import Config

                settings = self._settings
                self._opened = boto3.session.Session().client(
                    "sqs",
                    endpoint_url=settings.endpoint_url,
                    region_name=settings.region,
                    aws_access_key_id=settings.access_key_id,
                    aws_secret_access_key=settings.secret(),
                    config=Config(
                        connect_timeout=settings.connect_timeout_seconds,
                        read_timeout=settings.read_timeout_seconds + POLL_SECONDS,
                        retries={"total_max_attempts": RETRIES, "mode": "standard"},
                    ),
                )
            return self._opened


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "error"))
