"""One line a request, whatever comes of it; but no stranger fills the log with what it is refused."""

from __future__ import annotations

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpn.server.replies import refusal_reply
from dpn.telemetry.repeats import Repeats

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

MAX_LOGGED_PATH = 200
MAX_LOGGED_CLIENT = 45
"""The longest address of IPv6; a proxy may pass on anything."""

REFUSALS, REFUSAL_SECONDS = 100, 60.0
"""So many requests that are refused to strangers are logged in so long; the next one says how many were not."""
FAILED = "The server failed: its operators find the cause in its log."


class OneLineARequest:
    """Logs the requests, and answers what nobody expected with 500 and nothing of its cause."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._refusals = Repeats(REFUSALS, REFUSAL_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # whatever it is, the client gets an answer and the operator its cause
            log.exception("a request failed", method=scope["method"], path=scope["path"][:MAX_LOGGED_PATH])
            if status is not None:
                raise
            await refusal_reply(500, [FAILED])(scope, receive, watched)
        caller = scope.get("dpn.caller")
        stranger_refused = caller is None and status is not None and 400 <= status < 500
        left_out = self._refusals.admit("") if stranger_refused else 0
        if left_out is None:
            return
        address, _ = scope.get("client") or ("", 0)
        log.info(
            "request",
            client=address[:MAX_LOGGED_CLIENT],
            method=scope["method"],
            path=scope["path"][:MAX_LOGGED_PATH],
            status=status,
            caller=caller,
            seconds=round(time.perf_counter() - started, 4),
            **({"left_out": left_out} if left_out else {}),
        )
