"""The one place that decides whether a failure lies with this node: its disks, memory and limits, its database,
its settings. What does says nothing of the item that met it: no attempt is used up, nobody else hears of it, the
item waits, and an operator reads what to do.
"""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import dataclass

from dpn.database import DATABASE_AWAY
from dpn.errors import LocalTrouble, NoSpace, StoreCold, StoreFailed, StoreMismatch, StoreMissing
from dpn.files import DISK_FULL

MACHINE_FAILED = frozenset(
    {
        # the disk, or the way to it
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EREMOTEIO,
        errno.EUCLEAN,
        errno.EBADMSG,
        errno.ENOLCK,
        errno.ETIMEDOUT,
        # the machine's limits
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ETXTBSY,
        errno.EFBIG,
        errno.ENOBUFS,
    }
)
"""The errors of the system that no bag and no peer can bring about, beside those of a full disk. A name that is
missing, taken or too long is none of them: that may be the item's."""


STORE_REMEDY = (
    "look at our store and at what lies between it and us; it is tried again by itself, at first after minutes, "
    "then ever more seldom, and at once by `dpn item retry`"
)


@dataclass(frozen=True, slots=True)
class LocalCause:
    """`reason` says what failed and what to do; with `needs_operator` it does not pass by itself.

    With `is_store` our own store answers and does not do what it should: to try again may mean to send it a whole
    bag, for nothing.
    """

    reason: str
    needs_operator: bool = False
    is_database: bool = False
    is_store: bool = False


def local_cause(error: BaseException) -> LocalCause | None:
    """What failed here, if it was something here that failed: the error itself or what it was raised from.

    That a store holds other bytes than it should, or none, is a finding to who asks it that, and a depositor's
    matter where the store is a deposit's source: so only the error itself speaks of our store, as nobody took it.
    """
    if isinstance(error, (StoreFailed, StoreMismatch, StoreMissing, StoreCold)):
        return LocalCause(f"{error}: {STORE_REMEDY}", needs_operator=True, is_store=True)
    cause: BaseException | None = error
    while cause is not None:
        if found := _of_one(cause):
            return found
        cause = cause.__cause__
    return None


def is_machine_error(number: int | None) -> bool:
    """Whether an error number of the system speaks of this machine, whatever was asked of it."""
    return number in MACHINE_FAILED or number in DISK_FULL


def _of_one(error: BaseException) -> LocalCause | None:
    match error:
        case LocalTrouble():
            return LocalCause(str(error), needs_operator=not isinstance(error, NoSpace))
        case OSError() if error.errno in DISK_FULL:
            return LocalCause(f"a disk is full: {error}: free space on it")
        case OSError() if error.errno in MACHINE_FAILED:
            remedy = "look at this machine's disk, permissions and limits"
            return LocalCause(
                f"this machine failed: {error}: {remedy}; the work goes on then", needs_operator=True
            )
        case MemoryError():
            return LocalCause(
                "this machine has no memory left: give it more, or run fewer at once", needs_operator=True
            )
        case sqlite3.OperationalError():  # of the files in which packaging keeps its lists
            return LocalCause(f"a file of lists failed: {error}: look at the staging volume", needs_operator=True)
    if isinstance(error, DATABASE_AWAY):
        return LocalCause(f"the database failed: {error}", is_database=True)
    return None
