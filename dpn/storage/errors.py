"""What can go wrong with a long-term store, beyond what dpn.errors and dpn.s3.errors have.

TransientError
├── StagedChanged     the staged file is no longer what was validated: fetch it again
├── ObjectReplaced    it is not, or no longer, the object that was looked at: look again
└── TargetBusy        another process retrieves into the same file
PermanentError
└── StoreConflict     another content lies under the key: an operator must look
OSError
└── SourceUnreadable  the staged file cannot be read: its disk, not the store
"""

from __future__ import annotations

from dpn.errors import PermanentError, TransientError


class StagedChanged(TransientError):
    """The staged file is not, or no longer, the one that was validated. Nothing of it is visible in the store."""


class ObjectReplaced(TransientError):
    """The object under the key is not, or no longer, the one that was looked at: look at it again."""


class TargetBusy(TransientError):
    """Another process is retrieving into the same file: it ends, or dies with its lease; then ours goes on."""


class StoreConflict(PermanentError):
    """An object with another content, or one that cannot be proven equal, lies under the key.

    It is never overwritten: compare both by hand, move the wrong one away, then retry the item.
    """


class SourceUnreadable(OSError):
    """The staged file cannot be opened or read: look at the staging volume's disk."""
