"""Which failures are this node's own, whatever they were raised as (docs/architecture.md, promise 16)."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest
from sqlalchemy.exc import InterfaceError, OperationalError

from dpn.errors import (
    LocalTrouble,
    Misconfigured,
    NoSpace,
    NotABag,
    SourceChanged,
    StoreCold,
    StoreFailed,
    StoreMismatch,
    StoreMissing,
    TransientError,
)
from dpn.local_causes import local_cause


@pytest.mark.parametrize(
    "number",
    [
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENODEV,
        errno.ENOTCONN,
    ],
)
@pytest.mark.parametrize("raised_as", [None, TransientError("not whole"), NotABag("unreadable")])
def test_a_disk_or_a_limit_of_this_machine_is_its_own_whatever_it_is_raised_as(
    number: int, raised_as: Exception | None
) -> None:
    failed = OSError(number, os.strerror(number), "/srv/staging")
    if raised_as is not None:
        raised_as.__cause__ = failed
    cause = local_cause(raised_as or failed)
    assert cause is not None
    assert "/srv/staging" in cause.reason, "an operator must know where to look"
    assert cause.needs_operator is (number not in (errno.ENOSPC, errno.EDQUOT)), "a full disk empties by itself"


@pytest.mark.parametrize(
    ("error", "needs_operator", "is_database"),
    [
        (Misconfigured("no such volume"), True, False),
        (LocalTrouble("rsync cannot be started"), True, False),
        (NoSpace("the volume is full"), False, False),
        (MemoryError(), True, False),
        (sqlite3.OperationalError("disk I/O error"), True, False),
        (OperationalError("SELECT 1", None, Exception("no answer")), False, True),
        (InterfaceError("SELECT 1", None, Exception("closed")), False, True),
    ],
)
def test_settings_memory_and_the_database_are_this_nodes_own(
    error: Exception, needs_operator: bool, is_database: bool
) -> None:
    cause = local_cause(error)
    assert cause is not None
    assert (cause.needs_operator, cause.is_database) == (needs_operator, is_database)


@pytest.mark.parametrize("kind", [StoreMismatch, StoreMissing, StoreCold, StoreFailed])
def test_what_our_store_did_not_keep_is_our_operators_matter(kind: type[Exception]) -> None:
    cause = local_cause(kind("it has other bytes"))
    assert cause is not None
    assert (cause.needs_operator, cause.is_store) == (True, True)
    assert cause.reason.startswith("it has other bytes: look at our store")


@pytest.mark.parametrize("kind", [StoreMismatch, StoreMissing])
def test_a_store_that_a_deposit_comes_from_is_not_ours(kind: type[Exception]) -> None:
    changed = SourceChanged("the object is gone since it was listed")
    changed.__cause__ = kind("no object there")
    assert local_cause(changed) is None


@pytest.mark.parametrize(
    "error",
    [
        TransientError("rsync broke off"),
        NotABag("no manifest"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        OSError("without a number"),
        ValueError("a bug"),
    ],
)
def test_what_a_bag_or_a_peer_can_bring_about_is_not(error: Exception) -> None:
    assert local_cause(error) is None
