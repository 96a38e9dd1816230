"""The OpenAPI 3.1 document of a service, made of the declarations that its routes are made of.

It tells what the service does, not what is in it: anyone may read it.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from dpn.server.service import HttpService, Operation, Part

JSON = "application/json"
TEXT = "text/plain"
PATH_PART = re.compile(r"\{(\w+)\}")
OWN_PATH = "/openapi.json"

ERRORS: Part = {
    "type": "object",
    "required": ["errors"],
    "properties": {"errors": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
}


def describe(service: HttpService) -> Part:
    """The document of this service."""
    description = service.description
    paths: dict[str, Part] = {}
    for operation in service.operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    if service.root + OWN_PATH in description.paths:
        paths[OWN_PATH] = {"get": {"summary": "This description", "security": [], "responses": {"200": _THIS}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": description.title, "version": version("dpn"), "description": description.about},
        **({"servers": [{"url": description.url}]} if description.url else {}),
        "security": [{name: []} for name in description.security],
        "paths": paths,
        "components": {
            "schemas": {"Errors": ERRORS, **description.schemas},
            "responses": {**REFUSALS, **description.refusals},
            "parameters": dict(description.parameters),
            "securitySchemes": dict(description.security),
        },
    }


def reference(schema: str) -> Part:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/{schema}"}


def answer(description: str, schema: Part, headers: Part | None = None) -> Part:
    """JSON of this form."""
    part: Part = {"description": description, "content": {JSON: {"schema": schema}}}
    return part | ({"headers": headers} if headers else {})


def refusal(description: str, content: str | None = None, **headers: str) -> Part:
    """A refusal with this content, if any, and these headers (their hyphens as underscores)."""
    part: Part = {"description": description}
    if content is not None:
        part["content"] = {content: {"schema": reference("Errors") if content == JSON else {"type": "string"}}}
    if headers:
        part["headers"] = {
            name.replace("_", "-"): {"description": says, "required": True, "schema": {"type": "string"}}
            for name, says in headers.items()
        }
    return part


REFUSALS: dict[str, Part] = {
    "400": refusal("Not JSON, or not of the form that is described, or against a rule; one text a problem.", JSON),
    "401": refusal("No valid token.", TEXT, WWW_Authenticate="`Token`."),
    "403": refusal("Somebody else may do this, the caller may not.", TEXT),
    "404": refusal("There is no such thing. Without a body."),
    "408": refusal("The body did not arrive in time.", JSON),
    "413": refusal("The body is too large.", JSON),
    "500": refusal("The server failed.", JSON),
    "503": refusal("The server cannot reach its database.", JSON, Retry_After="Seconds."),
}

_THIS = answer("This description.", {"type": "object"})


def _described(operation: Operation[Any]) -> Part:
    names = PATH_PART.findall(operation.path)
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": operation.parts[name].form} for name in names
    ]
    part: Part = {
        "summary": operation.summary,
        "tags": list(operation.tags),
        "parameters": [*in_path, *operation.parameters],
        "responses": dict(operation.answers) | _refusals(operation, has_names=bool(names)),
    }
    if not operation.guard.refusals:
        part["security"] = []
    if operation.body is not None:
        part["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body}}}
    return part


def _refusals(operation: Operation[Any], *, has_names: bool) -> dict[str, Part]:
    """Those of its guard, its path and its body, its own, and those that everything may come to."""
    statuses = [*operation.guard.refusals, *(["404"] if has_names else []), "500", "503"]
    statuses += [] if operation.body is None else ["400", "408", "413"]
    names = {status: status for status in statuses} | dict(operation.refusals)
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in names.items()}
