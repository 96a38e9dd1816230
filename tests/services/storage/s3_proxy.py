"""A small HTTP proxy in front of an S3 server that counts what passes and misbehaves as it is told."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}
BUFFER_BYTES = 64 * 1024
NEVER_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """One request as the proxy saw it begin."""

    method: str
    key: str
    query: dict[str, list[str]]

    @property
    def part(self) -> int | None:
        """The part number, if this sends a part."""
        return int(self.query["partNumber"][0]) if self.method == "PUT" and "partNumber" in self.query else None

    @property
    def completes(self) -> bool:
        return self.method == "POST" and "uploadId" in self.query

    @property
    def restores(self) -> bool:
        """Whether this asks for the restore of an archived object."""
        return self.method == "POST" and "restore" in self.query

    @property
    def puts_whole(self) -> bool:
        return self.method == "PUT" and not self.query


@dataclass
class Fault:
    """What happens to requests that `when` picks, the first `times` of them."""

    when: Callable[[Request], bool]
    times: int = 1_000_000
    answer: tuple[int, str, dict[str, str]] | None = None
    """Status, S3 error code and headers to answer with, instead of passing the request on."""
    drop_after_bytes: int | None = None
    """Resets the connection once that much of the body has come."""
    hang: threading.Event | None = None
    """Says nothing until it is set, then hangs up; with `lose_answer`, once the store has answered."""
    swap_byte: bool = False
    """Passes the body on with its first byte changed."""
    lose_answer: bool = False
    """Passes the request on, then resets the connection instead of answering."""
    seconds_a_buffer: float = 0.0
    """How slowly the body is taken: this long for each 64 KiB."""
    break_answer_after_bytes: int | None = None
    """Resets the connection once that much of the answer has gone."""
    swap_answer_byte: bool = False
    """Changes the first byte of the answer's body."""
    edit_headers: Callable[[list[tuple[str, str]]], list[tuple[str, str]]] | None = None
    """Changes the headers of the answer."""


@dataclass
class Proxy:
    """What passed, and what shall go wrong."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """Of the requests for a restore, in order."""
    sent_bytes: int = 0
    """Of the bodies of PUT requests that reached the store in full."""
    parts_stored: list[int] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    """Keys whose upload the store has completed, whether or not anybody heard of it."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds), "the proxy never saw what was waited for"

    def count(self, condition: Callable[[Request], bool]) -> int:
        return sum(1 for request in self.seen if condition(request))

    def forget(self) -> None:
        """Starts counting anew, with no faults."""
        with self.changed:
            self.faults.clear()
            self.seen.clear()
            self.parts_stored.clear()
            self.completed.clear()
            self.bodies.clear()
            self.sent_bytes = 0

    def fault_for(self, request: Request) -> Fault | None:
        with self.changed:
            self.seen.append(request)
            self.changed.notify_all()
            for fault in self.faults:
                if fault.times > 0 and fault.when(request):
                    fault.times -= 1
                    return fault
        return None

    def passed(self, request: Request, body_bytes: int) -> None:
        with self.changed:
            if request.method == "PUT":
                self.sent_bytes += body_bytes
            if request.part:
                self.parts_stored.append(request.part)
            if request.completes:
                self.completed.append(request.key)
            self.changed.notify_all()


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy for the server at `upstream`, an `http://host:port`."""
    target = urlsplit(upstream)

    class Handler(_Handler):
        host, port = target.hostname or "", target.port or 80

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Handler.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _HungUp(Exception):
    """The connection was broken on purpose."""


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # a header that waits for its body costs 40 ms
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    host: str
    port: int

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        request = Request(self.command, parts.path, parse_qs(parts.query, keep_blank_values=True))
        fault = self.proxy.fault_for(request) or Fault(lambda _: False)
        try:
            if fault.answer:
                self._refuse(request, *fault.answer)
            else:
                self._pass_on(request, fault)
        except (_HungUp, OSError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

    def _pass_on(self, request: Request, fault: Fault) -> None:
        if fault.hang and not fault.lose_answer:
            fault.hang.wait(NEVER_SECONDS)
            self._hang_up()
        upstream = http.client.HTTPConnection(self.host, self.port, timeout=NEVER_SECONDS)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders()
            passed = 0
            for data in self._body(fault):
                # A server that refuses early hangs up on the body; its answer is there all the same.
                with suppress(BrokenPipeError, ConnectionResetError):
                    upstream.send(data)
                passed += len(data)
            answer = upstream.getresponse()
            content = answer.read()
            if answer.status < 300:
                self.proxy.passed(request, passed)
            if fault.lose_answer:
                if fault.hang:
                    fault.hang.wait(NEVER_SECONDS)
                self._hang_up()
            self._relay(answer, content, fault)
        finally:
            upstream.close()

    def _body(self, fault: Fault) -> Iterator[bytes]:
        left, come = int(self.headers.get("Content-Length", 0)), 0
        while left:
            data = self.rfile.read(min(BUFFER_BYTES, left))
            if not data:
                raise _HungUp
            left -= len(data)
            if fault.swap_byte and come == 0:
                data = bytes([data[0] ^ 1]) + data[1:]
            come += len(data)
            yield data
            time.sleep(fault.seconds_a_buffer)
            if fault.drop_after_bytes is not None and come >= fault.drop_after_bytes:
                self._hang_up()

    def _relay(self, answer: http.client.HTTPResponse, content: bytes, fault: Fault) -> None:
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        if fault.edit_headers:
            headers = fault.edit_headers(headers)
        if fault.swap_answer_byte and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response_only(answer.status, answer.reason)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault.break_answer_after_bytes is not None:
            self.wfile.write(content[: fault.break_answer_after_bytes])
            self._hang_up()
        self.wfile.write(content)

    def _refuse(self, request: Request, status: int, code: str, headers: dict[str, str]) -> None:
        left = int(self.headers.get("Content-Length", 0))
        if request.restores:
            self.proxy.bodies.append(self.rfile.read(left))
            left = 0
        while left:
            left -= len(self.rfile.read(min(BUFFER_BYTES, left)) or b"x" * left)
        content = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        if request.restores and not code:
            content = b""
        self.send_response_only(status)
        for name, value in {
            **headers,
            "Content-Type": "application/xml",
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        # A reset, not an orderly end: what a dying host or a firewall does.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise _HungUp

    def log_message(self, *arguments: Any) -> None:
        """Silent: a test says what it expects."""
