"""rabbitmq and its epmd: a broker of its own, with all it needs defined before it takes the first connection.

Erlang's nodes find each other through an epmd. Ours has its own, in the foreground: one that the broker starts by
itself would listen on a port that everybody shares, and outlive it.

Root runs the broker as the user `rabbitmq`, who may be unable to walk to DIR: it is started in its folder, and
knows that as /proc/self/cwd, and so do the programs that it starts.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any
from urllib.parse import quote

from tools.services.ports import LOOPBACK
from tools.services.process import Launch
from tools.services.programs import find, newest_first
from tools.services.service import ANSWER_SECONDS, Home, NotReady, Service
from tools.services.system_user import give, system_user

USER = "dpn"
VHOST = "/"
NODE = "dpn@localhost"
SYSTEM_USER = "rabbitmq"
HERE = "/proc/self/cwd"

CONFIGURATION = """\
# Written by bin/services at every start.
listeners.tcp.1 = {address}
load_definitions = {here}/definitions.json
"""

LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"
"""Else the port between Erlang's nodes would be open to all networks."""

NAMES_REQUEST = struct.pack(">HB", 1, ord("n"))
"""Asks an epmd for the nodes that it knows (Erlang's distribution protocol, NAMES_REQ)."""


class Epmd(Service):
    """Erlang's port mapper. `--set epmd.FLAG=VALUE` passes `-FLAG VALUE`."""

    name = "epmd"
    port_names = ("tcp",)

    def prepare(self, home: Home) -> Launch:
        flags = [word for flag, value in home.flags.items() for word in (f"-{flag}", value)]
        where = ["-port", str(home.ports["tcp"]), "-address", LOOPBACK]
        return Launch([find("epmd", *newest_first("erlang/erts-*/bin")), *where, *flags], {})

    def entry(self, home: Home) -> dict[str, Any]:
        return {"host": LOOPBACK, "port": home.ports["tcp"]}

    def check(self, entry: dict[str, Any]) -> None:
        where = entry["host"], entry["port"]
        try:
            with socket.create_connection(where, timeout=ANSWER_SECONDS) as connection:
                connection.sendall(NAMES_REQUEST)
                answer = connection.recv(4, socket.MSG_WAITALL)
        except OSError as error:
            raise NotReady(f"names of epmd {where}: {error}") from error
        if answer != struct.pack(">I", entry["port"]):
            raise NotReady(f"names of epmd {where}: {answer!r}, not its port")


class Rabbitmq(Service):
    """A RabbitMQ server with one user, who may do everything in the vhost `/`; streams need no plugin.

    `--set rabbitmq.NAME=VALUE` writes `NAME = VALUE` into rabbitmq.conf.
    """

    name = "rabbitmq"
    port_names = ("tcp", "distribution")
    needs = ("epmd",)
    listens_in_a_child = True

    def prepare(self, home: Home) -> Launch:
        user = system_user(SYSTEM_USER, "RabbitMQ")
        give(home.path, user)
        for name, text in _files(home).items():
            (home.path / name).write_text(text, encoding="utf-8")
        return Launch([_program()], _environment(home), user=user, folder=home.path)

    def entry(self, home: Home) -> dict[str, Any]:
        password = home.secret("password")
        return {
            "url": f"amqp://{USER}:{password}@{home.address('tcp')}/{quote(VHOST, safe='')}",
            "host": LOOPBACK,
            "port": home.ports["tcp"],
            "user": USER,
            "password": password,
            "vhost": VHOST,
        }

    def check(self, entry: dict[str, Any]) -> None:
        import pika  # only here: status and down of the other services need no client
        from pika.exceptions import AMQPError

        parameters = pika.URLParameters(entry["url"])
        parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = (
            ANSWER_SECONDS
        )
        try:
            pika.BlockingConnection(parameters).close()
        except (AMQPError, OSError) as error:
            raise NotReady(f"AMQP at {entry['host']}:{entry['port']}: {error!r}") from error


def _program() -> str:
    """The server's script itself: what Debian has on PATH runs for root and its own user only."""
    for folder in newest_first("rabbitmq/lib/rabbitmq_server-*/sbin"):
        return str(folder / "rabbitmq-server")
    return find("rabbitmq-server")


def _files(home: Home) -> dict[str, str]:
    """What it reads at its start."""
    configuration = CONFIGURATION.format(address=home.address("tcp"), here=HERE)
    configuration += "".join(f"{name} = {value}\n" for name, value in home.flags.items())
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": USER, "password": home.secret("password"), "tags": ["administrator"]}],
        "vhosts": [{"name": VHOST}],
        "permissions": [{"user": USER, "vhost": VHOST, **everything}],
    }
    return {
        "rabbitmq.conf": configuration,
        "definitions.json": json.dumps(definitions, indent=1) + "\n",
        "plugins": "[].\n",
    }


def _environment(home: Home) -> dict[str, str]:
    """All its places: what is left out, it would take from the machine's own installation."""
    epmd = home.others["epmd"]
    return {
        "HOME": HERE,
        "ERL_EPMD_ADDRESS": epmd["host"],
        "ERL_EPMD_PORT": str(epmd["port"]),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_NODE_PORT": str(home.ports["tcp"]),
        "RABBITMQ_DIST_PORT": str(home.ports["distribution"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK_ONLY,
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": f"{HERE}/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{HERE}/plugins",
        "RABBITMQ_MNESIA_BASE": f"{HERE}/data",
        "RABBITMQ_LOG_BASE": f"{HERE}/logs",
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_SCHEMA_DIR": f"{HERE}/schema",
        "RABBITMQ_GENERATED_CONFIG_DIR": f"{HERE}/generated",
        "RABBITMQ_PID_FILE": f"{HERE}/pid",
    }
