"""How work on bags fails, beside `dpn.errors.NotABag` and `OSError` (a disk that cannot be read or written).

DpnError
├── Misconfigured
│   └── ProfileError        a profile file cannot be used
├── TransientError
│   └── BagChanged          the bag changed while it was being read
└── PermanentError
    ├── NotABag             the file cannot be read as a bag at all
    ├── SourceRefused       what shall be bagged cannot be kept in a bag as it is
    └── BuiltBagInvalid     what was built is not valid: it was removed
"""

from __future__ import annotations

from dpn.errors import Misconfigured, NotABag, PermanentError, TransientError

__all__ = ["BagChanged", "BuiltBagInvalid", "NotABag", "ProfileError", "SourceRefused"]


class ProfileError(Misconfigured):
    """A profile file cannot be used; the text says which, where and why."""


class BagChanged(TransientError):
    """A file changed while it was being read: nothing can be said about it; read it again when it is at rest."""


class SourceRefused(PermanentError):
    """What shall be bagged cannot be kept in a bag as it is; the text says which file, why and what to do."""


class BuiltBagInvalid(PermanentError):
    """A bag that was just built does not validate: the metadata or the disk is wrong. It was removed."""
