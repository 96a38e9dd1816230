"""What happens around every request."""

from __future__ import annotations

import json
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

MAX_LOGGED_PATH = 200


class TrailingSlash:
    """Serves `/bag/` as `/bag`, without a redirect: old clients send one or the other, and some both."""

    def __init__(self, app: ASGIApp, under: str) -> None:
        self._app = app
        self._under = under

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._under) and scope["path"].endswith("/"):
            scope["dpn.asked_path"] = scope["path"]
            scope["path"] = scope["path"].removesuffix("/")
        await self._app(scope, receive, send)


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
            await _send_failure(watched)
        log.info(
            "request",
            method=scope["method"],
            path=scope["path"][:MAX_LOGGED_PATH],
            status=status,
            caller=scope.get("dpn.caller"),
            seconds=round(time.perf_counter() - started, 4),
        )


async def _send_failure(send: Send) -> None:
    body = json.dumps({"errors": ["The registry failed: its operators find the cause in its log."]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
