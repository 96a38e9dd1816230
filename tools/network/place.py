"""What a node of the demo consists of: its folder, its ports, and settings that make it a node like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.network.services import FOLDER
from tools.network.toml_text import Table, merged, to_toml
from tools.services.ports import LOOPBACK

NAMES = ("north", "south", "west", "east", "central", "coast", "harbor", "valley", "summit")
"""The first one is where the deposits are made."""

FEWEST_NODES = 2
MOST_NODES = len(NAMES)

VOLUME = "main"
RSYNC_MODULE = "outbound"
FLOOR_BYTES = 50_000_000
POOL_SIZE = 5

LIVELY: Table = {
    "sweep_seconds": 1.0,
    "heartbeat_seconds": 5.0,
    "backoff_first_seconds": 1.0,
    "backoff_max_seconds": 15.0,
    "verdict_poll_seconds": 1.0,
    "breaker_first_seconds": 1.0,
    "breaker_max_seconds": 5.0,
}
"""A real node can wait; whoever watches a demo cannot. The lease stays what it is in production."""

HEADER = """\
# Node {name} of a demo, written by it. Works with every command, e.g. `dpn --config {settings} items`;
# config/node.example.toml explains every key.

"""

RSYNCD_CONFIGURATION = """\
# The bags that other nodes may fetch from node {name}; read-only, on this machine only.
port = {port}
address = {host}
hosts allow = {host}
uid = {uid}
gid = {gid}
use chroot = no
reverse lookup = no
socket options = TCP_NODELAY
list = no
log file = {log}
pid file =
max verbosity = 1

[{module}]
path = {path}
read only = yes
"""


@dataclass(frozen=True)
class Place:
    """Where a node lives: everything of its own lies in `directory`."""

    name: str
    directory: Path

    @property
    def settings_file(self) -> Path:
        return self.directory / "node.toml"

    @property
    def database_file(self) -> Path:
        """Where the database is one file."""
        return self.directory / "node.db"

    @property
    def outbound(self) -> Path:
        """What the rsync daemon serves: a folder for each node that may fetch."""
        return self.directory / "outbound"

    @property
    def volume(self) -> Path:
        """The staging volume."""
        return self.directory / "staging"

    @property
    def store(self) -> Path:
        """The long-term store, where that is a folder."""
        return self.directory / "store"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def services(self) -> Path:
        """Servers that only this node has (its nsqd)."""
        return self.directory / FOLDER

    @property
    def rsyncd_configuration(self) -> Path:
        return self.directory / "rsyncd.conf"

    def secret(self, name: str) -> Path:
        """A file that only its owner may read."""
        return self.directory / "secrets" / name

    def make_folders(self) -> None:
        for folder in (self.outbound, self.volume, self.store, self.logs, self.secret("x").parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.secret("x").parent.chmod(0o700)

    def write_secret(self, name: str, text: str) -> Path:
        path = self.secret(name)
        path.touch(mode=0o600)
        path.write_text(text + "\n", encoding="utf-8")
        return path


@dataclass(frozen=True)
class Ports:
    """What a node listens on."""

    registry: int
    rsync: int

    @property
    def api_root(self) -> str:
        return f"http://{LOOPBACK}:{self.registry}"


def link(ports: Ports, to_node: str, bag: str) -> str:
    """Where `to_node` finds a bag that the node with these ports wants replicated."""
    return _link_of(ports).format(node=to_node, bag=bag)


def _link_of(ports: Ports) -> str:
    return f"rsync://{LOOPBACK}:{ports.rsync}/{RSYNC_MODULE}/{{node}}/{{bag}}.tar"


def node_settings(place: Place, ports: Ports, peers: Mapping[str, Ports], *, stands_on: Table) -> Table:
    """A node's complete settings; `stands_on` has the tables database, broker and store, and may change others."""
    settings: Table = {
        "node": {"namespace": place.name, "name": f"Demo node {place.name}", "api_root": ports.api_root},
        "database": {"pool_size": POOL_SIZE},
        "broker": {"poll_seconds": 0.5},
        "staging": {"floor_bytes": FLOOR_BYTES, "volumes": {VOLUME: place.volume}},
        "store": {},
        "work": dict(LIVELY),
        "ingest": {
            "replicate_to_count": len(peers),
            "outbound": {VOLUME: {"folder": place.outbound, "link": _link_of(ports)}},
        },
        "server": {"host": LOOPBACK, "port": ports.registry},
        "log": {"directory": place.logs},
        "processes": {"directory": place.directory / "processes"},
        "peers": {name: _peer(place, name, peer) for name, peer in peers.items()},
    }
    return merged(settings, stands_on)


def write_settings(place: Place, settings: Table) -> None:
    """Writes node.toml, which may hold secrets."""
    header = HEADER.format(name=place.name, settings=place.settings_file)
    place.settings_file.touch(mode=0o600)
    place.settings_file.write_text(header + to_toml(settings), encoding="utf-8")


def write_rsyncd_configuration(place: Place, ports: Ports) -> None:
    """Writes what the node's rsync daemon reads."""
    owner = place.outbound.stat()
    text = RSYNCD_CONFIGURATION.format(
        name=place.name,
        host=LOOPBACK,
        port=ports.rsync,
        uid=owner.st_uid,
        gid=owner.st_gid,
        log=place.logs / "rsyncd.log",
        module=RSYNC_MODULE,
        path=place.outbound,
    )
    place.rsyncd_configuration.write_text(text, encoding="utf-8")


def _peer(place: Place, name: str, ports: Ports) -> Table:
    return {
        "api_root": ports.api_root,
        "token_file": place.secret(f"{name}.token"),
        "rsync": {"mode": "daemon", "hosts": [LOOPBACK], "port": ports.rsync},
    }
