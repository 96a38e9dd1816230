"""Decides whether a transfer's link may be followed. A link comes from another node: it is hostile until checked.

What it may name is pinned by our settings: the way (ssh or daemon), the host and the port. The rest may only hold
characters that mean nothing to a shell, to rsync or to ssh.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from dpn.errors import LinkRefused
from dpn.identifiers import UUID
from dpn.transfer.settings import RsyncSource

MAX_LINK_CHARACTERS = 1024
MAX_SHOWN_CHARACTERS = 60
"""How much of a refused link its message quotes, so that the message fits in a cancellation's 255 characters."""

RSYNC_DAEMON_PORT = 873

DAEMON_SCHEME = "rsync://"

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._/~@%+=,:\[\]-]")
_NOT_ALLOWED_IN_PATH = re.compile(r"[\[\]]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file at a peer that we may ask for. Made by `parse_link` only, so each part is known to be harmless."""

    mode: Literal["ssh", "daemon"]
    user: str | None
    host: str
    """Lower case; an IPv6 address in its shortest form, without brackets."""
    port: int | None
    """As our settings pin it; none: the usual port."""
    path: str
    """For a daemon the module's name and the path in it, else a path at the host."""

    @property
    def argument(self) -> str:
        """How rsync wants it named."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.mode == "ssh":
            return f"{user}{host}:{self.path}"
        port = f":{self.port}" if self.port else ""
        return f"{DAEMON_SCHEME}{user}{host}{port}/{self.path}"


def parse_link(link: str, source: RsyncSource, *, bag: str) -> RemoteFile:
    """The file that `link` names, if our settings let this peer name it. Raises LinkRefused with a stable code.

    Accepted are `[user@]host:path` where `source.mode` is ssh, and `rsync://[user@]host[:port]/module/path` or
    `[user@]host::module/path` where it is daemon. The host must be one of `source.hosts` (case does not matter),
    the port `source.port`. The path must end in `<bag>.tar`; it may hold ASCII letters and digits and
    `. _ / ~ @ % + = , : -`, no `..`, and no component that begins with a dash.

    Codes: bag-not-uuid, link-too-long, link-character, link-leading-dash, link-local-path, link-form, link-mode,
    link-user, link-host-not-allowed, link-port-not-allowed, link-path-escape, link-file-name.
    """
    _check_text(link, bag)
    user, host, port, path = _split(link, source)
    if user is not None and not _USER.fullmatch(user):
        _refuse("link-user", "the user's name is not one", link)
    _check_place(link, source, host, port)
    _check_path(link, path, bag)
    if source.mode == "daemon" and (path.startswith("/") or "/" not in path):
        _refuse("link-form", "names no module", link)
    return RemoteFile(mode=source.mode, user=user, host=_normal_host(host) or "", port=source.port, path=path)


def _check_text(link: str, bag: str) -> None:
    if not UUID.match(bag):
        raise LinkRefused("bag-not-uuid", f"the bag's id is not a UUID: {_shown(bag)}")
    if len(link) > MAX_LINK_CHARACTERS:
        _refuse("link-too-long", f"longer than {MAX_LINK_CHARACTERS} characters", link)
    if found := _NOT_ALLOWED.search(link):
        _refuse("link-character", f"character {found.group()!a} is not allowed", link)
    if link.startswith("-"):
        _refuse("link-leading-dash", "begins with a dash", link)


def _split(link: str, source: RsyncSource) -> tuple[str | None, str, str | None, str]:
    """User, host, port and path as the link spells them."""
    scheme, rest = link[: len(DAEMON_SCHEME)].lower(), link[len(DAEMON_SCHEME) :]
    if scheme == DAEMON_SCHEME:
        mode, port_allowed = "daemon", True
        place, slash, path = rest.partition("/")
        if not slash:
            _refuse("link-form", "names no module", link)
    else:
        place, path = _split_at_colon(link)
        mode, port_allowed = ("daemon", False) if path.startswith(":") else ("ssh", False)
        path = path.removeprefix(":") if mode == "daemon" else path
    if mode != source.mode:
        _refuse("link-mode", f"is for rsync over {mode}, this peer's bags come over {source.mode}", link)
    before, at, after = place.rpartition("@")
    host, port = _split_port(link, after) if port_allowed else (after, None)
    return (before if at else None), host, port, path


def _split_at_colon(link: str) -> tuple[str, str]:
    """What is before and after the colon that ends the host, which may be an IPv6 address in brackets."""
    bracket = link.find("[")
    start = link.find("]", bracket) if bracket >= 0 else 0
    colon = link.find(":", max(start, 0))
    slash = link.find("/")
    if colon < 0 or 0 <= slash < colon:
        _refuse("link-local-path", "names no host: a local path", link)
    return link[:colon], link[colon + 1 :]


def _split_port(link: str, place: str) -> tuple[str, str | None]:
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", place)
    if not found:
        _refuse("link-form", "host and port cannot be told apart", link)
    return found.group(1), found.group(2)


def _check_place(link: str, source: RsyncSource, host: str, port: str | None) -> None:
    if host.startswith("-"):
        _refuse("link-leading-dash", "the host begins with a dash", link)
    normal = _normal_host(host)
    if normal is None or normal not in {_normal_host(allowed) for allowed in source.hosts}:
        _refuse("link-host-not-allowed", f"{_shown(host)} is not a host of this peer in our settings", link)
    if port is not None and not (_PORT.fullmatch(port) and int(port) == (source.port or RSYNC_DAEMON_PORT)):
        _refuse("link-port-not-allowed", f"port {_shown(port)} is not this peer's in our settings", link)


def _check_path(link: str, path: str, bag: str) -> None:
    if _NOT_ALLOWED_IN_PATH.search(path):
        _refuse("link-character", "brackets are not allowed in the path", link)
    if path.startswith(":"):
        _refuse("link-form", "more colons than a link has", link)
    components = path.split("/")
    if ".." in components:
        _refuse("link-path-escape", "the path holds '..'", link)
    if any(component.startswith("-") for component in components):
        _refuse("link-leading-dash", "a part of the path begins with a dash", link)
    if components[-1] != f"{bag}.tar":
        _refuse("link-file-name", f"does not name {bag}.tar", link)


def _normal_host(host: str) -> str | None:
    """The one spelling that hosts are compared in; None if it is not a host."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare:
        try:
            return ipaddress.IPv6Address(bare).compressed
        except ValueError:
            return None
    return host.lower() if _HOST_NAME.fullmatch(host) else None


def _refuse(code: str, why: str, link: str) -> NoReturn:
    raise LinkRefused(code, f"link refused ({code}): {why}: {_shown(link)}")


def _shown(text: str) -> str:
    """`text` as one harmless line of bounded length."""
    line = ascii(text[:MAX_LINK_CHARACTERS])
    return line if len(line) <= MAX_SHOWN_CHARACTERS else f"{line[: MAX_SHOWN_CHARACTERS - 4]}...'"
