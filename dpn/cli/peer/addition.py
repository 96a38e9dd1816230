"""What it takes for a peer and us to work together: each thing looked at, and what to do where it is missing.

Settings are root's: what they lack is told as the lines to add, never written.
"""

from __future__ import annotations

import getpass
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError
from sqlalchemy.orm import Session

from dpn.access import tokens
from dpn.access.scopes import Scope
from dpn.database import reading
from dpn.errors import DpnError, Misconfigured
from dpn.node import OpenNode
from dpn.registry.catalogue import NODES, agree, ensure_nodes, find
from dpn.registry.client import RegistryClient
from dpn.registry.records import Agreement
from dpn.settings import PeerSettings
from dpn.transfer.command import rsync_command
from dpn.transfer.link import DAEMON_SCHEME, parse_link
from dpn.transfer.ssh_keys import is_pinned, known_host_name, public_half

ANY_BAG = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Precondition:
    """One thing that it takes."""

    name: str
    found: str
    """How it stands."""
    remedy: str = ""
    """What to do, in lines; empty where nothing is missing."""


@dataclass(frozen=True)
class PeerTable:
    """The table of a peer that the settings lack."""

    peer: str
    api_root: str
    hosts: tuple[str, ...]
    daemon: bool
    token_file: Path

    def lines(self) -> str:
        """It in TOML, valid. Raises Misconfigured if it cannot be."""
        hosts = self.hosts or (urlsplit(self.api_root).hostname or "",)
        text = "\n".join(
            [
                f"[peers.{self.peer}]",
                f"api_root = {json.dumps(self.api_root)}",
                f"token_file = {json.dumps(str(self.token_file))}",
                "",
                f"[peers.{self.peer}.rsync]",
                f'mode = "{"daemon" if self.daemon else "ssh"}"',
                f"hosts = {json.dumps(list(hosts))}",
            ]
        )
        try:
            PeerSettings.model_validate(tomllib.loads(text)["peers"][self.peer])
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise Misconfigured(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
        return text


def join(
    session: Session, node: OpenNode, peer: str, agreements: list[Agreement] | None, *, days: int | None
) -> str | None:
    """Enters what our own registry needs of the peer: its record where the settings say how it is reached, our
    agreements with it (without a word: all with a new one, else those that there are), and a token for it, for so
    many days. Returns the token if it had none that counts. Raises Misconfigured.
    """
    now = node.clock.now()
    if (access := node.settings.peers.get(peer)) is not None:
        ensure_nodes(session, node.settings.node, {peer: access}, now=now)
    wanted = agreements or agreed(session, node.namespace, peer) or list(Agreement)
    agree(session, node.namespace, peer, wanted, now=now)
    if _counting(session, peer, now):
        return None
    return tokens.issue(session, peer, now=now, expires_at=None if days is None else now + timedelta(days=days))


def agreed(session: Session, us: str, peer: str) -> list[Agreement]:
    """The agreements of our own record that name the peer."""
    ours = find(session, NODES, us)
    return [name for name in Agreement if ours is not None and peer in getattr(ours, name)]


def preconditions(node: OpenNode, peer: str, table: PeerTable | None) -> Iterator[Precondition]:
    """All of them, in the order in which to see to them. `table` is what to add if the settings have none."""
    add_it = f"dpn peer add {peer}"
    access = node.settings.peers.get(peer)
    with reading(node.sessions) as session:
        agreements = agreed(session, node.namespace, peer)
        record = find(session, NODES, peer)
        issued = _counting(session, peer, node.clock.now())
    yield Precondition("agreements", ", ".join(agreements) or "none", "" if agreements else add_it)
    yield Precondition(
        "our token for it", "; ".join(map(_described, issued)) or "none that counts", "" if issued else add_it
    )
    if access is None:
        yield Precondition("settings", f"no [peers.{peer}] in {node.config}", _missing(node, peer, table))
        return
    yield Precondition("settings", f"[peers.{peer}] in {node.config}")
    if record is None or record.api_root != access.api_root:
        yield Precondition("its record", "none, or of another address", add_it)
    yield from _registry(peer, access)
    yield from _bags_of(node, peer, access)


def _counting(session: Session, peer: str, now: datetime) -> list[tokens.IssuedToken]:
    return [
        one for one in tokens.issued(session) if one.owner == peer and Scope.NODE in one.scopes and one.counts(now)
    ]


def _described(token: tokens.IssuedToken) -> str:
    until = "" if token.expires_at is None else f" until {token.expires_at:%Y-%m-%d}"
    used = "never used yet" if token.last_used_at is None else f"last used {token.last_used_at:%Y-%m-%d %H:%M}"
    return f"{token.id}{until}, {used}"


def _missing(node: OpenNode, peer: str, table: PeerTable | None) -> str:
    if table is None:
        return f"dpn peer add {peer} --api-root https://… tells what to add"
    return "\n".join(
        [
            f"as root, add to {node.config}:",
            "",
            table.lines(),
            "",
            f"then: {_to_write(table.token_file)}",
        ]
    )


def _to_write(token_file: Path | None) -> str:
    user = getpass.getuser()
    return (
        f"runuser -u {user} -- sh -c 'umask 077; cat > {token_file}'    "
        "# paste the token that it issued to us; Ctrl-D"
    )


def _registry(peer: str, access: PeerSettings) -> Iterator[Precondition]:
    try:
        access.secret()
    except Misconfigured as error:
        remedy = f"as root: {_to_write(access.token_file)}" if access.token_file else "correct it"
        yield Precondition("its token for us", str(error), remedy)
        return
    client = RegistryClient(peer, access)
    try:
        client.get_node(peer)
    except DpnError as error:
        yield Precondition("its registry", str(error), "see to that, or ask its operators")
    else:
        yield Precondition("its registry", f"answers at {access.api_root}, and takes our token")
    finally:
        client.close()


def _bags_of(node: OpenNode, peer: str, access: PeerSettings) -> Iterator[Precondition]:
    """Whether what a worker needs to fetch its bags is there."""
    transfer, source = node.settings.transfer, access.rsync
    identity = source.identity_file or transfer.identity_file
    for host in source.hosts:
        place = f"[{host}]" if ":" in host else host
        link = f"{DAEMON_SCHEME}{place}/module/" if source.mode == "daemon" else f"{place}:"
        try:
            remote = parse_link(f"{link}{ANY_BAG}.tar", source, bag=ANY_BAG)
            rsync_command(remote, node.config.absolute(), settings=transfer, source=source, max_bytes=1)
            if source.mode == "daemon":
                yield Precondition(f"bags from {host}", "over the rsync daemon")
                continue
            known_hosts = transfer.known_hosts_file
            if known_hosts is not None and not is_pinned(known_hosts, host, source.port):
                line = f"{known_host_name(host, source.port)} ssh-ed25519 …"
                remedy = f"ask its operators for the host's key; as root, add to {known_hosts}:\n{line}"
                yield Precondition(f"bags from {host}", "no key of this host is pinned", remedy)
                continue
            found = "" if identity is None else f"; our public key, for its operators: {public_half(identity)}"
            yield Precondition(f"bags from {host}", f"over ssh{found}")
        except DpnError as error:
            yield Precondition(f"bags from {host}", str(error), "see to that")
