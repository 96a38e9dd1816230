"""/deposits: the same as `dpn ingest submit` over HTTP, for the node's own systems.

POST /deposits takes what `DepositRequest` has, as one JSON object, and answers 201 for a new deposit, 200 for one
that was submitted before. GET /deposits/{bag} says where it stands. Only with a token of the node itself: whoever
may deposit can have files of this machine read, so sources must lie in `ingest.source_folders`, or on S3.

GET /deposits/openapi.json describes this, to anyone. It is not part of what other nodes see under /api-v2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.ingest.submission import (
    DepositRefused,
    DepositRequest,
    Submitted,
    require_named_over_http,
    submit,
    submitted,
)
from dpn.registry.records import explained
from dpn.registry.rules import Caller
from dpn.registry.wire import UUID_FORM, parse_uuid
from dpn.server.access import SECURITY, NodeTokens
from dpn.server.app import database_check
from dpn.server.openapi import answer, reference
from dpn.server.replies import Refusal, json_reply
from dpn.server.service import ApiDescription, Call, HttpService, Operation, PathPart
from dpn.server.settings import ServerSettings
from dpn.work.pipeline import Pipelines

Text = Annotated[str, Field(min_length=1, max_length=1024)]


class DepositBody(BaseModel):
    """The JSON object that is posted."""

    model_config = ConfigDict(extra="forbid")

    source: Text
    member: Text
    local_id: Text
    bag_type: Literal["data", "interpretive", "rights"] = "data"
    rights: list[Text] = Field(default_factory=list, max_length=1000)
    interpretive: list[Text] = Field(default_factory=list, max_length=1000)
    new_version_of: Text | None = None
    title: Text | None = None
    source_name: Text | None = None
    as_is: bool = False
    key: Text | None = None

    def request(self) -> DepositRequest:
        fields = self.model_dump() | {"rights": tuple(self.rights), "interpretive": tuple(self.interpretive)}
        return DepositRequest(**fields, named_over_http=True)


def deposit_service(
    *,
    sessions: Sessions,
    clock: Clock,
    namespace: str,
    source_folders: Sequence[Path],
    server: ServerSettings,
    pipelines: Pipelines,
    announce: Callable[[int], None],
) -> HttpService:
    """Deposits with the node `namespace`. `announce` is told of each new item once it is committed."""
    deposits = _Deposits(sessions, clock, source_folders, pipelines, announce)
    this_node = NodeTokens(sessions, namespace, clock).this_node
    standing = reference("Submitted")
    operations = (
        Operation(
            "POST",
            "/deposits",
            "Deposit content; the same deposit again makes nothing twice",
            guard=this_node,
            answer=deposits.create,
            answers={
                "201": answer("Accepted: where it stands.", standing),
                "200": answer("Submitted before: where that stands.", standing),
            },
            body=reference("DepositBody"),
        ),
        Operation(
            "GET",
            "/deposits/{bag}",
            "Where the deposit that makes this bag stands",
            guard=this_node,
            answer=deposits.show,
            answers={"200": answer("Where it stands.", standing)},
            parts={"bag": PathPart(parse_uuid, UUID_FORM.read)},
        ),
    )
    description = ApiDescription(
        "DPN deposits",
        "For the node's own systems.",
        paths=("/deposits/openapi.json",),
        security=SECURITY,
        schemas={
            "DepositBody": DepositBody.model_json_schema(),
            "Submitted": TypeAdapter(Submitted).json_schema(),
        },
    )
    checks = {"database": database_check(sessions)}
    return HttpService("", operations, description, server.max_body_bytes, checks)


@dataclass(frozen=True)
class _Deposits:
    sessions: Sessions
    clock: Clock
    source_folders: Sequence[Path]
    pipelines: Pipelines
    announce: Callable[[int], None]

    def create(self, call: Call[Caller]) -> Response:
        try:
            request = DepositBody.model_validate(call.body).request()
        except ValidationError as error:
            raise Refusal(400, *(explained(problem) for problem in error.errors(include_url=False))) from error
        try:
            if not request.source.startswith("s3://"):
                require_named_over_http(request.source, self.source_folders)
            with self.sessions.begin() as session:
                us = call.caller.us
                by = f"{call.caller.namespace} over HTTP"
                done = submit(session, request, by=by, node=us, pipelines=self.pipelines, clock=self.clock)
        except DepositRefused as error:
            raise Refusal(400, str(error)) from error
        if not done.repeated:
            self.announce(done.item)
        return json_reply(asdict(done), 200 if done.repeated else 201)

    def show(self, call: Call[Caller]) -> Response:
        with reading(self.sessions) as session:
            found = submitted(session, call.path["bag"])
        if found is None:
            raise Refusal(404)
        return json_reply(asdict(found))
