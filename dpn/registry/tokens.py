"""The tokens that other nodes show us. A token is seen once, when it is issued; only its salted hash is kept.

Tokens are 256 random bits, so a fast hash is enough: there is nothing to guess. Several may be valid for a node,
so that one can be replaced without a gap: who issues them sees by its last use when the old one may go.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.registry import ApiToken

TOKEN_BYTES = 32
SALT_BYTES = 16
MAX_TOKEN_LENGTH = 512
MAX_LABEL_LENGTH = 255

USES_APART = timedelta(minutes=5)
"""At least so far apart are two uses of a token that are noted."""

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
    label: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def counts(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class ShownToken:
    """A token of ours that somebody showed, and that is not revoked."""

    id: int
    namespace: str
    expires_at: datetime | None


def issue(
    session: Session, namespace: str, *, now: datetime, label: str = "", expires_at: datetime | None = None
) -> str:
    """A new token for `namespace`: hand it over, it cannot be shown again."""
    token = secrets.token_hex(TOKEN_BYTES)
    salt = secrets.token_hex(SALT_BYTES)
    row = {"namespace": namespace, "salt": salt, "sha256": _digest(salt, token), "created_at": now}
    session.add(ApiToken(**row, label=label, expires_at=expires_at))
    session.flush()
    return token


def identify(session: Session, token: str) -> ShownToken | None:
    """Which token this is, expired or not; None if it is none, or revoked. Takes the same time whichever token
    comes how close."""
    if len(token) > MAX_TOKEN_LENGTH:
        return None
    columns = (ApiToken.id, ApiToken.namespace, ApiToken.expires_at, ApiToken.salt, ApiToken.sha256)
    found = None
    for number, namespace, expires_at, salt, expected in session.execute(
        select(*columns).where(ApiToken.revoked_at.is_(None))
    ):
        if hmac.compare_digest(_digest(salt, token), expected):
            found = ShownToken(number, namespace, expires_at)
    return found


def note_use(session: Session, token_id: int, *, now: datetime) -> None:
    """Notes that a token is used now, unless a use within `USES_APART` is noted. One from ahead, of a clock that
    was wrong, gives way."""
    last = ApiToken.last_used_at
    is_old = last.is_(None) | ~last.between(now - USES_APART, now)
    session.execute(update(ApiToken).where(ApiToken.id == token_id, is_old).values(last_used_at=now))


def revoke(session: Session, token_id: int, *, now: datetime) -> bool:
    """Makes a token worthless from now on; false if there is no valid token of that number."""
    statement = (
        update(ApiToken)
        .where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiToken.id)
    )
    return session.scalar(statement) is not None


def revoke_all(session: Session, namespace: str, *, now: datetime) -> int:
    """Makes all tokens of a node worthless from now on; returns how many counted until then."""
    statement = (
        update(ApiToken)
        .where(ApiToken.namespace == namespace, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiToken.id)
    )
    return len(session.scalars(statement).all())


def issued(session: Session) -> list[IssuedToken]:
    """All tokens ever issued, oldest first."""
    columns = [getattr(ApiToken, field.name) for field in fields(IssuedToken)]
    return [IssuedToken(*row) for row in session.execute(select(*columns).order_by(ApiToken.id))]


def token_in(authorization: str) -> str | None:
    """The token in an `Authorization` header, None if it holds none."""
    match = AUTHORIZATION.match(authorization.strip())
    return match["token"].strip('"') or None if match else None


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256((salt + token).encode()).hexdigest()
