"""Whatever a server answers: the call ends soon, takes little memory, and says who must act."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.errors import AccessRefused, Interrupted, Misconfigured, StoreMismatch, StoreUnavailable, TransientError
from dpn.s3.connection import Connection
from dpn.s3.pages import list_objects
from tests.fixtures.nasty.store import (
    Asked,
    Behaviour,
    NastyStore,
    Send,
    answering,
    dripping,
    page,
    pouring,
    refusing,
)
from tests.services.s3.conftest import connect

ROOT = Path(__file__).resolve().parents[3]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OBJECT = {"ETag": '"e"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
CONTENT = b"0123456789"
HEAD = OK + b'ETag: "e"\r\nContent-Length: 10\r\n'
TE = b"Transfer-Encoding: chunked\r\n\r\n"
SOON_SECONDS = 20.0
"""Far less than any of these would take; a busy machine needs some."""

ENDLESS: dict[str, Behaviour] = {
    "headers": pouring(OK, b"X: y\r\n"),
    "a header": pouring(OK + b"X: ", b"y"),
    "a body": pouring(OK + b"\r\n", b"<a>"),
    "chunks": pouring(CHUNKED, b"4\r\n<a/>\r\n"),
    "a chunk's length": pouring(CHUNKED + b"5;", b"x"),
    "leave to go on": pouring(b"", CONTINUE),
    "headers, now and then": dripping(OK, b"X"),
    "a body, now and then": dripping(OK + b"\r\n<a>", b"x"),
    "a trailer, now and then": dripping(CHUNKED + b"1\r\n<\r\n0\r\n", b"X: y\r\n"),
    "nothing": dripping(b"", b""),
}
BOMBS: dict[str, str] = {
    "elements": f"<ListBucketResult>{'<a/>' * 900_000}</ListBucketResult>",
    "attributes": "<ListBucketResult " + " ".join(f'a{number}=""' for number in range(300_000)) + "/>",
    "entities": '<!DOCTYPE x [<!ENTITY a "' + "A" * 100_000 + '">]><Listing>' + "&a;" * 10_000 + "</Listing>",
    "lines": f"<ListBucketResult>{chr(10) * 4_000_000}</ListBucketResult>",
    "depth": "<a>" * 49_000 + "</a>" * 49_000,
}
NONSENSE: dict[str, Behaviour] = {
    "a web page": answering("<!DOCTYPE html><html><body>Please log in</body></html>"),
    "an older web page": answering("<html><body>Please log in</body></html>"),
    "not a byte": answering(""),
    "no XML": answering("garbage"),
    "half of it": answering(page(["p/a"])[:-30]),
    "no content": answering("", 204),
    "another protocol": lambda _, send: send(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "an absurd status": lambda _, send: send(b"HTTP/1.1 nine OK\r\n\r\n"),
    "a status beyond all": answering("", 999),
    "a size in letters": answering(page(["p/a"], size="abc")),
    "a size below nothing": answering(page(["p/a"], size="-1")),
    "a size beyond all disks": answering(page(["p/a"], size="9" * 30)),
    "a size of 5,000 digits": answering(page(["p/a"], size="9" * 5000)),
    "a key that was not asked for": answering(page(["q/a"])),
    "a broken gateway's page": answering("<!DOCTYPE html><html>" + "x" * 100_000, 502),
}
MOVED: dict[str, Behaviour] = {
    "nowhere": answering("", 301),
    "without a region": refusing(301, "PermanentRedirect"),
    "to a region that cannot be": refusing(301, "PermanentRedirect", x_amz_bucket_region="evil.example.org/#"),
    "to another region for ever": refusing(301, "PermanentRedirect", x_amz_bucket_region="eu-west-9"),
    "to a region in words": answering(
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>../x y</Region></Error>", 400
    ),
    "elsewhere": answering("", 307, Location="http://127.0.0.1:1/"),
}


def listed(connection: Connection) -> list[str]:
    return [one.key for one in list_objects(connection)]


def told(behaviour: Behaviour, nasty: NastyStore, connection: Connection, error: type[Exception]) -> str:
    """What a listing fails with."""
    nasty.behave(behaviour)
    begun = time.monotonic()
    with pytest.raises(error) as failure:
        listed(connection)
    assert time.monotonic() - begun < SOON_SECONDS
    assert len(str(failure.value)) < 1000
    return str(failure.value)


def test_the_server_of_these_tests_can_do_it_well_too(nasty: NastyStore) -> None:
    nasty.behave(answering(page(["p/a", "p/b"])))
    assert listed(connect(nasty.url)) == ["a", "b"]


@pytest.mark.parametrize("behaviour", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_end_ends(nasty: NastyStore, behaviour: Behaviour) -> None:
    assert "listing s3://bucket/p/" in told(behaviour, nasty, connect(nasty.url), StoreUnavailable)
    assert nasty.sent_bytes < 20 * 1024 * 1024


@pytest.mark.parametrize("behaviour", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("operation", ["head", "put"])
def test_whatever_was_asked_for(nasty: NastyStore, behaviour: Behaviour, operation: str) -> None:
    nasty.behave(behaviour)
    connection = connect(nasty.url)
    client = connection.client
    requests = {
        "head": lambda: client.head_object(Bucket="bucket", Key="p/x"),
        "put": lambda: client.put_object(Bucket="bucket", Key="p/x", Body=b"x" * 100_000),
    }
    begun = time.monotonic()
    with suppress(StoreUnavailable):  # a good answer's headers suffice
        connection.call("asking", requests[operation])
    assert time.monotonic() - begun < SOON_SECONDS


@pytest.mark.parametrize("xml", BOMBS.values(), ids=BOMBS)
def test_xml_that_would_take_far_more_memory_than_it_has_bytes_is_refused(nasty: NastyStore, xml: str) -> None:
    assert "S3 server" in told(answering(xml), nasty, connect(nasty.url), StoreUnavailable)


WORST = """
import pathlib, re
import pytest
from dpn.errors import StoreUnavailable
from tests.fixtures.nasty.store import answering, nasty_store
from tests.services.s3.test_hostile_answers import BOMBS, ENDLESS, connect, listed

def fail(behaviour):
    nasty.forget()
    nasty.behave(behaviour)
    with pytest.raises(StoreUnavailable):
        listed(connect(nasty.url))

def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024

pathlib.Path("/proc/self/clear_refs").write_text("5")  # else the peak begins with that of who started us
with nasty_store() as nasty:
    fail(answering("garbage"))
    before = peak_mib()
    for behaviour in [*map(answering, BOMBS.values()), ENDLESS["a body"], ENDLESS["chunks"], ENDLESS["a header"]]:
        fail(behaviour)
    print(peak_mib() - before)
"""


def test_the_worst_of_answers_take_little_memory() -> None:
    command = [sys.executable, "-c", WORST]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200)
    assert int(done.stdout) < 96


@pytest.mark.parametrize("behaviour", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_the_servers_fault_and_never_an_empty_listing(nasty: NastyStore, behaviour: Behaviour) -> None:
    told(behaviour, nasty, connect(nasty.url), StoreUnavailable)


@pytest.mark.parametrize("behaviour", MOVED.values(), ids=MOVED)
def test_who_is_sent_elsewhere_looks_a_few_times_and_calls_the_operator(
    nasty: NastyStore, behaviour: Behaviour
) -> None:
    assert "correct store.region" in told(behaviour, nasty, connect(nasty.url), Misconfigured)
    assert len(nasty.seen) <= 3


@pytest.mark.parametrize("seconds", ["9" * 400, "-1", "1e999", "nan", "tomorrow", "Thu, 01 Jan 9999 00:00:00 GMT"])
def test_an_absurd_wait_is_not_asked_for(nasty: NastyStore, seconds: str) -> None:
    absurd_date = "Thu, 01 Jan 0001 00:00:00 GMT"
    nasty.behave(refusing(503, "SlowDown", Retry_After=seconds, Date=absurd_date))
    with pytest.raises(StoreUnavailable) as failure:
        listed(connect(nasty.url))
    assert failure.value.retry_after_seconds is None


def test_a_refusal_may_be_long_but_is_not_repeated_at_length(nasty: NastyStore) -> None:
    assert "x" * 100 in told(refusing(418, "Teapot", "x" * 30_000), nasty, connect(nasty.url), TransientError)
    nasty.behave(refusing(403, "AccessDenied", "x" * 3_000_000))


def test_a_refusal_beyond_all_measure_counts_by_its_status(nasty: NastyStore) -> None:
    text = told(refusing(403, "Whatever", "x" * 3_000_000), nasty, connect(nasty.url), AccessRefused)
    assert "allow the key s3:GetObject" in text


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Length", "abc"),
        ("Content-Length", "-5"),
        ("Content-Length", "9" * 30),
        ("Last-Modified", "Fri, 99 Foo 99999 99:99:99 GMT"),
        ("Last-Modified", "0001-01-01T00:00:00+23:00"),
        ("Last-Modified", "9" * 400),
    ],
)
def test_absurd_headers_are_the_servers_fault(nasty: NastyStore, header: str, value: str) -> None:
    nasty.behave(answering(**{"Content-Length": "10", **OBJECT, header: value}))
    connection = connect(nasty.url)

    def size() -> int:
        return connection.given(connection.client.head_object(Bucket="bucket", Key="p/x"), "ContentLength")

    with pytest.raises(StoreUnavailable, match="store:main"):
        connection.call("asking", size)


def test_who_lets_us_go_on_and_hangs_up_does_not_keep_us_busy(nasty: NastyStore) -> None:
    def hang_up(_: Asked, send: Send) -> None:
        send(CONTINUE[:-2])
        raise ConnectionResetError

    nasty.behave(hang_up)
    connection = connect(nasty.url, answer_seconds=60.0)
    begun = time.process_time()
    with pytest.raises(StoreUnavailable):
        connection.call(
            "sending", lambda: connection.client.put_object(Bucket="bucket", Key="p/x", Body=b"x" * 2_000_000)
        )
    assert time.process_time() - begun < 5


def test_a_body_that_is_taken_far_too_slowly_is_not_sent_for_ever(nasty: NastyStore) -> None:
    nasty.behave(dripping(CONTINUE, b""))
    connection = connect(nasty.url, answer_seconds=0.5, slowest_bytes_a_second=10_000_000)
    size = 8_000_000
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        connection.call(
            "sending",
            lambda: connection.client.put_object(Bucket="bucket", Key="p/x", Body=bytes(size)),
            sent_bytes=size,
        )
    assert time.monotonic() - begun < SOON_SECONDS


class TestBody:
    """The bytes of an object."""

    def _read(
        self, nasty: NastyStore, behaviour: Behaviour, stop: Cancellation | None = None, **limits: Any
    ) -> bytes:
        nasty.behave(behaviour)
        connection = connect(nasty.url, **limits)
        wanted: Any = {"Bucket": "bucket", "Key": "p/x", "ChecksumMode": "ENABLED"}
        answer = connection.call("reading p/x", partial(connection.client.get_object, **wanted))
        return b"".join(connection.body("reading p/x", answer, 10, stop or Cancellation(), chunk_size=4))

    @pytest.mark.parametrize(
        "behaviour",
        [
            answering(CONTENT),
            lambda _, send: send(
                CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b"0123456789") + b"0\r\n\r\n"
            ),
            answering(CONTENT, x_amz_checksum_crc32="poTHxg=="),
        ],
        ids=["with its length", "a byte a chunk", "with its checksum"],
    )
    def test_comes_whole(self, nasty: NastyStore, behaviour: Behaviour) -> None:
        assert self._read(nasty, behaviour) == CONTENT

    def test_that_is_longer_than_told_is_cut_off(self, nasty: NastyStore) -> None:
        endless = pouring(HEAD + TE, b"5\r\nabcde\r\n")
        with pytest.raises(StoreMismatch, match="more than the 10 bytes"):
            self._read(nasty, endless)

    def test_that_ends_early_is_not_whole(self, nasty: NastyStore) -> None:
        def half(_: Asked, send: Send) -> None:
            send(HEAD + b"\r\n01234")
            raise ConnectionResetError

        with pytest.raises(StoreUnavailable, match=r"reading p/x"):
            self._read(nasty, half)

    def test_that_is_not_what_its_checksum_says_is_refused(self, nasty: NastyStore) -> None:
        with pytest.raises(StoreMismatch, match="did not match"):
            self._read(nasty, answering(CONTENT, x_amz_checksum_crc32="AAAAAA=="))

    def test_that_dribbles_ends_in_its_time(self, nasty: NastyStore) -> None:
        with pytest.raises(StoreUnavailable):
            self._read(nasty, dripping(HEAD + TE + b"1;", b"x"))

    def test_that_dribbles_hears_a_stop(self, nasty: NastyStore) -> None:
        cancellation = Cancellation()
        timer = threading.Timer(0.3, cancellation.cancel, [Interrupted("stopping")])
        timer.start()
        drip = dripping(HEAD + TE + b"1;", b"x")
        with pytest.raises(Interrupted, match="stopping"):
            self._read(nasty, drip, cancellation, answer_seconds=60.0)
        timer.join()

    def test_has_not_less_time_because_whoever_takes_it_is_slow(self, nasty: NastyStore) -> None:
        now, taken = [0.0], threading.Event()

        def in_two_pieces(_: Asked, send: Send) -> None:
            send(HEAD + b"\r\n" + CONTENT[:5])
            taken.wait(SOON_SECONDS)
            send(CONTENT[5:])

        nasty.behave(in_two_pieces)
        connection = connect(nasty.url, monotonic=lambda: now[0])
        answer = connection.call("reading", lambda: connection.client.get_object(Bucket="bucket", Key="p/x"))
        content = b""
        for data in connection.body("reading", answer, 10, Cancellation(), chunk_size=5):
            content += data
            now[0] += 3600.0
            taken.set()
        assert content == CONTENT


def test_a_stop_ends_a_call_whose_answer_dribbles(nasty: NastyStore) -> None:
    nasty.behave(dripping(OK + b"\r\n<a>", b"x"))
    cancellation = Cancellation()
    timer = threading.Timer(0.3, cancellation.cancel, [Interrupted("stopping")])
    timer.start()
    with pytest.raises(Interrupted, match="stopping"):
        list(list_objects(connect(nasty.url, answer_seconds=60.0), cancellation))
    timer.join()
