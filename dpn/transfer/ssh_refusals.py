"""Why ssh did not let us in: the one cause that it gave, and what to do about it. The words are OpenSSH's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from itertools import pairwise
from pathlib import Path

from dpn.text import replaced

MAX_LINE_CHARACTERS = 200
_CHANGED = re.compile(r"^Offending ([A-Z0-9-]{1,20}) key in .*:([0-9]{1,9})$", re.MULTILINE)
_OFFERED = re.compile(
    r"^The fingerprint for the ([A-Z0-9-]{1,20}) key sent by the remote host is\s+(SHA256:[A-Za-z0-9+/]+)",
    re.MULTILINE,
)

_CAUSES = (
    (
        re.compile(r"^No \S+ host key is known for .*$", re.MULTILINE),
        "no key of this host is pinned: ask the peer's operators for it, and add its line to {known_hosts}",
    ),
    (
        re.compile(r"^Host key verification failed.*$", re.MULTILINE),
        "the host's key is not one that transfer.known_hosts_file pins: check {known_hosts}",
    ),
    (
        re.compile(r"^.*(UNPROTECTED PRIVATE KEY FILE|bad permissions).*$", re.MULTILINE),
        "others may read our key: make identity_file the worker's user's own (chmod 600)",
    ),
    (
        re.compile(r"^(Load key|no such identity|Identity file) .*$", re.MULTILINE),
        "our key cannot be used: check that identity_file is a private key without a pass phrase",
    ),
    (
        re.compile(r"^.*(Permission denied \(|Too many authentication failures).*$", re.MULTILINE),
        "the host does not accept our key: have the peer's operators enter the public half of identity_file",
    ),
    (
        re.compile(r"^.*Bad configuration option.*$", re.MULTILINE),
        "this ssh is too old, or is none: check transfer.ssh",
    ),
)
"""The first that is found counts: ssh says `Permission denied` as well where it could not read our key."""


def why_refused(output: str, known_hosts: Path | None) -> str | None:
    """The cause and its remedy; None where ssh was not refused. `known_hosts` has the key that is pinned."""
    output = output.replace("\r", "")
    if (changed := _CHANGED.search(output)) and "Host key verification failed" in output:
        kind, line = changed.group(1), int(changed.group(2))
        sent = _OFFERED.search(output)
        offered = " ".join(sent.groups()) if sent else f"another {kind} key"
        return (
            f"ssh is refused: the host's key is not the one that is pinned: it offers {offered}, pinned is "
            f"{_pinned(known_hosts, line)} in {known_hosts}, line {line}: have the peer's operators say in "
            "another way which is right, then correct that line"
        )
    for pattern, remedy in _CAUSES:
        if found := pattern.search(output):
            said = replaced(found.group(0)[:MAX_LINE_CHARACTERS], "?").strip()
            return f"ssh is refused: {remedy.format(known_hosts=known_hosts)} ({said})"
    return None


def _pinned(known_hosts: Path | None, line: int) -> str:
    """The key in that line, as ssh shows keys. The line's number came from outside: the file is ours."""
    try:
        lines = [] if known_hosts is None else known_hosts.read_text("utf-8", "replace").splitlines()
        pairs = pairwise(lines[line - 1].split())
        kind, key = next(pair for pair in pairs if pair[0].startswith(("ssh-", "ecdsa-", "sk-")))
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except (OSError, IndexError, StopIteration, binascii.Error):
        return "a key that cannot be read"
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
