"""The tokens that other nodes show us. A token is seen once, when it is issued; only its salted hash is kept.

Tokens are 256 random bits, so a fast hash is enough: there is nothing to guess. Several may be valid for a node,
so that one can be replaced without a gap.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.registry import ApiToken

TOKEN_BYTES = 32
SALT_BYTES = 16
MAX_TOKEN_LENGTH = 512

AUTHORIZATION = re.compile(
    r"token\s+(?:token\s*=\s*)?(?P<token>\"[^\"]*\"|[^\s,;\"]+)\s*(?:[,;].*)?\Z", re.IGNORECASE
)
"""`Token token=KEY` as the Rails server wants it, `Token KEY` and `token KEY` as other clients send it, quoted or
not, with or without further parameters."""


@dataclass(frozen=True)
class IssuedToken:
    """A token that we issued, without the token."""

    id: int
    namespace: str
    created_at: datetime
    revoked_at: datetime | None


def issue(session: Session, namespace: str, *, now: datetime) -> str:
    """A new token for `namespace`: hand it over, it cannot be shown again."""
    token = secrets.token_hex(TOKEN_BYTES)
    salt = secrets.token_hex(SALT_BYTES)
    session.add(ApiToken(namespace=namespace, salt=salt, sha256=_digest(salt, token), created_at=now))
    session.flush()
    return token


def identify(session: Session, token: str) -> str | None:
    """The node whose valid token this is. Takes the same time whichever token comes how close."""
    if len(token) > MAX_TOKEN_LENGTH:
        return None
    valid = select(ApiToken.namespace, ApiToken.salt, ApiToken.sha256).where(ApiToken.revoked_at.is_(None))
    found = None
    for namespace, salt, expected in session.execute(valid):
        if hmac.compare_digest(_digest(salt, token), expected):
            found = namespace
    return found


def revoke(session: Session, token_id: int, *, now: datetime) -> bool:
    """Makes a token worthless from now on; false if there is no valid token of that number."""
    statement = (
        update(ApiToken)
        .where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiToken.id)
    )
    return session.scalar(statement) is not None


def issued(session: Session) -> list[IssuedToken]:
    """All tokens ever issued, oldest first."""
    rows = session.scalars(select(ApiToken).order_by(ApiToken.id))
    return [IssuedToken(row.id, row.namespace, row.created_at, row.revoked_at) for row in rows]


def token_in(authorization: str) -> str | None:
    """The token in an `Authorization` header, None if it holds none."""
    match = AUTHORIZATION.match(authorization.strip())
    return match["token"].strip('"') or None if match else None


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256((salt + token).encode()).hexdigest()
