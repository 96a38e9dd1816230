"""/deposits: the same as `dpn ingest submit` over HTTP, for the node's own systems.

POST /deposits takes what `DepositRequest` has, as one JSON object, and answers 201 for a new deposit, 200 for one
that was submitted before. GET /deposits/{bag} says where it stands. Only with a token of the node itself: whoever
may deposit can have files of this machine read, so sources must lie in `ingest.source_folders`, or on S3.

GET /deposits/openapi.json describes this, to anyone. It is not part of what other nodes see under /api-v2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from dpn.database import reading
from dpn.identifiers import UUID
from dpn.ingest.submission import (
    DepositRefused,
    DepositRequest,
    Submitted,
    require_named_over_http,
    submit,
    submitted,
)
from dpn.registry.wire import UUID_FORM
from dpn.server.access import LocalCallerDep, RegistryDep
from dpn.server.bodies import OurBodyDep
from dpn.server.registry.openapi import ANSWERS, ERRORS, JSON, SECURITY_SCHEMES, Part, refusals
from dpn.server.registry.serving import READING
from dpn.server.replies import errors_reply, json_reply
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


def serve_deposits(app: FastAPI, pipelines: Pipelines, announce: Callable[[int], None]) -> None:
    """Adds the routes to the registry server. `announce` is told of each new item once it is committed."""

    def create(body: OurBodyDep, registry: RegistryDep, caller: LocalCallerDep) -> Response:
        try:
            request = DepositBody.model_validate(body).request()
        except ValidationError as error:
            return errors_reply(400, tuple(_explain(problem) for problem in error.errors(include_url=False)))
        try:
            if not request.source.startswith("s3://"):
                require_named_over_http(request.source, registry.settings.ingest.source_folders)
            with registry.sessions.begin() as session:
                by = f"{caller.namespace} over HTTP"
                done = submit(session, request, by=by, pipelines=pipelines, clock=registry.clock)
        except DepositRefused as error:
            return errors_reply(400, (str(error),))
        if not done.repeated:
            announce(done.item)
        return json_reply(asdict(done), 200 if done.repeated else 201)

    def description() -> Response:
        return json_reply(DESCRIPTION)

    def show(bag: str, registry: RegistryDep, _caller: LocalCallerDep) -> Response:
        with reading(registry.sessions) as session:
            found = submitted(session, bag.lower()) if UUID.match(bag.lower()) else None
        return Response(status_code=404) if found is None else json_reply(asdict(found))

    app.add_api_route("/deposits", create, methods=["POST"])
    app.add_api_route("/deposits/openapi.json", description, methods=READING)
    app.add_api_route("/deposits/{bag}", show, methods=READING)


def _described() -> Part:
    """The OpenAPI 3.1 document of these operations; what is refused is refused as the registry does."""

    def standing(says: str) -> Part:
        return {"description": says, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Submitted"}}}}

    create: Part = {
        "summary": "Deposit content; the same deposit again makes nothing twice",
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/DepositBody"}}},
        },
        "responses": {
            "201": standing("Accepted: where it stands."),
            "200": standing("Submitted before: where that stands."),
            **refusals("BadRecord", "403", "408", "413"),
        },
    }
    bag: Part = {"name": "bag", "in": "path", "required": True, "schema": UUID_FORM.read}
    show: Part = {
        "summary": "Where the deposit that makes this bag stands",
        "parameters": [bag],
        "responses": {"200": standing("Where it stands."), **refusals("403", "404")},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "DPN deposits", "version": version("dpn"), "description": "For the node's own systems."},
        "security": [{name: []} for name in SECURITY_SCHEMES],
        "paths": {"/deposits": {"post": create}, "/deposits/{bag}": {"get": show}},
        "components": {
            "schemas": {
                "DepositBody": DepositBody.model_json_schema(),
                "Submitted": TypeAdapter(Submitted).json_schema(),
                "Errors": ERRORS,
            },
            "responses": ANSWERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


DESCRIPTION = _described()


def _explain(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    return f"{field}: {problem['msg']}"
