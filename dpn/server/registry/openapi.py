"""What the registry's OpenAPI document says of lists and records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dpn.registry import wire
from dpn.registry.catalogue import Kind
from dpn.registry.records import Record
from dpn.server.openapi import JSON, answer, reference, refusal
from dpn.server.registry.declarations import Creates, Declared, Lists, Updates
from dpn.server.registry.queries import MAX_PAGE, MAX_PAGE_SIZE, ORDERS, Filters
from dpn.server.registry.replies import LIST_STATE
from dpn.server.service import Part

ABOUT = """\
DPN REST API v2. Every path is served with and without a slash at its end, every GET as HEAD too. Unknown query
parameters are ignored; of one that stands twice the last counts; a filter's value that no record has gives an
empty list. Records are sent whole, on change too: a field left out is a field set to null. Times have whole
seconds, UTC, and lie in the years 1900 to 9998."""

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


def query_parameters(filters: Filters) -> tuple[Part, ...]:
    """What the query of a list with these filters may say."""
    common = ({"$ref": f"#/components/parameters/{name}"} for name in LIST_PARAMETERS)
    return (
        *common,
        *(
            {"name": name, "in": "query", "description": each.says, "schema": each.form}
            for name, each in filters.items()
        ),
    )


STATE_HEADER: Part = {
    "description": "Not in DPN REST API v2. Equal for the same address: no record of the list has changed.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}

REFUSALS: dict[str, Part] = {
    "302": refusal("The same list with the page named.", Location="A relative address."),
    "BadQuery": refusal("A filter that is none, by name. Without a body: the page is no positive number.", JSON),
    "409": refusal("There is such a record already. Without a body."),
}

TIMES = frozenset({"created_at", "updated_at"})
"""What the server sets where a new record has none, and whenever one changes."""


def record_answer(name: str) -> Part:
    return answer("The record as it stands.", reference(name))


def page_answer(name: str) -> Part:
    return answer("One page of the list.", reference(f"{name}List"), {LIST_STATE: STATE_HEADER})


def schemas_of(declared: Iterable[Declared]) -> dict[str, Part]:
    """The records as they are sent and taken, and the pages that they come in."""
    schemas: dict[str, Part] = {}
    for each in declared:
        kind, name = each.kind, name_of(each.kind)
        schemas |= _as_sent(kind.record, name)
        match each:
            case Lists():
                schemas[f"{name}List"] = _envelope(kind, name)
            case Creates():
                schemas |= _as_taken(kind.record, f"New{name}", times=True)
            case Updates():
                schemas |= _as_taken(kind.record, f"Changed{name}", times=False)
    return schemas


def name_of(kind: Kind[Any]) -> str:
    """What the kind's record is called in the document."""
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
        "results": {"type": "array", "maxItems": MAX_PAGE_SIZE, "items": reference(name)},
    }
    if "size" in kind.table.c:
        properties["total_size"] = {"type": "integer", "minimum": 0, "description": "Bytes of the whole list."}
    return {"type": "object", "required": list(properties), "properties": properties}
