"""A hostile member, as a process of its own: it does to one node all that a member can do, at once.

Its registry answers on a free port of this machine, whose number is the first line that it prints. Orders come as
lines of JSON on its standard input; at the end of that it ends.

    {"mode": "quiet"}     an empty registry
    {"mode": "claims", …} shows what is not its own, too much, and what it may not have
    {"mode": "attack", …} the same, pages without end, and all that it can do to the node's own server
    {"mode": "report"}    goes on as it does

It answers each with what it has done so far.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

NAME = "east"
ADDRESS = "127.0.0.66"
"""Where its requests come from: an address of its own, as another machine has."""

NICE = 10
"""Its processor time stands for another machine's: it must not be what is measured."""

PAGE = 100
IDLE_CONNECTIONS = 100
DRIPPED_BODIES = 10
TIRING_CALLERS = 2
LAST_VERSION = 2**31 - 1
HUGE = 2**62
REPEATED_KEYS = 60_000
EVERY_SO_MANY = 20
"""Pages of a flood, one has a row of very many keys, and the next one drips."""

FAR_AHEAD = "Fri, 31 Dec 9999 23:59:59 GMT"
LATER_THAN_EVER = "9" * 30
KEYS = {"member": "member_id", "bag": "uuid", "replicate": "replication_id", "restore": "restore_id"}

Row = dict[str, Any]


@dataclass
class Lies:
    """What its registry shows, and what has come of it."""

    mode: str = "quiet"
    rows: dict[str, list[Row]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=count)

    def order(self, order: Row) -> None:
        """Takes an order; see the module's docstring."""
        if order["mode"] == "claims":
            self.rows = claims(order["honest"], order["shown"], order["link"])
        if order["mode"] != "report":
            self.mode = order["mode"]

    def page(self, kind: str, query: dict[str, str]) -> tuple[bytes, int]:
        """A page, and how many bytes of it drip."""
        if self.mode == "attack" and (kind, query.get("bag_type")) == ("bag", "I"):
            return self._page_of_a_flood(int(query["page_size"]))
        rows = [row for row in self.rows.get(kind, []) if _asked_for(row, query)]
        return page(rows, len(rows), more=False), 0

    def _page_of_a_flood(self, size: int) -> tuple[bytes, int]:
        number = next(self.numbers)
        self.done["pages of a flood"] += 1
        first = number * PAGE
        records = ", ".join(_bag_of_a_flood(first + one) for one in range(min(size, PAGE)))
        if number % EVERY_SO_MANY == 0:
            self.done["rows of repeated keys"] += 1
            records += ", " + repeated_keys()
        text = f'{{"count": 10000000, "next": "x", "previous": null, "results": [{records}]}}'
        return text.encode(), 10 * (number % EVERY_SO_MANY == 1)


def claims(honest: list[Row], shown: dict[str, int], link: str) -> dict[str, list[Row]]:
    """What is not its own, too much, and what it may not have. `honest`: bags of others; `shown`: files that its
    rsync server has, by uuid, and their sizes; `link`: of a bag there."""
    bags = [_bag(uuid, size=size) for uuid, size in shown.items()]
    bags += [_bag(str(uuid4()), size=HUGE) for _ in range(20)]
    transfers = [_transfer(bag["uuid"], link.format(bag=bag["uuid"])) for bag in bags]
    odd_links = ("-e sh -c id", link.format(bag="../../etc/passwd"), "x\x1b[31m\ny", "\u202erm -rf")
    transfers += [_transfer(bags[0]["uuid"], odd) for odd in odd_links]
    others: list[Row] = []
    for bag in honest:
        others += [bag | {"admin_node": NAME, "size": 1}]
        others += [_bag(str(uuid4()), first_version_uuid=bag["uuid"], version=LAST_VERSION, member=bag["member"])]
        others += [_bag(str(uuid4()), member=bag["member"], local_id=bag["local_id"])]
    stamps = {"created_at": _stamp(), "updated_at": _stamp()}
    members = {bag["member"] for bag in honest}
    return {
        "member": [
            {"member_id": member, "name": "Owned", "email": "o@example.org"} | stamps for member in members
        ],
        "bag": [*bags, *others],
        "digest": [_digest(bag["uuid"]) for bag in (*bags, *honest)],
        "fixity_check": [_forged_check(bag) for bag in honest],
        "replicate": [*transfers, *(_transfer(bag["uuid"], link.format(bag=bag["uuid"])) for bag in honest)],
        "restore": [_restore(bag["uuid"]) for bag in honest],
    }


def page(rows: list[Row], number: int, *, more: bool) -> bytes:
    """A page of a list, on the wire."""
    body = {"count": number, "next": "x" if more else None, "previous": None, "results": rows}
    return json.dumps(body).encode()


def repeated_keys() -> str:
    """An object of very many keys, whose last is there twice."""
    keys = ", ".join(f'"{number:06x}": 0' for number in range(REPEATED_KEYS))
    return f'{{{keys}, "{REPEATED_KEYS - 1:06x}": 0}}'


def _asked_for(row: Row, query: dict[str, str]) -> bool:
    return query.get("page", "1") == "1" and query.get("bag_type") in (None, row.get("bag_type"))


def _bag_of_a_flood(number: int) -> str:
    stamp = _stamp(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=number))
    return json.dumps(_bag(f"aaaaaaaa-0000-4000-8000-{number:012x}", bag_type="I", stamp=stamp))


def _stamp(at: datetime | None = None) -> str:
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bag(uuid: str, *, stamp: str | None = None, **other: Any) -> Row:
    stamp = stamp or _stamp()
    return {
        "uuid": uuid,
        "local_id": f"hostile {uuid}",
        "member": "11111111-1111-4111-8111-111111111111",
        "size": 1000,
        "first_version_uuid": uuid,
        "version": 1,
        "bag_type": "D",
        "rights": [],
        "interpretive": [],
        "ingest_node": NAME,
        "admin_node": NAME,
        "replicating_nodes": [NAME],
        "created_at": stamp,
        "updated_at": stamp,
    } | other


def _transfer(bag: str, link: str) -> Row:
    return {
        "replication_id": str(uuid4()),
        "bag": bag,
        "from_node": NAME,
        "to_node": "south",
        "fixity_algorithm": "sha256",
        "fixity_nonce": None,
        "fixity_value": None,
        "protocol": "rsync",
        "link": link,
        "store_requested": False,
        "stored": False,
        "cancelled": False,
        "cancel_reason": None,
        "cancel_reason_detail": None,
        "created_at": _stamp(),
        "updated_at": _stamp(),
    }


def _restore(bag: str) -> Row:
    return {
        "restore_id": str(uuid4()),
        "bag": bag,
        "from_node": "south",
        "to_node": NAME,
        "protocol": "rsync",
        "link": None,
        "accepted": False,
        "finished": False,
        "cancelled": False,
        "cancel_reason": None,
        "cancel_reason_detail": None,
        "created_at": _stamp(),
        "updated_at": _stamp(),
    }


def _digest(bag: str) -> Row:
    return {"bag": bag, "algorithm": "sha256", "node": NAME, "value": "0" * 64, "created_at": _stamp()}


def _forged_check(bag: Row) -> Row:
    stamp = _stamp()
    check = {"fixity_check_id": str(uuid4()), "bag": bag["uuid"], "node": "south", "success": False}
    return check | {"fixity_at": stamp, "created_at": stamp}


class _Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lies: Lies

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it)
        pass

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        kind, *key = address.path.strip("/").split("/")[1:]
        if kind == "node":
            return self._answer(json.dumps(self._node()).encode())
        if not key:
            return self._answer(*self.lies.page(kind, dict(parse_qsl(address.query))))
        if len(key) > 1:
            return self._answer(b"", status=404)
        return self._record(next((row for row in self.lies.rows[kind] if row[KEYS[kind]] == key[0]), None))

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return self._record(body | ({"store_requested": True} if body.get("fixity_value") else {}))

    def _record(self, row: Row | None) -> None:
        """Of three answers one is well, one never ends, one puts off for ever."""
        if row is None:
            return self._answer(b"", status=404)
        behaviour = next(self.lies.numbers) % 3 if self.lies.mode == "attack" else 0
        if behaviour == 1:
            self.lies.done["calls that never end"] += 1
            return self._answer(json.dumps(row).encode() + b" " * 1_000_000, drips=1_000_000)
        if behaviour == 2:
            self.lies.done["calls put off for ever"] += 1
            return self._answer(b"", status=503)
        return self._answer(json.dumps(row).encode())

    def _answer(self, body: bytes, drips: int = 0, *, status: int = 200) -> None:
        self.send_response_only(status)
        if self.lies.mode == "attack":
            self.send_header("Date", FAR_AHEAD)
            self.send_header("Retry-After", LATER_THAN_EVER)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            for byte in range(drips):
                self.wfile.write(body[byte : byte + 1])
                time.sleep(0.1)
            self.wfile.write(body[drips:])

    def _node(self) -> Row:
        host, port = self.server.server_address[:2]
        stamps = {"created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z"}
        return {"name": NAME, "namespace": NAME, "api_root": f"http://{host!s}:{port}"} | stamps


@dataclass(frozen=True)
class Assault:
    """All that it does to the node's own server: each in threads of its own, again and again, until the process
    ends."""

    port: int
    token: str
    honest: list[Row]
    done: Counter[str]

    def begin(self) -> None:
        ways = [self.sit_idle, self.tell_lies]
        ways += [self.drip_bodies] * DRIPPED_BODIES + [self.tire_it] * TIRING_CALLERS
        for way in ways:
            threading.Thread(target=self._again_and_again, args=(way,), daemon=True).start()

    def sit_idle(self) -> None:
        """More connections than it may have, half of them with a head that never ends; until most are closed."""
        connections = []
        for number in range(IDLE_CONNECTIONS):
            with suppress(OSError):
                connections.append(one := self._connect())
                one.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: " if number % 2 else b"")
                self.done["idle connections"] += 1
        for _ in range(10):
            time.sleep(1)
            for one in connections[1::2]:
                with suppress(OSError):
                    one.sendall(b"a")
        for one in connections:
            one.close()

    def drip_bodies(self) -> None:
        """A body that is promised and hardly comes; one that comes without end where none is wanted."""
        head = f"Host: x\r\nAuthorization: Token token={self.token}\r\nContent-Type: application/json\r\n"
        with self._connect() as one:
            path = f"/api-v2/replicate/{uuid4()}/"
            one.sendall(f"PUT {path} HTTP/1.1\r\n{head}Content-Length: 999999\r\n\r\n".encode())
            for _ in range(30):
                one.sendall(b" ")
                time.sleep(0.5)
        with self._connect() as one:
            one.sendall(f"PUT /nowhere HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(100):
                one.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                self.done["pieces of bodies without end"] += 1
                time.sleep(0.05)

    def tire_it(self) -> None:
        """JSON made to be slow."""
        self._ask("PUT", f"/api-v2/replicate/{uuid4()}/", repeated_keys().encode())
        self.done["bodies of repeated keys"] += 1

    def tell_lies(self) -> None:
        """ "Stored" without a copy, with the digest that it reads here; writes to what is another's."""
        offers = json.loads(self._ask("GET", f"/api-v2/replicate/?to_node={NAME}&page_size=100&page=1", b""))
        for offer in offers["results"]:
            digest = json.loads(self._ask("GET", f"/api-v2/bag/{offer['bag']}/digest/sha256/", b"") or b"{}")
            path = f"/api-v2/replicate/{offer['replication_id']}/"
            for change in ({"fixity_value": digest.get("value")}, {"store_requested": True}, {"stored": True}):
                offer |= change
                self._ask("PUT", path, json.dumps(offer).encode())
                self.done["lies told"] += 1
        for bag in self.honest:
            self._ask("PUT", f"/api-v2/bag/{bag['uuid']}/", json.dumps(bag | {"admin_node": NAME}).encode())
            self.done["lies told"] += 1
        time.sleep(1)

    def _again_and_again(self, way: Callable[[], None]) -> None:
        while True:
            with suppress(OSError, ValueError, http.client.HTTPException):
                way()
            time.sleep(0.2)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(ADDRESS, 0))

    def _ask(self, method: str, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(ADDRESS, 0))
        try:
            headers = {"Authorization": f"Token token={self.token}", "Content-Type": "application/json"}
            connection.request(method, path, body=body or None, headers=headers)
            return connection.getresponse().read()
        finally:
            connection.close()


def main() -> None:
    os.nice(NICE)
    lies = Lies()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Registry,), {"lies": lies}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up on it does well
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        lies.order(order)
        if order["mode"] == "attack":
            Assault(order["port"], order["token"], order["honest"], lies.done).begin()
        print(json.dumps(lies.done), flush=True)


if __name__ == "__main__":
    main()
