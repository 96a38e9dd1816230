"""Who asks: the nodes that we gave tokens to, and this node itself."""

from __future__ import annotations

from starlette.requests import Request

from dpn.database import Sessions, reading
from dpn.registry import tokens
from dpn.registry.rules import Caller
from dpn.registry.rules.decisions import LOCAL_ONLY
from dpn.server.replies import Refusal
from dpn.server.service import Guard, Part

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

    def __init__(self, sessions: Sessions, us: str) -> None:
        self._sessions = sessions
        self._us = us
        self.any_node = Guard(self._identified, ("401",))
        """Whoever shows a valid token."""

        self.this_node = Guard(self._local, ("401", "403"))
        """Only this node itself."""

    def _identified(self, request: Request) -> Caller:
        token = tokens.token_in(request.headers.get("authorization", ""))
        if token is not None:
            with reading(self._sessions) as session:
                namespace = tokens.identify(session, token)
            if namespace is not None:
                request.scope["dpn.caller"] = namespace
                return Caller(namespace, self._us)
        raise Refusal(401, "HTTP Token: Access denied.", headers={"WWW-Authenticate": 'Token realm="Application"'})

    def _local(self, request: Request) -> Caller:
        caller = self._identified(request)
        if not caller.is_local:
            raise Refusal(403, *LOCAL_ONLY.messages)
        return caller
