"""A service that knows nothing but `dpn.server`, served as a process of its own.

    python -m tests.services.server.toy HEAD_SECONDS [CERTIFICATE KEY]

It listens on two ports; with a certificate the second one speaks TLS.
"""

from __future__ import annotations

import sys
from ipaddress import ip_network
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dpn.server import runner
from dpn.server.app import create_app
from dpn.server.connections import ConnectionLimits
from dpn.server.openapi import TEXT, answer, refusal
from dpn.server.replies import Refusal, json_reply
from dpn.server.service import ANYONE, ApiDescription, Call, Guard, HttpService, Operation, PathPart
from dpn.telemetry.logs import configure_logs
from dpn.telemetry.settings import LogSettings

MAX_BODY_BYTES = 1000
FLUSH_SECONDS = 0.3
LONG_PAGE = b"x" * 16_000_000
LIMITS = ConnectionLimits(most=40, most_per_address=6, proxies=[ip_network("127.0.0.1")])
SICK = Path("sick")
"""Where this file lies in the working folder, the toy says that it is not well."""


def admitted(request: Request) -> str:
    """Whoever says that they are a friend."""
    if (name := request.headers.get("x-friend")) is None:
        raise Refusal(401, "Who are you?")
    request.scope["dpn.caller"] = name
    return name


def colour(text: str) -> str:
    if text not in ("red", "blue"):
        raise ValueError("no colour of ours")
    return text


FRIENDS: Guard[str] = Guard(admitted, ("401",))
COLOUR = PathPart(colour, {"type": "string", "enum": ["red", "blue"]})
ANY_OBJECT = answer("What was sent.", {"type": "object"})


def paint(call: Call[str]) -> Response:
    if "refuse" in call.body:
        raise Refusal(409, "It is painted already.")
    return json_reply({"by": call.caller, "colour": call.path["colour"], **call.body}, 201)


def fail(_: Call[None]) -> Response:
    raise RuntimeError("the secret is out")


def toy_service() -> HttpService:
    ok = {"200": ANY_OBJECT}
    operations = (
        Operation("GET", "/{colour}", "Look", ANYONE, lambda _: json_reply({}), ok, parts={"colour": COLOUR}),
        Operation(
            "POST",
            "/{colour}",
            "Paint",
            guard=FRIENDS,
            answer=paint,
            answers={"201": ANY_OBJECT},
            refusals={"409": "409"},
            parts={"colour": COLOUR},
            body={"type": "object"},
        ),
        Operation("GET", "/failures/all", "Fail", ANYONE, fail, ok),
    )
    description = ApiDescription(
        "Toy",
        "A toy.",
        paths=("/toy/openapi.json",),
        security={},
        refusals={"409": refusal("It is painted.", TEXT)},
    )
    return HttpService(
        "/toy",
        operations,
        description,
        MAX_BODY_BYTES,
        checks={"toy": lambda: "the toy is sick" if SICK.exists() else None},
        routes=[
            Route("/page", lambda _: PlainTextResponse("a page")),
            Route("/long", lambda _: Response(LONG_PAGE)),
        ],
    )


def main(head_seconds: str, *certificate_and_key: str) -> None:
    configure_logs(LogSettings(), "toy", node="toy")
    runner.HEAD_SECONDS, runner.FLUSH_SECONDS = float(head_seconds), FLUSH_SECONDS
    app = create_app(toy_service())
    files = [Path(name) for name in certificate_and_key] or [None, None]
    first, second = (
        runner.Front(app, name, "127.0.0.1", 0, *of) for name, of in (("first", ()), ("second", files))
    )
    runner.run(first, second, limits=LIMITS)


if __name__ == "__main__":
    main(*sys.argv[1:])
