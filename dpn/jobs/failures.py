"""What can be wrong with a step of a job, in the few words that other systems understand, too: pure."""

from __future__ import annotations

from enum import StrEnum

from dpn.errors import (
    AccessRefused,
    LocalTrouble,
    NoSpace,
    ObjectExists,
    ServiceUnavailable,
    SourceChanged,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreTimeout,
    TransientError,
)
from dpn.local_causes import local_cause


class FailureClass(StrEnum):
    """Why a step failed."""

    SOURCE_MISSING = "source_missing"
    SOURCE_CHANGED = "source_changed"
    DEST_EXISTS = "dest_exists"
    DEST_FULL = "dest_full"
    AUTH = "auth"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    NETWORK = "network"
    TIMEOUT = "timeout"
    TOOL_CRASH = "tool_crash"
    UNKNOWN_OUTCOME = "unknown_outcome"
    """A tool was lost while it copied: what is at the target must be looked at first."""
    BAD_REQUEST = "bad_request"

    @property
    def may_pass(self) -> bool:
        """Whether trying again, without anybody's doing, may help."""
        return self in _MAY_PASS


_MAY_PASS = frozenset(
    {
        FailureClass.NETWORK,
        FailureClass.TIMEOUT,
        FailureClass.TOOL_CRASH,
        FailureClass.DEST_FULL,
        FailureClass.UNKNOWN_OUTCOME,
    }
)

_CLASS_OF: tuple[tuple[type[Exception], FailureClass], ...] = (
    (StoreMissing, FailureClass.SOURCE_MISSING),
    (SourceChanged, FailureClass.SOURCE_CHANGED),
    (ObjectExists, FailureClass.DEST_EXISTS),
    (StoreFull, FailureClass.DEST_FULL),
    (NoSpace, FailureClass.DEST_FULL),
    (AccessRefused, FailureClass.AUTH),
    (StoreMismatch, FailureClass.CHECKSUM_MISMATCH),
    (StoreTimeout, FailureClass.TIMEOUT),
    (ServiceUnavailable, FailureClass.NETWORK),
    (LocalTrouble, FailureClass.BAD_REQUEST),
    (TransientError, FailureClass.NETWORK),
)
"""The first that fits; a subclass before its base."""


def class_of(error: Exception) -> FailureClass:
    """What an error of a root means to a step."""
    for kind, found in _CLASS_OF:
        if isinstance(error, kind):
            return found
    # A root says what it cannot do; what else this machine cannot do may pass.
    return FailureClass.TOOL_CRASH if local_cause(error) else FailureClass.BAD_REQUEST


RCLONE_MISSING_FOLDER = 3
RCLONE_STATUS: dict[FailureClass, int] = {
    FailureClass.SOURCE_MISSING: 4,
    FailureClass.NETWORK: 5,
    FailureClass.TIMEOUT: 5,
    FailureClass.DEST_FULL: 1,
}
"""What rclone's command line would have exited with; 1 where it is not named."""


def rclone_status(failure: FailureClass | None, *, whole_folder: bool = False) -> int:
    """The exit code that stands for how it went; None is success. `whole_folder`: what was asked for is no object
    but a folder or a bucket."""
    if failure is None:
        return 0
    if failure is FailureClass.SOURCE_MISSING and whole_folder:
        return RCLONE_MISSING_FOLDER
    return RCLONE_STATUS.get(failure, 1)
