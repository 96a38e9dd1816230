"""What a token may be used for."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Scope(StrEnum):
    """One permission. Its text stands in rows and in settings of others."""

    NODE = "node"
    """To act as the node whose namespace is the owner's name: the registry, and deposits for our own."""
    JOBS_READ = "jobs:read"
    """To see the owner's jobs."""
    JOBS_WRITE = "jobs:write"
    """To ask for jobs, to see, to cancel and to repeat them."""
    JOBS_ALL = "jobs:all"
    """To do all that with everybody's jobs."""
    ENDPOINTS_WRITE = "endpoints:write"
    """To bring endpoints of one's own and to take them away."""


INCLUDED: dict[Scope, frozenset[Scope]] = {
    Scope.JOBS_WRITE: frozenset({Scope.JOBS_READ}),
    Scope.JOBS_ALL: frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}),
}
"""Who holds the one need not name the others."""


def allows(held: Collection[Scope], wanted: Scope) -> bool:
    """Whether these scopes hold the wanted one, by name or included in another."""
    return any(wanted is scope or wanted in INCLUDED.get(scope, ()) for scope in held)
