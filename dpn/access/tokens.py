"""The tokens that others show us. A token is seen once, when it is issued; only its salted hash is kept.

Its first characters are its id part, by which its row is found; the rest are 192 random bits, so a fast hash is
enough: there is nothing to guess. Several may be valid for an owner, so that one can be replaced without a gap:
who issues them sees by its last use when the old one may go.

Tokens that were issued before there was an id part are random from the first character. A salted hash cannot be
searched for, so they are compared one by one until their first use; from then on each is found by a prefix of its
plain hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dpn.access.scopes import Scope, allows
from models.registry import ApiToken

TOKEN_BYTES = 32
LOOKUP_LENGTH = 16
"""Characters of the id part."""
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


OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""What may own a token: it stands in settings, as `token:OWNER`, and in log lines."""


@dataclass(frozen=True)
class IssuedToken:
    """A token that we issued, without the token."""

    id: int
    owner: str
    scopes: tuple[Scope, ...]
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
    owner: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None
    lookup: str
    """By what its row is found, or can be from its next use on."""

    def may(self, scope: Scope) -> bool:
        """Whether it was issued for that; not whether it has expired."""
        return allows(self.scopes, scope)


def issue(
    session: Session,
    owner: str,
    *,
    now: datetime,
    scopes: Collection[Scope] = (Scope.NODE,),
    label: str = "",
    expires_at: datetime | None = None,
) -> str:
    """A new token for `owner`, by default a node: hand it over, it cannot be shown again."""
    token = secrets.token_hex(TOKEN_BYTES)
    salt = secrets.token_hex(SALT_BYTES)
    row = ApiToken(
        owner=owner,
        scopes=" ".join(sorted(set(scopes))),
        lookup=token[:LOOKUP_LENGTH],
        salt=salt,
        sha256=_digest(salt, token),
        label=label,
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return token


def identify(session: Session, token: str) -> ShownToken | None:
    """Which token this is, expired or not; None if it is none, or revoked. One statement, however many there are;
    how close a wrong secret part comes does not show in the time that it takes."""
    if len(token) > MAX_TOKEN_LENGTH:
        return None
    lookups = token[:LOOKUP_LENGTH], hashlib.sha256(token.encode()).hexdigest()[:LOOKUP_LENGTH]
    columns = (ApiToken.id, ApiToken.owner, ApiToken.scopes, ApiToken.expires_at, ApiToken.lookup)
    statement = select(*columns, ApiToken.salt, ApiToken.sha256).where(
        ApiToken.revoked_at.is_(None), ApiToken.lookup.in_(lookups) | ApiToken.lookup.is_(None)
    )
    found = None
    for row in session.execute(statement):
        if hmac.compare_digest(_digest(row.salt, token), row.sha256):
            found = ShownToken(row.id, row.owner, _scopes(row.scopes), row.expires_at, row.lookup or lookups[1])
    return found


def note_use(session: Session, token: ShownToken, *, now: datetime) -> None:
    """Notes that a token is used now, unless a use within `USES_APART` is noted, and how its row is found. A use
    from ahead, of a clock that was wrong, gives way."""
    last = ApiToken.last_used_at
    is_old = last.is_(None) | ~last.between(now - USES_APART, now)
    session.execute(
        update(ApiToken)
        .where(ApiToken.id == token.id, is_old | ApiToken.lookup.is_(None))
        .values(last_used_at=now, lookup=func.coalesce(ApiToken.lookup, token.lookup))
    )


def revoke(session: Session, token_id: int, *, now: datetime) -> bool:
    """Makes a token worthless from now on; false if there is no valid token of that number."""
    statement = (
        update(ApiToken)
        .where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiToken.id)
    )
    return session.scalar(statement) is not None


def revoke_all(session: Session, owner: str, *, now: datetime) -> int:
    """Makes all tokens of an owner worthless from now on; returns how many counted until then."""
    statement = (
        update(ApiToken)
        .where(ApiToken.owner == owner, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiToken.id)
    )
    return len(session.scalars(statement).all())


def issued(session: Session) -> list[IssuedToken]:
    """All tokens ever issued, oldest first."""
    columns = [getattr(ApiToken, field.name) for field in fields(IssuedToken)]
    rows = session.execute(select(*columns).order_by(ApiToken.id)).mappings()
    return [IssuedToken(**{**row, "scopes": _scopes(row["scopes"])}) for row in rows]


def parse_owner(name: str) -> str:
    """Raises ValueError: what such a name is made of."""
    if not OWNER.fullmatch(name):
        raise ValueError("no owner's name: letters, digits and . _ @ - within it, at most 64 of them")
    return name


def token_in(authorization: str) -> str | None:
    """The token in an `Authorization` header, None if it holds none."""
    match = AUTHORIZATION.match(authorization.strip())
    return match["token"].strip('"') or None if match else None


def _scopes(text: str) -> tuple[Scope, ...]:
    return tuple(Scope(word) for word in text.split())


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256((salt + token).encode()).hexdigest()
