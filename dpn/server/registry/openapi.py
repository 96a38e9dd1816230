"""The server's OpenAPI description, made of the same declarations as its routes and its records.

It tells what the server does, not what is in it: anyone may read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from dpn.registry import wire
from dpn.registry.catalogue import Kind
from dpn.registry.records import Record
from dpn.server.bodies import TIMES
from dpn.server.registry.operations import (
    API,
    PATH_PARTS,
    Creates,
    Lists,
    Operation,
    Shows,
    Updates,
)
from dpn.server.registry.queries import MAX_PAGE, MAX_PAGE_SIZE, ORDERS
from dpn.server.replies import LIST_STATE

Part = dict[str, Any]

ABOUT = """\
DPN REST API v2. Every path is served with and without a slash at its end, every GET as HEAD too. Unknown query
parameters are ignored; of one that stands twice the last counts; a filter's value that no record has gives an
empty list. Records are sent whole, on change too: a field left out is a field set to null. Times have whole
seconds, UTC, and lie in the years 1900 to 9998."""

AUTHORIZATION = {
    "token-parameter": "`Token token=KEY`, as the Rails server wants it.",
    "token": "`token KEY`, as the specification has it.",
}

SECURITY_SCHEMES: dict[str, dict[str, Any]] = {
    name: {"type": "apiKey", "in": "header", "name": "Authorization", "description": says}
    for name, says in AUTHORIZATION.items()
}

JSON = "application/json"
TEXT = "text/plain"
PATH_PART = re.compile(r"\{(\w+)\}")


def describe(operations: Iterable[Operation], *, api_root: str) -> Part:
    """The OpenAPI 3.1 document of these operations, served under `api_root`."""
    operations = tuple(operations)
    paths: dict[str, Part] = {}
    for operation in operations:
        method, described = _operation(operation)
        paths.setdefault(operation.path, {})[method] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "DPN registry", "version": version("dpn"), "description": ABOUT},
        "servers": [{"url": api_root + API}],
        "security": [{name: []} for name in AUTHORIZATION],
        "paths": paths | _further_paths(),
        "components": {
            "schemas": _schemas(operations),
            "responses": ANSWERS,
            "parameters": LIST_PARAMETERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _operation(operation: Operation) -> tuple[str, Part]:
    name = _name(operation.kind)
    absent = ["404"] if "{" in operation.path else []
    part: Part = {
        "summary": operation.summary,
        "tags": [operation.kind.name],
        "parameters": _path_parts(operation),
    }
    match operation:
        case Lists():
            part["parameters"] += _query_parameters(operation)
            answers = {"200": _page(name), **refusals("302", "BadQuery", *absent)}
            return "get", part | {"responses": answers}
        case Shows():
            return "get", part | {"responses": {"200": _record(name), **refusals("404")}}
        case Creates():
            part["requestBody"] = _body(f"New{name}")
            answers = {"201": _record(name), **refusals(*WRITING, *absent)}
            return "post", part | {"responses": answers}
        case Updates():
            part["requestBody"] = _body(f"Changed{name}")
            return "put", part | {"responses": {"200": _record(name), **refusals(*WRITING, "404")}}


def _further_paths() -> dict[str, Part]:
    versions: Part = {"type": "object", "required": ["app_version", "api_version"]}
    versions["properties"] = {"app_version": {"type": "string"}, "api_version": {"const": "2"}}
    answer = {"description": "The versions.", "content": {JSON: {"schema": versions}}}
    this = {"description": "This description.", "content": {JSON: {"schema": {"type": "object"}}}}
    return {
        "/version": {
            "get": {"summary": "What runs here", "responses": {"200": answer, **refusals()}},
        },
        "/openapi.json": {
            "get": {"summary": "This description", "security": [], "responses": {"200": this}},
        },
    }


# --- what is asked ---------------------------------------------------------------------------------------------

LIST_PARAMETERS: dict[str, Part] = {
    name: {"name": name, "in": "query", "description": says, "schema": form}
    for name, form, says in (
        ("page", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, "Without it: 302 to the first."),
        (
            "page_size",
            {"type": "integer", "minimum": 1},
            f"Without it: 302 to a list that has it; above {MAX_PAGE_SIZE}: 302 to {MAX_PAGE_SIZE}.",
        ),
        (
            "order_by",
            {"type": "string"},
            f"{' or '.join(ORDERS)}, which is the same for records that never change. Always newest first.",
        ),
        ("after", wire.TIME, "From this time on, it included: updated_at; created_at of what never changes."),
        ("before", wire.TIME, "Until this time, it included."),
    )
}


def _path_parts(operation: Operation) -> list[Part]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATH_PARTS[name].form}
        for name in PATH_PART.findall(operation.path)
    ]


def _query_parameters(operation: Lists[Any]) -> list[Part]:
    common: list[Part] = [{"$ref": f"#/components/parameters/{name}"} for name in LIST_PARAMETERS]
    return common + [
        {"name": name, "in": "query", "description": each.says, "schema": each.form}
        for name, each in operation.filters.items()
    ]


def _body(schema: str) -> Part:
    return {"required": True, "content": {JSON: {"schema": _ref(schema)}}}


# --- what is answered ------------------------------------------------------------------------------------------

STATE_HEADER: Part = {
    "description": "Not in DPN REST API v2. Equal for the same address: no record of the list has changed.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}

ERRORS: Part = {
    "type": "object",
    "required": ["errors"],
    "properties": {"errors": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
}


def _ref(schema: str) -> Part:
    return {"$ref": f"#/components/schemas/{schema}"}


def _refusal(description: str, content: str | None = None, **headers: str) -> Part:
    answer: Part = {"description": description}
    if content is not None:
        answer["content"] = {content: {"schema": _ref("Errors") if content == JSON else {"type": "string"}}}
    if headers:
        answer["headers"] = {
            name.replace("_", "-"): {"description": says, "required": True, "schema": {"type": "string"}}
            for name, says in headers.items()
        }
    return answer


ANSWERS: dict[str, Part] = {
    "302": _refusal("The same list with the page named.", Location="A relative address."),
    "BadQuery": _refusal("A filter that is none, by name. Without a body: the page is no positive number.", JSON),
    "BadRecord": _refusal("Not JSON, or a record that breaks its form or a rule; one text a problem.", JSON),
    "401": _refusal("No valid token.", TEXT, WWW_Authenticate="`Token`."),
    "403": _refusal("Somebody else may do this, the caller may not.", TEXT),
    "404": _refusal("There is no such record. Without a body."),
    "408": _refusal("The body did not arrive in time.", JSON),
    "409": _refusal("There is such a record already. Without a body."),
    "413": _refusal("The body is too large.", JSON),
    "500": _refusal("The registry failed.", JSON),
    "503": _refusal("The registry cannot reach its database.", JSON, Retry_After="Seconds."),
}

STATUS = {"BadQuery": "400", "BadRecord": "400"}

WRITING = ("BadRecord", "403", "408", "409", "413")


def refusals(*names: str) -> Part:
    """These answers, and those that every operation may give."""
    return {
        STATUS.get(name, name): {"$ref": f"#/components/responses/{name}"}
        for name in (*names, "401", "500", "503")
    }


def _record(name: str) -> Part:
    return {"description": "The record as it stands.", "content": {JSON: {"schema": _ref(name)}}}


def _page(name: str) -> Part:
    return {
        "description": "One page of the list.",
        "headers": {LIST_STATE: STATE_HEADER},
        "content": {JSON: {"schema": _ref(f"{name}List")}},
    }


# --- the records -----------------------------------------------------------------------------------------------


def _schemas(operations: tuple[Operation, ...]) -> dict[str, Part]:
    schemas: dict[str, Part] = {"Errors": ERRORS}
    for operation in operations:
        kind, name = operation.kind, _name(operation.kind)
        schemas |= _as_sent(kind.record, name)
        match operation:
            case Lists():
                schemas[f"{name}List"] = _envelope(kind, name)
            case Creates():
                schemas |= _as_taken(kind.record, f"New{name}", times=True)
            case Updates():
                schemas |= _as_taken(kind.record, f"Changed{name}", times=False)
    return schemas


def _name(kind: Kind[Any]) -> str:
    return kind.record.__name__.removesuffix("Record")


def _as_sent(record: type[Record], name: str) -> dict[str, Part]:
    schema = record.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), name: schema}


def _as_taken(record: type[Record], name: str, *, times: bool) -> dict[str, Part]:
    """With `times` those that are not given are set by us, without whatever is given does not count."""
    schema = record.model_json_schema(mode="validation", ref_template=f"#/components/schemas/{name}{{model}}")
    inner = {f"{name}{model}": form for model, form in schema.pop("$defs", {}).items()}
    schema["required"] = [field for field in schema["required"] if field not in TIMES]
    for field in TIMES & schema["properties"].keys():
        if times:
            schema["properties"][field] = {"anyOf": [wire.TIME, wire.NULL]}
        else:
            del schema["properties"][field]
    return {**inner, name: schema}


def _envelope(kind: Kind[Any], name: str) -> Part:
    address = {"type": ["string", "null"], "format": "uri"}
    properties: Part = {
        "count": {"type": "integer", "minimum": 0, "description": "Of the whole list."},
        "next": address,
        "previous": address,
        "results": {"type": "array", "maxItems": MAX_PAGE_SIZE, "items": _ref(name)},
    }
    if "size" in kind.table.c:
        properties["total_size"] = {"type": "integer", "minimum": 0, "description": "Bytes of the whole list."}
    return {"type": "object", "required": list(properties), "properties": properties}
