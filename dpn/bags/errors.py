"""How work on bags fails, beside `dpn.errors.NotABag` and `OSError` (a disk that cannot be read or written).

DpnError
├── Misconfigured
│   └── ProfileError        a profile file cannot be used
├── TransientError
│   └── BagChanged          the bag changed while it was being read
└── PermanentError
    ├── NotABag             the file cannot be read as a bag at all
    ├── SourceRefused       what shall be bagged cannot be kept in a bag as it is
    │   ├── UnfitEntry      one file or folder cannot be in a bag, by its name or its kind
    │   └── ClaimRefuted    a file is not what is claimed of it
    └── BuiltBagInvalid     what was built is not valid: it was removed
"""

from __future__ import annotations

from dpn.errors import Misconfigured, NotABag, PermanentError, TransientError

__all__ = [
    "BagChanged",
    "BuiltBagInvalid",
    "ClaimRefuted",
    "NotABag",
    "ProfileError",
    "SourceRefused",
    "UnfitEntry",
]


class ProfileError(Misconfigured):
    """A profile file cannot be used; the text says which, where and why."""


class BagChanged(TransientError):
    """A file changed while it was being read: nothing can be said about it; read it again when it is at rest."""


class SourceRefused(PermanentError):
    """What shall be bagged cannot be kept in a bag as it is; the text says which file, why and what to do."""


class UnfitEntry(SourceRefused):
    """One file or folder cannot be in a bag, by its name or its kind: where it lies, why, and what to do.

    `shown`: where it lies as people can tell it from others; None: as Python writes it.
    """

    def __init__(self, where: str, why: str, *, shown: str | None = None) -> None:
        super().__init__(f"{shown or repr(where)} cannot be bagged: {why}")
        self.where = where
        self.why = why


class ClaimRefuted(SourceRefused):
    """A file is not what its source claims: of another size, or with another checksum.

    `where` it lies, `claim` is what was claimed ("size", or an algorithm).
    """

    def __init__(self, where: str, claim: str, claimed: str, found: str) -> None:
        super().__init__(
            f"{where} is not what its source claims: {claim} is {found}, claimed is {claimed}. Find out which one "
            "is right, and fix the file or the claim."
        )
        self.where = where
        self.claim = claim
        self.claimed = claimed
        self.found = found


class BuiltBagInvalid(PermanentError):
    """A bag that was just built does not validate: the metadata or the disk is wrong. It was removed."""
