"""One line a request, whatever comes of it."""

from __future__ import annotations

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpn.server.replies import refusal_reply

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

MAX_LOGGED_PATH = 200
FAILED = "The server failed: its operators find the cause in its log."


class OneLineARequest:
    """Logs every request, and answers what nobody expected with 500 and nothing of its cause."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
        log.info(
            "request",
            method=scope["method"],
            path=scope["path"][:MAX_LOGGED_PATH],
            status=status,
            caller=scope.get("dpn.caller"),
            seconds=round(time.perf_counter() - started, 4),
        )
