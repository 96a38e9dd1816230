"""What every service gets from `dpn.server`, shown by one that declares two operations and a page."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import structlog
from starlette.types import ASGIApp

from dpn.errors import Misconfigured
from dpn.registry import strict_json
from dpn.server import runner
from dpn.server.app import create_app
from dpn.server.connections import ConnectionLimits
from dpn.server.openapi import describe
from dpn.server.request_log import REFUSALS
from tests.services.server.toy import FLUSH_SECONDS, LIMITS, LONG_PAGE, MAX_BODY_BYTES, SICK, toy_service

ROOT = Path(__file__).resolve().parents[3]
HEAD_SECONDS = 1.0
OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=toy"]
FRIEND = {"X-Friend": "ada"}


@dataclass
class Toy:
    """The process, its two ports, and what it has logged so far."""

    process: subprocess.Popen[str]
    folder: Path
    certificate: Path
    ports: list[int] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))

    def lines(self, method: str, path: str, count: int = 1) -> list[dict[str, Any]]:
        """What was logged of such requests, once there are so many lines."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [line for line in self.log if (line.get("method"), line.get("path")) == (method, path)]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"not {count} lines of {method} {path}: {self.log}")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    folder = tmp_path_factory.mktemp("toy")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*OPENSSL, *names], check=True, capture_output=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.services.server.toy", str(HEAD_SECONDS), str(certificate), str(key)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Toy(process, folder, certificate)
    reader = threading.Thread(target=running.read_log)
    reader.start()
    try:
        deadline = time.monotonic() + 60
        while len(running.ports) < 2:
            assert process.poll() is None, running.log
            assert time.monotonic() < deadline, running.log
            running.ports = [line["port"] for line in running.log if line["event"] == "serving"]
            time.sleep(0.01)
        yield running
    finally:
        process.kill()
        process.wait()
        reader.join()


def connected(toy: Toy, source: str = "127.0.0.1", front: int = 0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", toy.ports[front]), timeout=10, source_address=(source, 0))


def open_files(toy: Toy) -> int:
    return len(list(Path(f"/proc/{toy.process.pid}/fd").iterdir()))


def received(client: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    parts = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_an_operation_is_served_as_it_is_declared(toy: Toy) -> None:
    painted = requests.post(f"{toy.url}/toy/red", json={"coats": 2}, headers=FRIEND, timeout=10)
    assert (painted.status_code, painted.json()) == (201, {"by": "ada", "colour": "red", "coats": 2})
    assert requests.head(f"{toy.url}/toy/blue", timeout=10).status_code == 200
    assert requests.get(f"{toy.url}/page", timeout=10).text == "a page"
    refused = requests.delete(f"{toy.url}/toy/red", timeout=10)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("path", "more", "status", "said"),
    [
        ("/toy/red", {"json": {}}, 401, "Who are you?\n"),
        ("/toy/green", {"json": {}, "headers": FRIEND}, 404, ""),
        ("/toy", {"json": {}, "headers": FRIEND}, 404, ""),
        ("/toy/red", {"data": b"[]", "headers": FRIEND}, 400, '{"errors":["The body must be one JSON object."]}'),
        ("/toy/red", {"json": {"refuse": True}, "headers": FRIEND}, 409, "It is painted already.\n"),
        (
            "/toy/red",
            {"data": b" " * (MAX_BODY_BYTES + 1), "headers": FRIEND},
            413,
            '{"errors":["The body is larger than 1000 bytes."]}',
        ),
    ],
)
def test_what_is_refused_is_refused_in_one_form(
    toy: Toy, path: str, more: dict[str, Any], status: int, said: str
) -> None:
    refused = requests.post(f"{toy.url}{path}", timeout=10, **more)
    assert (refused.status_code, refused.text) == (status, said)
    unread = status in (401, 413) or path == "/toy"
    assert (refused.headers.get("Connection") == "close") == unread, "what nobody reads is not awaited"


def test_the_document_says_what_guard_path_and_body_may_be_refused_for(toy: Toy) -> None:
    document = requests.get(f"{toy.url}/toy/openapi.json", timeout=10).json()
    assert document == json.loads(json.dumps(describe(toy_service())))
    look, paint = (document["paths"]["/{colour}"][method] for method in ("get", "post"))
    assert set(look["responses"]) == {"200", "404", "500", "503"}
    assert look["security"] == []
    assert set(paint["responses"]) == {"201", "400", "401", "404", "408", "409", "413", "500", "503"}
    assert paint["requestBody"]["content"]["application/json"]["schema"] == {"type": "object"}
    assert "security" not in paint
    assert list(document["paths"]) == ["/{colour}", "/failures/all", "/openapi.json"]


def test_each_request_leaves_one_line(toy: Toy) -> None:
    requests.post(f"{toy.url}/toy/blue", json={}, headers=FRIEND, timeout=10)
    [line] = toy.lines("POST", "/toy/blue")
    assert (line["event"], line["status"], line["caller"]) == ("request", 201, "ada")
    assert line["client"] == "127.0.0.1"
    assert 0 <= line["seconds"] < 10
    requests.get(f"{toy.url}/{'x' * 5000}", timeout=10)
    assert toy.lines("GET", "/" + "x" * 199)[0]["status"] == 404, "no line is as long as a stranger wants"


def test_strangers_do_not_fill_the_log() -> None:
    """What they are refused has its line so often; a member's requests, and good ones, always have theirs."""

    async def asked(app: ASGIApp, path: str) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(_: Any) -> None:
            pass

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "client": None}
        await app(scope, receive, send)

    async def all_asked() -> None:
        app = create_app(toy_service())
        for path in ("/nowhere", "/toy/red"):
            for _ in range(REFUSALS + 5):
                await asked(app, path)

    with structlog.testing.capture_logs() as lines:
        asyncio.run(all_asked())
    assert Counter(line["path"] for line in lines) == {"/nowhere": REFUSALS, "/toy/red": REFUSALS + 5}


def test_a_failure_that_nobody_expected_is_told_to_the_log_and_not_to_the_client(toy: Toy) -> None:
    failed = requests.get(f"{toy.url}/toy/failures/all", timeout=10)
    assert failed.status_code == 500
    assert failed.json() == {"errors": ["The server failed: its operators find the cause in its log."]}
    cause, line = toy.lines("GET", "/toy/failures/all", 2)
    assert "the secret is out" in cause["exception"]
    assert (line["event"], line["status"]) == ("request", 500)


def test_health_says_what_is_not_well(toy: Toy) -> None:
    def health() -> tuple[int, Any]:
        answer = requests.get(f"{toy.url}/healthz", timeout=10)
        return answer.status_code, answer.json()

    assert health() == (200, {"status": "ok"})
    (toy.folder / SICK).touch()
    assert health() == (503, {"status": "the toy is sick"})
    (toy.folder / SICK).unlink()
    assert health() == (200, {"status": "ok"})


def test_others_are_answered_while_a_body_is_made_sense_of(monkeypatch: pytest.MonkeyPatch) -> None:
    app, others_were, parse = create_app(toy_service()), threading.Event(), strict_json.parse
    headers = [(name.lower().encode(), value.encode()) for name, value in FRIEND.items()]

    def slowly(text: bytes) -> Any:
        assert others_were.wait(10), "nobody else was answered"
        return parse(text)

    async def status_of(method: str, path: str, body: bytes) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        asked = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        await app(asked, receive, send)
        return int(sent[0]["status"])

    async def both() -> tuple[int, int]:
        slow = asyncio.create_task(status_of("POST", "/toy/red", b"{}"))
        await asyncio.sleep(0)
        quick = await status_of("GET", "/healthz", b"")
        others_were.set()
        return await slow, quick

    monkeypatch.setattr(strict_json, "parse", slowly)
    assert asyncio.run(both()) == (201, 200)


@pytest.mark.parametrize("begun", [b"", b"GET /toy/red HTTP/1.1\r\nHost: x\r\n"])
def test_a_client_that_does_not_say_what_it_wants_is_hung_up_on(toy: Toy, begun: bytes) -> None:
    with connected(toy) as slow:
        started = time.monotonic()
        slow.sendall(begun)
        assert received(slow) == b""
        assert time.monotonic() - started > HEAD_SECONDS / 2


def test_a_client_that_drips_its_next_request_is_hung_up_on_too(toy: Toy) -> None:
    with connected(toy) as slow:
        slow.sendall(b"GET /toy/red HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n{}"):
            answer += slow.recv(65_536)
        dripping = threading.Event()

        def drip() -> None:
            slow.sendall(b"GET /toy/red HTTP/1.1\r\n")
            while not dripping.wait(HEAD_SECONDS / 10):
                try:
                    slow.sendall(b"X: y\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert received(slow) == b""
        except ConnectionResetError:
            pass
        finally:
            dripping.set()
            thread.join()


def test_a_client_that_is_quick_about_its_head_may_think_about_its_body(toy: Toy) -> None:
    with connected(toy) as client:
        client.sendall(b"POST /toy/red HTTP/1.1\r\nHost: x\r\nX-Friend: eve\r\nContent-Length: 2\r\n\r\n{")
        assert not threading.Event().wait(HEAD_SECONDS * 1.5)
        client.sendall(b"}")
        assert client.recv(65_536).startswith(b"HTTP/1.1 201")


def test_a_head_without_end_is_refused(toy: Toy) -> None:
    with connected(toy) as client:
        client.sendall(b"GET /toy/red HTTP/1.1\r\nX: " + b"y" * 70_000)
        try:
            answer = received(client)
        except ConnectionResetError:
            answer = b""
        assert answer[:12] in (b"HTTP/1.1 400", b"")
    assert requests.get(f"{toy.url}/toy/red", timeout=10).status_code == 200


def test_tls_is_spoken_where_there_is_a_certificate(toy: Toy) -> None:
    url = f"https://127.0.0.1:{toy.ports[1]}/toy/red"
    assert requests.get(url, verify=str(toy.certificate), timeout=10).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=10)
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url.replace("https", "http"), timeout=10)


def test_a_proxy_is_believed_about_who_asks_and_nobody_else_is(toy: Toy) -> None:
    for source, path in (("127.0.0.1", "/by-proxy"), ("127.0.0.2", "/by-itself")):
        with connected(toy, source) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\nX-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n\r\n".encode())
            received(client)
    assert toy.lines("GET", "/by-proxy")[0]["client"] == "192.0.2.7"
    assert toy.lines("GET", "/by-itself")[0]["client"] == "127.0.0.2"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("POST /nowhere", 404), ("PUT /toy/red", 405), ("GET /toy/red", 200), ("POST /toy/red", 401)],
)
@pytest.mark.parametrize("length", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_body_that_nobody_wants_is_not_waited_for(toy: Toy, request_line: str, status: int, length: str) -> None:
    with connected(toy) as client:
        client.sendall(f"{request_line} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        answer = received(client)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize("front", [0, 1])
def test_idle_connections_hold_neither_the_server_nor_more_files_nor_the_log(toy: Toy, front: int) -> None:
    before, logged = open_files(toy), len(toy.log)
    idle = [connected(toy, front=front) for _ in range(3 * LIMITS.most)]
    try:
        assert requests.get(f"{toy.url}/toy/red", timeout=10).status_code == 200
        assert open_files(toy) <= before + LIMITS.most + 1
        told = [line for line in toy.log[logged:] if line["event"] == "an idle connection was ended for a new one"]
        assert len(told) <= runner.WARNINGS
    finally:
        for one in idle:
            one.close()


def test_one_address_ends_its_own_idle_connections_and_no_others(toy: Toy) -> None:
    with connected(toy, "127.0.0.3") as mine:
        theirs = [connected(toy, "127.0.0.4") for _ in range(2 * LIMITS.most_per_address)]
        try:
            assert received(theirs[0]) == b""
            theirs[-1].sendall(b"GET /toy/red HTTP/1.1\r\nHost: x\r\n\r\n")
            assert theirs[-1].recv(65_536).startswith(b"HTTP/1.1 200")
            mine.sendall(b"GET /toy/red HTTP/1.1\r\nHost: x\r\n\r\n")
            assert mine.recv(65_536).startswith(b"HTTP/1.1 200")
        finally:
            for one in theirs:
                one.close()


def test_a_connection_that_waits_for_its_answer_is_not_ended_for_a_new_one(toy: Toy) -> None:
    busy = [connected(toy, "127.0.0.5") for _ in range(LIMITS.most_per_address)]
    for one in busy:
        one.sendall(b"POST /toy/red HTTP/1.1\r\nHost: x\r\nX-Friend: eve\r\nContent-Length: 2\r\n\r\n{")
    while not requests.get(f"{toy.url}/toy/red", timeout=10).ok:  # it has got what was sent before this
        pass
    with connected(toy, "127.0.0.5") as one_more:
        one_more.sendall(b"GET /toy/red HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert received(one_more) == b""
    for one in busy:
        one.sendall(b"}")
        assert one.recv(65_536).startswith(b"HTTP/1.1 201")
        one.close()


def test_who_never_takes_its_answer_is_hung_up_on(toy: Toy) -> None:
    with connected(toy) as client:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        threading.Event().wait(2 * FLUSH_SECONDS)
        try:
            taken = len(received(client))
        except ConnectionResetError:
            taken = 0
    assert taken < len(LONG_PAGE)


def test_more_connections_than_files_stop_the_start() -> None:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with pytest.raises(Misconfigured, match="LimitNOFILE"):
        runner.run(limits=ConnectionLimits(allowed, 1))


def test_sigterm_answers_what_was_asked_and_ends_all_fronts(toy: Toy) -> None:
    """The last one: it ends the toy."""
    with connected(toy) as client:
        client.sendall(b"POST /toy/red HTTP/1.1\r\nHost: x\r\nX-Friend: eve\r\nContent-Length: 2\r\n\r\n{")
        while not requests.get(f"{toy.url}/toy/red", timeout=10).ok:  # it has got what was sent before this
            pass
        toy.process.send_signal(signal.SIGTERM)
        client.sendall(b"}")
        assert received(client).startswith(b"HTTP/1.1 201")
    assert toy.process.wait(20) == 0
    for port in toy.ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
