"""What a service is to the server: the operations that it declares, and what else it brings.

From an operation come its route and its place in the service's OpenAPI document alike, so neither says what the
other does not. A folder of `dpn.server` makes one of these of what it needs; who puts a server together gives them
to `create_app`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

C = TypeVar("C")

Part = dict[str, Any]
"""A part of an OpenAPI document."""

Check = Callable[[], str | None]
"""Says what is wrong, or None."""


@dataclass(frozen=True)
class Guard(Generic[C]):
    """Who may ask. `admit` returns the caller or raises Refusal, with one of the statuses `refusals`."""

    admit: Callable[[Request], C]
    refusals: tuple[str, ...]


ANYONE: Guard[None] = Guard(lambda _: None, ())


@dataclass(frozen=True)
class PathPart:
    """A value in a path. `read` raises ValueError for what can name nothing: that is answered with 404."""

    read: Callable[[str], str]
    form: Part


@dataclass(frozen=True)
class Call(Generic[C]):
    """One call of an operation: its caller admitted, its path and its body read."""

    request: Request
    caller: C
    path: Mapping[str, str]
    body: dict[str, Any]
    """The JSON object that was sent; empty where the operation takes none."""


@dataclass(frozen=True)
class Operation(Generic[C]):
    """What can be asked at one path by one method. `answer` runs in a thread of its own; it may raise Refusal."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Under the service's root, what varies in braces."""

    summary: str
    guard: Guard[C]
    answer: Callable[[Call[C]], Response]
    answers: Mapping[str, Part]
    """What OpenAPI says of each answer that is no refusal, by status."""

    refusals: Mapping[str, str] = field(default_factory=dict)
    """Besides those that come with guard, path and body: the refusal in the document, by status."""

    parts: Mapping[str, PathPart] = field(default_factory=dict)
    """What stands in braces, by name."""

    parameters: tuple[Part, ...] = ()
    """What OpenAPI says of the query."""

    body: Part | None = None
    """The JSON schema of the body. With None, none is read."""

    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApiDescription:
    """What the OpenAPI document of a service says besides its operations, and where it is served."""

    title: str
    about: str
    paths: tuple[str, ...]
    """Where the document is, to be read by anyone."""

    security: Mapping[str, Part]
    url: str | None = None
    """The root of the service as its clients reach it."""

    schemas: Mapping[str, Part] = field(default_factory=dict)
    refusals: Mapping[str, Part] = field(default_factory=dict)
    parameters: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpService:
    """A guest of the server."""

    root: str
    """Before the path of each operation."""

    operations: Sequence[Operation[Any]]
    description: ApiDescription
    max_body_bytes: int
    checks: Mapping[str, Check] = field(default_factory=dict)
    """What must be well for the service to work, by name: services that need the same name it alike."""

    either_slash: bool = False
    """Whether each path is served with and without a slash at its end: old clients send one or the other."""

    routes: Sequence[BaseRoute] = ()
    """What is no operation, e.g. pages: whole paths."""
