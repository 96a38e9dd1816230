"""The catalogue of findings: what each code means, what to do about it, and where the rule comes from.

`adjustable` codes are matters of policy: a profile may rule them error, warning or nothing (`Finding-Severity`).
The others are about integrity, and no profile can talk them away.
"""

# ruff: noqa: E501 - a table

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error makes a bag invalid; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue. Severity is the usual one; below BagIt 1.0 some errors are warnings."""

    code: str
    severity: Severity
    meaning: str
    remedy: str
    source: str
    adjustable: bool = False


_E, _W = Severity.ERROR, Severity.WARNING
_RESEND = "Ask the sender for the bag again; if it comes the same, the sender must build it anew."
_REBUILD = "The sender must build the bag anew without it."
_PROFILE = "BagIt Profiles 1.4"
_TAR = "POSIX.1-2008 pax"

_KINDS = (
    # the tar
    Code("tar-header-damaged", _E, "A member's header is not a tar header.", _RESEND, _TAR),
    Code("tar-truncated", _E, "The file ends inside a member.", _RESEND, _TAR),
    Code("tar-end-missing", _W, "The two blocks of zeros that end a tar are missing.", _RESEND, _TAR, True),
    Code("tar-trailing-data", _E, "Something other than zeros follows the end of the archive.", _RESEND, _TAR),
    Code("tar-ambiguous", _E, "Headers contradict each other: readers would see different files.", _REBUILD, _TAR),
    Code("tar-pax-damaged", _E, "An extended header cannot be parsed.", _RESEND, _TAR),
    Code("tar-pax-too-large", _E, "An extended header is larger than any name needs.", _REBUILD, _TAR),
    Code(
        "tar-link", _E, "A member is a symbolic or hard link: no content stands under its name.",
        "The sender must pack the bag anew, with content in its place (GNU tar: --dereference, --hard-dereference).",
        "DPN 3.5",
    ),
    Code("tar-device", _E, "A member is a device or a pipe.", _REBUILD, "DPN 3.5"),
    Code("tar-sparse", _E, "A member is a sparse file; its content cannot be read in place.", _REBUILD, "DPN 3.5"),
    Code("tar-special", _E, "A member is of a kind that bags do not have.", _REBUILD, "DPN 3.5"),
    Code("tar-duplicate", _E, "Two members have the same name.", _REBUILD, "RFC 8493 §2"),
    Code("tar-several-roots", _E, "Not everything lies in one top-level folder.", _REBUILD, "DPN 3.1"),
    Code(
        "bag-name-mismatch", _W, "The top-level folder is not named like the file.", _REBUILD, "DPN 3.1", True
    ),
    Code(
        "too-many-entries", _E, "The bag has more files and folders than this node validates.",
        "Raise the limit if this bag is meant to be so.", "this node's limits",
    ),
    # names
    Code("name-not-utf8", _E, "A name is not UTF-8.", _REBUILD, "RFC 8493 §2.3"),
    Code("name-absolute", _E, "A name begins with '/'.", _REBUILD, "RFC 8493 §5.1"),
    Code("name-traversal", _E, "A name climbs out of its folder with '..'.", _REBUILD, "RFC 8493 §5.1"),
    Code("name-not-normal", _E, "A name has empty or '.' parts, or a NUL.", _REBUILD, "RFC 8493 §5.1"),
    Code("name-dot-prefix", _W, "Names begin with './'.", _REBUILD, "DPN 3.1", True),
    Code("name-too-long", _E, "A name is longer than 4,096 bytes, or nested deeper than 256.", _REBUILD, "PATH_MAX"),
    Code("name-part-too-long", _W, "A part of a name is longer than 255 bytes.", _REBUILD, "NAME_MAX", True),
    Code("name-control-character", _W, "A name has control characters.", _REBUILD, "DPN 3.5", True),
    Code(
        "name-misread", _W, "Others read another name where a manifest lists this one.", _REBUILD,
        "RFC 8493 §2.1.3", True,
    ),
    Code(
        "name-clash", _W, "Two names differ only in case or Unicode normalisation.",
        "Unpack it only where such names differ.", "RFC 8493 §6.1.1", True,
    ),
    Code("name-conflict", _E, "A name is both a file and a folder.", _REBUILD, "RFC 8493 §2"),
    Code("folder-link", _E, "A symbolic link; its content is not in the bag.", _REBUILD, "RFC 8493 §5.1"),
    Code("folder-special", _E, "Neither a file nor a folder.", _REBUILD, "RFC 8493 §2"),
    # bagit.txt
    Code("declaration-missing", _E, "There is no bagit.txt.", _REBUILD, "RFC 8493 §2.1.1"),
    Code("declaration-malformed", _E, "bagit.txt does not say version and encoding.", _REBUILD, "RFC 8493 §2.1.1"),
    Code("declaration-bom", _E, "bagit.txt begins with a byte-order mark.", _REBUILD, "RFC 8493 §2.1.1"),
    Code(
        "declaration-form", _W, "bagit.txt is not exactly its two lines (an error from BagIt 1.0 on).",
        _REBUILD, "RFC 8493 §2.1.1", True,
    ),
    Code("version-unsupported", _E, "Not BagIt 0.93 to 0.97 or 1.0.", _REBUILD, "RFC 8493 §2.1.1"),
    Code("encoding-unsupported", _E, "An unknown encoding for tag files.", _REBUILD, "RFC 8493 §2.1.1"),
    # structure
    Code("payload-directory-missing", _E, "There is no data folder.", _REBUILD, "RFC 8493 §2.1.2"),
    Code("manifest-missing", _E, "There is no payload manifest that can be verified.", _REBUILD, "RFC 8493 §2.1.3"),
    Code(
        "manifest-algorithm-unknown", _W, "A manifest's algorithm is unknown; it was not verified.",
        "Check it with a tool that knows the algorithm.", "RFC 8493 §2.4", True,
    ),
    Code(
        "manifest-misnamed", _W,
        "A manifest's name is written otherwise than the standard's: it counts as none, though its lines are checked.",
        "The sender must build the bag anew, with the name in lower case, letters and digits only.", "RFC 8493 §2.4",
        True,
    ),
    # manifests
    Code("manifest-line-malformed", _E, "A line is not 'checksum path'.", _REBUILD, "RFC 8493 §2.1.3"),
    Code("manifest-line-too-long", _E, "A line is longer than any name can be.", _REBUILD, "this node's limits"),
    Code("manifest-path-unsafe", _E, "A manifest names something outside the bag.", _REBUILD, "RFC 8493 §5.1"),
    Code("manifest-path-misplaced", _E, "A manifest lists what it must not list.", _REBUILD, "RFC 8493 §2.1.3, 2.2.1"),
    Code(
        "manifest-form", _W, "A manifest is written in another form than the standard's.", _REBUILD,
        "RFC 8493 §2.1.3, 6.1.3", True,
    ),
    Code(
        "manifest-entry-repeated", _W, "A file is listed twice with one checksum (an error from BagIt 1.0 on).",
        _REBUILD, "RFC 8493 §2.1.3", True,
    ),
    Code("manifest-entry-conflicting", _E, "A file is listed with two checksums.", _REBUILD, "RFC 8493 §2.1.3"),
    Code("payload-file-missing", _E, "A manifest lists a payload file that is not there.", _RESEND, "RFC 8493 §3"),
    Code("payload-file-unlisted", _E, "A payload file stands in no manifest, or not in all.", _REBUILD, "RFC 8493 §3"),
    Code("payload-checksum-mismatch", _E, "A payload file is not what its manifest says.", _RESEND, "RFC 8493 §3"),
    Code("tag-file-missing", _E, "A tag manifest lists a file that is not there.", _RESEND, "RFC 8493 §3"),
    Code("tag-checksum-mismatch", _E, "A tag file is not what its manifest says.", _RESEND, "RFC 8493 §3"),
    Code(
        "tag-file-unlisted", _W, "A tag file stands in no tag manifest: nothing proves it.", _REBUILD,
        "RFC 8493 §2.2.1", True,
    ),
    Code(
        "tag-manifest-incomplete", _W,
        "A tag manifest omits a payload manifest: it does not protect the payload (an error from BagIt 1.0 on).",
        _REBUILD, "RFC 8493 §2.2.1", True,
    ),
    # tag files
    Code("tag-file-not-decodable", _E, "A tag file is not in the encoding that bagit.txt says.", _REBUILD, "RFC 8493 §2.3"),
    Code(
        "tag-file-bom", _W, "A UTF-8 tag file begins with a byte-order mark (an error from BagIt 1.0 on).", _REBUILD,
        "RFC 8493 §2.3", True,
    ),
    Code(
        "tag-file-too-large", _E, "bagit.txt, or what is asked of another tag file, is larger than can be held.",
        _REBUILD, "this node's limits",
    ),
    Code("tag-file-malformed", _E, "A line is not 'label: value'.", _REBUILD, "RFC 8493 §2.2.2"),
    Code("payload-oxum-malformed", _E, "Payload-Oxum is not 'octets.files'.", _REBUILD, "RFC 8493 §2.2.2"),
    Code("payload-oxum-mismatch", _E, "Payload-Oxum does not fit the payload.", _RESEND, "RFC 8493 §2.2.2"),
    Code(
        "payload-oxum-repeated", _W, "Payload-Oxum stands twice (an error from BagIt 1.0 on).", _REBUILD,
        "RFC 8493 §2.2.2", True,
    ),
    Code("bagging-date-implausible", _W, "Bagging-Date is not a date of bagging.", _REBUILD, "RFC 8493 §2.2.2", True),
    # fetch.txt
    Code("fetch-malformed", _E, "A line is not 'url length path'.", _REBUILD, "RFC 8493 §2.2.3"),
    Code("fetch-path-unsafe", _E, "fetch.txt names something outside the payload.", _REBUILD, "RFC 8493 §5.1"),
    Code("fetch-file-missing", _E, "A file is still to be fetched: the bag is not complete.", _RESEND, "RFC 8493 §3"),
    Code(
        "fetch-not-needed", _W, "fetch.txt is there, and all that it lists, too; its addresses are never looked at.",
        _REBUILD, "RFC 8493 §2.2.3", True,
    ),
    # profiles
    Code("profile-identifier", _E, "The bag does not name the profile.", _REBUILD, _PROFILE, True),
    Code("profile-serialization", _E, "The bag must (or must not) be serialised.", _REBUILD, _PROFILE),
    Code("profile-bagit-version", _E, "The profile does not accept this BagIt version.", _REBUILD, _PROFILE),
    Code("profile-manifest", _E, "A manifest is required and missing, or there and not allowed.", _REBUILD, _PROFILE),
    Code("profile-tag-manifest", _E, "The same, for tag manifests.", _REBUILD, _PROFILE),
    Code("profile-tag-file", _E, "A tag file is required and missing, or there and not allowed.", _REBUILD, _PROFILE),
    Code("profile-payload-file", _E, "The same, for payload files.", _REBUILD, _PROFILE),
    Code("profile-payload-not-empty", _E, "The profile wants an empty payload.", _REBUILD, _PROFILE),
    Code("profile-fetch", _E, "fetch.txt is there and not allowed, or required and missing.", _REBUILD, _PROFILE),
    Code("profile-bag-name", _E, "The bag's name has not the form that the profile wants.", _REBUILD, "extension"),
    Code("profile-tag-missing", _E, "A required tag is missing.", _REBUILD, _PROFILE, True),
    Code("profile-tag-empty", _E, "A tag must not be empty.", _REBUILD, "extension", True),
    Code("profile-tag-value", _E, "A tag has a value that the profile does not allow.", _REBUILD, _PROFILE, True),
    Code("profile-tag-repeated", _E, "A tag must not be repeated.", _REBUILD, _PROFILE, True),
)  # fmt: skip

CATALOGUE = {kind.code: kind for kind in _KINDS}
