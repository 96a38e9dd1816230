"""How a server that speaks S3 refuses, beyond what dpn.errors has for every store.

Misconfigured
└── NoBucket                there is no such bucket
TransientError
├── PreconditionFailed      the object is not, or no longer, the one that the request spoke of
├── UploadLost              the store no longer knows our upload: it begins anew
├── RestoreUnderWay         to an archived object's restore
├── NoExpeditedCapacity
├── AlreadyActive
└── RestoreRefused
PermanentError
└── ObjectTooLarge          larger than the store can hold
"""

from __future__ import annotations

from dpn.errors import Misconfigured, PermanentError, TransientError


class NoBucket(Misconfigured):
    """The server knows no such bucket: create it, or correct its name."""


class PreconditionFailed(TransientError):
    """The object is not, or no longer, as the request said that it must be: look at it again.

    To a write that must replace nothing: it became visible meanwhile, by another worker, or by a request of ours
    whose answer was lost. To a read: another one lies under the key, or one that ends earlier.
    """


class UploadLost(TransientError):
    """The store no longer knows the upload (a lifecycle rule, or someone, aborted it): it begins anew."""


class RestoreUnderWay(TransientError):
    """A restore was asked for before and goes on, or none that is faster can be had."""


class NoExpeditedCapacity(TransientError):
    """No Expedited restore is to be had now. The store is well otherwise."""


class AlreadyActive(TransientError):
    """There is nothing to restore: the object can be read."""


class RestoreRefused(TransientError):
    """The store will not restore this object in the way that was asked for."""


class ObjectTooLarge(PermanentError):
    """The file is larger than the store can hold as one object."""
