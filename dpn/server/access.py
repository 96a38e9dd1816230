"""Who asks: the nodes that we gave tokens to, and this node itself."""

from __future__ import annotations

import threading
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import Request

from dpn.access import tokens
from dpn.access.scopes import Scope
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.registry.rules import Caller
from dpn.registry.rules.decisions import LOCAL_ONLY
from dpn.registry.wire import format_instant
from dpn.runtime import THREADS, Runtime
from dpn.server.replies import Refusal
from dpn.server.service import Guard, Part

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

SECURITY: dict[str, Part] = {
    name: {"type": "apiKey", "in": "header", "name": "Authorization", "description": says}
    for name, says in (
        ("token-parameter", "`Token token=KEY`, as the Rails server wants it."),
        ("token", "`token KEY`, as the specification has it."),
    )
}
"""What OpenAPI says of the tokens."""


class NodeTokens:
    """The tokens that this node, `us`, has issued."""

    def __init__(self, sessions: Sessions, us: str, clock: Clock, runtime: Runtime = THREADS) -> None:
        self._sessions = sessions
        self._us = us
        self._clock = clock
        self._uses = _TokenUses(sessions, runtime)
        self.any_node = Guard(self._identified, ("401",))
        """Whoever shows a valid token."""

        self.this_node = Guard(self._local, ("401", "403"))
        """Only this node itself."""

    def _identified(self, request: Request) -> Caller:
        token = tokens.token_in(request.headers.get("authorization", ""))
        if token is None:
            raise _denied()
        with reading(self._sessions) as session:
            shown = tokens.identify(session, token)
        if shown is None:
            raise _denied()
        now = self._clock.now()
        if shown.expires_at is not None and shown.expires_at <= now:
            expired = f"This token expired at {format_instant(shown.expires_at)}"
            raise _denied(f"{expired}: ask the operators of {self._us} for a new one.")
        if not shown.may(Scope.NODE):
            raise _denied(f"This token is for {', '.join(shown.scopes)}: `dpn token issue` makes one for a node.")
        self._uses.note(shown, now)
        request.scope["dpn.caller"] = shown.owner
        return Caller(shown.owner, self._us)

    def _local(self, request: Request) -> Caller:
        caller = self._identified(request)
        if not caller.is_local:
            raise Refusal(403, *LOCAL_ONLY.messages)
        return caller


class _TokenUses:
    """Notes when tokens were last used, each once in `tokens.USES_APART`, beside the requests: none of them waits
    for it, nor fails with it. What could not be noted is left to the next use after that time."""

    def __init__(self, sessions: Sessions, runtime: Runtime) -> None:
        self._sessions = sessions
        self._runtime = runtime
        self._lock = threading.Lock()
        self._noted: dict[int, datetime] = {}

    def note(self, token: tokens.ShownToken, now: datetime) -> None:
        with self._lock:
            last = self._noted.get(token.id)
            if last is not None and abs(now - last) < tokens.USES_APART:
                return
            self._noted[token.id] = now
        self._runtime.start("token use", partial(self._write, token, now))

    def _write(self, token: tokens.ShownToken, now: datetime) -> None:
        try:
            with self._sessions.begin() as session:
                tokens.note_use(session, token, now=now)
        except (DBAPIError, PoolTimeout) as error:
            log.warning("the use of a token was not noted", token=token.id, error=str(error))


def _denied(*why: str) -> Refusal:
    return Refusal(
        401, "HTTP Token: Access denied.", *why, headers={"WWW-Authenticate": 'Token realm="Application"'}
    )
