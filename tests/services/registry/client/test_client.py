"""The client against peers that are well, and against every way they can be otherwise."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from dpn.clock import ManualClock
from dpn.errors import Misconfigured, PeerRefused, PeerUnavailable
from dpn.registry.catalogue import TRANSFERS
from dpn.registry.client import RegistryClient, RejectedRecord
from tests.fixtures.nasty.peer import Nasty, NastyPeer
from tests.fixtures.records import DIGEST, OTHER_DIGEST, a_bag, a_digest, a_transfer, uuid
from tests.fixtures.registry import RunningRegistry, peer_settings, running_registry
from tests.services.registry.conftest import PEERS, post, put_in

TRANSFER = uuid(0x1001)
QUICK = {"connect_timeout_seconds": 1.0, "read_timeout_seconds": 0.5, "total_timeout_seconds": 1.0}
"""Time limits that a test can wait for."""


def client_of(peer: NastyPeer, registry: RunningRegistry, **more: Any) -> RegistryClient:
    limits = more.pop("limits", {})
    return RegistryClient("north", peer_settings(peer.url, token=registry.token("south"), **more), **limits)


@pytest.fixture(scope="module")
def north(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry with a bag, its digest and a transfer to south, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("north")
    with running_registry(
        "north", database_url=f"sqlite:///{folder / 'north.db'}", folder=folder, peers=PEERS
    ) as running:
        post(running, a_bag(), a_digest(), a_transfer())
        yield running


@pytest.fixture
def nasty(north: RunningRegistry) -> Iterator[NastyPeer]:
    """A peer in front of `north`."""
    with NastyPeer(north.url) as peer:
        yield peer


@pytest.fixture
def client(nasty: NastyPeer, north: RunningRegistry) -> Iterator[RegistryClient]:
    """Ours as south, speaking to north through the nasty peer."""
    client = client_of(nasty, north)
    yield client
    client.close()


def test_it_reads_every_kind_of_record(client: RegistryClient) -> None:
    assert client.get_bag(uuid(1)) == a_bag()
    assert client.get_digest(uuid(1), "sha256") == a_digest()
    assert client.get_transfer(TRANSFER.upper()) == a_transfer()
    assert client.get_node("North").namespace == "north"


def test_a_digest_that_is_not_there_is_none_and_other_records_are_refused(client: RegistryClient) -> None:
    assert client.get_digest(uuid(9), "sha256") is None
    for ask in (lambda: client.get_bag(uuid(9)), lambda: client.get_transfer(uuid(9))):
        with pytest.raises(PeerRefused) as refusal:
            ask()
        assert (refusal.value.peer, refusal.value.status) == ("north", 404)


def test_the_verdict_comes_with_the_answer(with_a_transfer: RunningRegistry) -> None:
    client = with_a_transfer.client("south")
    assert client.put_transfer(a_transfer(fixity_value=OTHER_DIGEST)).cancel_reason == "fixity_reject"
    with pytest.raises(PeerRefused) as refusal:
        client.put_transfer(a_transfer(link="elsewhere"))
    assert (refusal.value.status, refusal.value.message) == (400, "Link is marked read-only but was changed.")


def test_only_ids_go_into_addresses(client: RegistryClient, nasty: NastyPeer) -> None:
    for ask in (
        client.get_bag,
        client.get_transfer,
        client.get_node,
        client.get_member,
        client.get_restore,
        lambda key: client.get_digest(key, "sha256"),
        lambda key: client.get_digest(uuid(1), key),
    ):
        with pytest.raises(ValueError, match="not a"):
            ask("../version")
    assert nasty.seen == []


UNAVAILABLE = [
    Nasty.ERROR_500,
    Nasty.HTML,
    Nasty.HTML_404,
    Nasty.TRUNCATED,
    Nasty.BROKEN_JSON,
    Nasty.HANGS,
    Nasty.RESET,
    Nasty.SLOW_DRIP,
    Nasty.SLOW_HEADERS,
    Nasty.ENDLESS_BODY,
    Nasty.ENDLESS_HEADERS,
    Nasty.HUGE_LENGTH,
    Nasty.GZIP_BOMB,
    Nasty.REDIRECT_ELSEWHERE,
    Nasty.REDIRECT_LOOP,
    Nasty.WRONG_RECORD,
    Nasty.DUPLICATE_KEYS,
    Nasty.DEEP,
    Nasty.VERY_DEEP,
    Nasty.NOT_A_NUMBER,
    Nasty.WRONG_TYPES,
]


KEEP_US_WAITING = {Nasty.HANGS, Nasty.SLOW_DRIP, Nasty.SLOW_HEADERS}


@pytest.mark.parametrize("behaviour", UNAVAILABLE)
@pytest.mark.parametrize("call", ["get", "put"])
def test_whatever_the_peer_does_it_is_unavailable_and_soon(
    north: RunningRegistry, nasty: NastyPeer, behaviour: Nasty, call: str
) -> None:
    client = client_of(nasty, north, **(QUICK if behaviour in KEEP_US_WAITING else {}))
    nasty.behave(behaviour)
    started = time.monotonic()
    with pytest.raises(PeerUnavailable) as failure:
        client.get_transfer(TRANSFER) if call == "get" else client.put_transfer(a_transfer())
    assert failure.value.service == "peer:north"
    assert time.monotonic() - started < 10
    if call == "put" or behaviour is not Nasty.RESET:
        assert len(nasty.seen) <= (6 if behaviour is Nasty.REDIRECT_LOOP else 1), "it was asked again"
    nasty.behave(Nasty.WELL)
    patient = client_of(nasty, north) if behaviour in KEEP_US_WAITING else client
    assert patient.get_transfer(TRANSFER).replication_id == TRANSFER


@pytest.mark.parametrize("behaviour", [Nasty.SLOW_DRIP, Nasty.SLOW_HEADERS])
def test_a_peer_that_drips_gets_the_time_of_one_call_not_of_each_read(
    nasty: NastyPeer, north: RunningRegistry, behaviour: Nasty
) -> None:
    nasty.behave(behaviour)
    client = client_of(nasty, north, read_timeout_seconds=30.0, total_timeout_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(PeerUnavailable, match=r"time|seconds"):
        client.get_transfer(TRANSFER)
    assert 0.4 < time.monotonic() - started < 10


def test_an_answer_is_read_no_further_than_allowed(nasty: NastyPeer, north: RunningRegistry) -> None:
    client = client_of(nasty, north, limits={"max_answer_bytes": 100_000})
    for behaviour in (Nasty.ENDLESS_BODY, Nasty.ENDLESS_HEADERS):
        nasty.behave(behaviour)
        with pytest.raises(PeerUnavailable, match="more than 100000 bytes"):
            client.get_transfer(TRANSFER)


def test_an_encoding_that_was_not_asked_for_is_not_decoded(client: RegistryClient, nasty: NastyPeer) -> None:
    nasty.behave(Nasty.GZIP_BOMB)
    with pytest.raises(PeerUnavailable, match="encoding"):
        client.get_transfer(TRANSFER)
    assert nasty.seen[0].headers["Accept-Encoding"] == "identity"


def test_a_token_goes_to_its_own_server_only(nasty: NastyPeer, north: RunningRegistry) -> None:
    with NastyPeer() as elsewhere:
        nasty.elsewhere = elsewhere.url
        nasty.behave(Nasty.REDIRECT_ELSEWHERE)
        client = client_of(nasty, north)
        for ask in (lambda: client.get_transfer(TRANSFER), lambda: client.put_transfer(a_transfer())):
            with pytest.raises(PeerUnavailable, match=r"redirects to .*change peers\.north\.api_root|HTTP 302"):
                ask()
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    "where", ["http://[", "https://127.0.0.1:99999", "file:///etc/passwd#", "//other.example.org", "gopher://x"]
)
def test_a_redirect_to_what_cannot_be_called_is_not_followed(
    client: RegistryClient, nasty: NastyPeer, where: str
) -> None:
    nasty.elsewhere = where
    nasty.behave(Nasty.REDIRECT_ELSEWHERE)
    with pytest.raises(PeerUnavailable, match="redirects to"):
        client.get_transfer(TRANSFER)


def test_a_redirect_does_not_exchange_our_token_for_a_password(client: RegistryClient, nasty: NastyPeer) -> None:
    nasty.elsewhere = nasty.url.replace("://", "://user:password@")
    nasty.behave(Nasty.REDIRECT_ELSEWHERE, times=1)
    with pytest.raises(PeerUnavailable, match="redirects to"):
        client.get_transfer(TRANSFER)


def test_a_redirect_on_the_same_server_is_followed_with_the_token(
    client: RegistryClient, nasty: NastyPeer
) -> None:
    nasty.behave(Nasty.REDIRECT_ONCE)
    assert client.get_transfer(TRANSFER) == a_transfer()
    assert len({seen.headers["Authorization"] for seen in nasty.seen}) == 1
    assert len(nasty.seen) == 2


def test_a_lost_answer_is_told_and_the_change_is_found_on_asking(with_a_transfer: RunningRegistry) -> None:
    with NastyPeer(with_a_transfer.url) as nasty:
        client = client_of(nasty, with_a_transfer)
        nasty.behave(Nasty.LOST_REPLY, method="PUT")
        with pytest.raises(PeerUnavailable):
            client.put_transfer(a_transfer(fixity_value=DIGEST))
        assert [seen.method for seen in nasty.seen] == ["PUT"], "a PUT is never sent twice by itself"
        assert client.get_transfer(TRANSFER).store_requested


def test_a_get_is_tried_again_once_when_no_answer_came(client: RegistryClient, nasty: NastyPeer) -> None:
    nasty.behave(Nasty.RESET, times=1)
    assert client.get_transfer(TRANSFER) == a_transfer()
    assert len(nasty.seen) == 2


@pytest.mark.parametrize(
    ("behaviour", "seconds"), [(Nasty.BUSY, 120.0), (Nasty.TOO_MANY, 7.0), (Nasty.ERROR_500, None)]
)
def test_a_busy_peer_says_when_to_come_again(
    client: RegistryClient, nasty: NastyPeer, behaviour: Nasty, seconds: float | None
) -> None:
    nasty.behave(behaviour)
    with pytest.raises(PeerUnavailable) as failure:
        client.get_transfer(TRANSFER)
    assert failure.value.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Tue, 02 Jan 2024 03:05:05 GMT", 60.0),
        ("Tue, 02 Jan 2001 03:05:05 GMT", 0.0),
        ("-5", 0.0),
        ("9e99", 86_400.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 99999999999999999999:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("", None),
    ],
)
def test_retry_after_is_believed_within_reason(header: str, seconds: float | None) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.send_header("Retry-After", header)
            self.send_header("Date", header)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Busy) as url:
        client = RegistryClient(
            "north", peer_settings(url), clock=ManualClock(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC))
        )
        with pytest.raises(PeerUnavailable) as failure:
            client.get_bag(uuid(1))
        assert failure.value.retry_after_seconds == seconds


def test_a_refused_token_is_a_matter_for_the_operator(client: RegistryClient, nasty: NastyPeer) -> None:
    nasty.behave(Nasty.UNAUTHORIZED)
    with pytest.raises(Misconfigured, match=r"peers\.north"):
        client.get_transfer(TRANSFER)


def test_what_a_peer_says_is_shown_without_its_control_characters(
    client: RegistryClient, nasty: NastyPeer
) -> None:
    nasty.behave(Nasty.FORBIDDEN)
    with pytest.raises(PeerRefused) as refusal:
        client.get_transfer(TRANSFER)
    assert refusal.value.message == "not you [31m"


RAW_ANSWERS = [
    b"",
    b"\x00\x01\x02\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 Nothing\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n{}",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\xfe; Domain=.com\r\n\r\n{}",
    b"HTTP/1.1 302 Found\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe://[\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
]


@pytest.mark.parametrize("answer", RAW_ANSWERS, ids=[repr(answer[:60]) for answer in RAW_ANSWERS])
def test_whatever_bytes_come_back_the_failure_has_a_name(answer: bytes) -> None:
    class Raw(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Raw) as url:
        client = RegistryClient("north", peer_settings(url, **QUICK))
        with pytest.raises(PeerUnavailable):
            client.get_bag(uuid(1))


def test_a_peer_that_is_not_there_is_unavailable() -> None:
    client = RegistryClient("north", peer_settings("http://127.0.0.1:9", **QUICK))
    with pytest.raises(PeerUnavailable, match="refused"):
        client.get_bag(uuid(1))
    client = RegistryClient("north", peer_settings("https://no-such-host.invalid", **QUICK))
    with pytest.raises(PeerUnavailable, match="reached"):
        client.get_bag(uuid(1))


def test_a_token_may_be_replaced_while_we_run(nasty: NastyPeer, north: RunningRegistry, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    file.chmod(0o600)
    client = RegistryClient("north", peer_settings(nasty.url, token_file=str(file)))
    with pytest.raises(Misconfigured):
        client.get_bag(uuid(1))
    file.write_text(north.token("south") + "\n")
    assert client.get_bag(uuid(1)) == a_bag()
    for unusable in ("", "two\nlines", "two words", "ключ"):
        file.write_text(unusable)
        with pytest.raises(Misconfigured, match="token"):
            client.get_bag(uuid(1))
    file.unlink()
    with pytest.raises(Misconfigured, match="token"):
        client.get_bag(uuid(1))


def test_nothing_of_the_environment_is_used(
    client: RegistryClient, nasty: NastyPeer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert client.get_bag(uuid(1)) == a_bag()
    assert nasty.seen[0].headers["Authorization"].startswith("Token token=")


@pytest.fixture(scope="module")
def many(north: RunningRegistry) -> RunningRegistry:
    """North has 250 transfers to south and 30 to west."""
    records = [a_transfer(number) for number in range(2, 251)]
    records += [a_transfer(number, to_node="west") for number in range(300, 330)]
    put_in(north, TRANSFERS, records)
    return north


class TestLists:
    def test_a_list_is_read_to_its_end_with_our_own_page_numbers(
        self, many: RunningRegistry, client: RegistryClient, nasty: NastyPeer
    ) -> None:
        pages = list(client.list_transfers(to_node="south"))
        assert [len(page) for page in pages] == [100, 100, 50]
        keys = [record.key for page in pages for record in page if not isinstance(record, RejectedRecord)]
        assert len(set(keys)) == 250
        for number, seen in enumerate(nasty.seen, start=1):
            for part in ("page_size=100", f"page={number}", "order_by=updated_at", "to_node=south"):
                assert part in seen.path

    def test_all_filters_are_sent(self, client: RegistryClient, nasty: NastyPeer) -> None:
        after = datetime(2022, 1, 1, tzinfo=UTC)
        list(client.list_transfers(after=after, before=after, stored=False, cancelled=True, bag=uuid(1)))
        list(client.list_bags(admin_node="north", bag_type="D", ingest_node="north"))
        [[digest]] = client.list_digests(bag=uuid(1))
        assert digest == a_digest()
        transfers, bags, digests = (seen.path for seen in nasty.seen)
        for part in (
            "after=2022-01-01T00%3A00%3A00Z",
            "before=2022",
            "stored=false",
            "cancelled=true",
            f"bag={uuid(1)}",
        ):
            assert part in transfers
        for part in ("admin_node=north", "bag_type=D", "ingest_node=north"):
            assert part in bags
        assert "order_by=created_at" in digests

    def test_rows_that_were_not_asked_for_are_set_aside(
        self, many: RunningRegistry, client: RegistryClient, nasty: NastyPeer
    ) -> None:
        nasty.behave(Nasty.UNFILTERED)
        rows = [
            row
            for page in client.list_transfers(to_node="west", after=datetime(2022, 1, 1, tzinfo=UTC))
            for row in page
        ]
        rejected = [row for row in rows if isinstance(row, RejectedRecord)]
        assert (len(rows) - len(rejected), len(rejected)) == (30, 250)
        assert {row.reason for row in rejected} == {"not asked for: its to_node is 'south', not 'west'"}
        none_at_all = [row for page in client.list_transfers(bag=uuid(7)) for row in page]
        assert all(isinstance(row, RejectedRecord) for row in none_at_all)

    @pytest.mark.parametrize(
        ("behaviour", "reason"),
        [
            (Nasty.DUPLICATE_KEYS, "'updated_at' stands twice"),
            (Nasty.DEEP, "nested more than"),
            (Nasty.NOT_A_NUMBER, "a number that JSON does not have"),
            (Nasty.WRONG_TYPES, "replication_id"),
        ],
    )
    def test_one_bad_row_is_set_aside_and_the_page_goes_on(
        self, many: RunningRegistry, client: RegistryClient, nasty: NastyPeer, behaviour: Nasty, reason: str
    ) -> None:
        nasty.behave(behaviour, times=1)
        rows = [row for page in client.list_transfers(to_node="south") for row in page]
        [rejected] = [row for row in rows if isinstance(row, RejectedRecord)]
        assert len(rows) == 250
        assert (rejected.peer, rejected.kind) == ("north", "replicate")
        assert reason in rejected.reason
        assert 0 < len(rejected.raw) <= 500
        assert rejected.raw.isascii()

    @pytest.mark.parametrize(
        "behaviour",
        [
            Nasty.NOT_A_LIST,
            Nasty.SAME_PAGE,
            Nasty.NEVER_LAST,
            Nasty.BROKEN_JSON,
            Nasty.HTML,
            Nasty.ERROR_500,
            Nasty.VERY_DEEP,
        ],
    )
    def test_a_list_that_is_none_ends(
        self, many: RunningRegistry, client: RegistryClient, nasty: NastyPeer, behaviour: Nasty
    ) -> None:
        nasty.behave(behaviour)
        with pytest.raises(PeerUnavailable):
            list(client.list_transfers(to_node="south"))
        assert len(nasty.seen) < 50


def test_many_threads_share_a_client(north: RunningRegistry) -> None:
    client = north.client("south")
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(10):
                assert client.get_bag(uuid(1)) == a_bag()
        except BaseException as error:  # noqa: BLE001  (told to the test)
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=north"]


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[Path, Path]:
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subprocess.run(
            [*OPENSSL, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
        return key, certificate

    @pytest.fixture
    def tls_url(self, certificate: tuple[Path, Path]) -> Iterator[str]:
        class OneBag(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps(a_bag().to_wire()).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        with serving(OneBag, certificate) as url:
            yield url

    def test_a_peer_is_trusted_by_the_ca_file_of_our_settings(
        self, tls_url: str, certificate: tuple[Path, Path]
    ) -> None:
        client = RegistryClient("north", peer_settings(tls_url, ca_file=str(certificate[1])))
        assert [client.get_bag(uuid(1)) for _ in range(3)] == [a_bag()] * 3
        client.close()

    def test_and_by_nothing_else(
        self, tls_url: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(certificate[1]))
        with pytest.raises(PeerUnavailable, match="certificate"):
            RegistryClient("north", peer_settings(tls_url)).get_bag(uuid(1))

    def test_a_ca_file_that_cannot_be_used_is_a_matter_for_the_operator(
        self, tls_url: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "ca.pem"
        file.write_text("")
        client = RegistryClient("north", peer_settings(tls_url, ca_file=str(file)))
        file.unlink()
        with pytest.raises(Misconfigured, match=r"peers\.north\.ca_file"):
            client.get_bag(uuid(1))


class serving:  # noqa: N801  (reads as what it does)
    """A server with this handler, in a thread, on a loopback port; over TLS with a certificate."""

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], certificate: tuple[Path, Path] | None = None
    ) -> None:
        self._server = HTTPServer(("127.0.0.1", 0), handler)
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate[1], certificate[0])
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
