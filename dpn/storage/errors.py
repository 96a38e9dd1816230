"""What can go wrong with a store, beyond dpn.errors' StoreUnavailable, StoreMismatch and Misconfigured.

TransientError
├── SourceChanged     the staged file is no longer what was validated: fetch it again
├── StoreMissing      the store has no such object
├── StoreCold         the object must be restored from cold storage before it can be read
├── ObjectReplaced    it is not, or no longer, the object that was looked at: look again
├── TargetBusy        another process retrieves into the same file
└── UploadLost        the store no longer knows our upload: it begins anew
PermanentError
├── StoreConflict     another content lies under the key: an operator must look
└── ObjectTooLarge    larger than the store can hold
OSError
└── SourceUnreadable  the staged file cannot be read: its disk, not the store
"""

from __future__ import annotations

from dpn.errors import PermanentError, TransientError


class SourceChanged(TransientError):
    """The staged file is not, or no longer, the one that was validated. Nothing of it is visible in the store."""


class StoreMissing(TransientError):
    """The store answers, the bucket or folder is there, the object is not: look for who removed it."""


class StoreCold(TransientError):
    """The object is in cold storage: ask for its restore first, then read it."""


class ObjectReplaced(TransientError):
    """The object under the key is not, or no longer, the one that was looked at: look at it again."""


class TargetBusy(TransientError):
    """Another process is retrieving into the same file: it ends, or dies with its lease; then ours goes on."""


class UploadLost(TransientError):
    """The store no longer knows the upload (a lifecycle rule, or someone, aborted it): it begins anew."""


class StoreConflict(PermanentError):
    """An object with another content, or one that cannot be proven equal, lies under the key.

    It is never overwritten: compare both by hand, move the wrong one away, then retry the item.
    """


class ObjectTooLarge(PermanentError):
    """The file is larger than the store can hold as one object."""


class SourceUnreadable(OSError):
    """The staged file cannot be opened or read: look at the staging volume's disk."""
