"""What a token may be used for."""

from __future__ import annotations

import pytest

from dpn.access.scopes import Scope, allows

HOLDS = {
    Scope.NODE: {Scope.NODE},
    Scope.JOBS_READ: {Scope.JOBS_READ},
    Scope.JOBS_WRITE: {Scope.JOBS_READ, Scope.JOBS_WRITE},
    Scope.JOBS_ALL: {Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.JOBS_ALL},
    Scope.ENDPOINTS_WRITE: {Scope.ENDPOINTS_WRITE},
}


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_holds_itself_and_what_it_includes_and_nothing_else(scope):
    assert {wanted for wanted in Scope if allows([scope], wanted)} == HOLDS[scope]


def test_scopes_add_up_and_none_is_nothing():
    assert allows([Scope.ENDPOINTS_WRITE, Scope.JOBS_WRITE], Scope.JOBS_READ)
    assert not any(allows([], wanted) for wanted in Scope)
