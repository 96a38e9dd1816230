"""Storage and packaging have one client: what a server does means the same to both, in words of their settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import SystemClock
from dpn.errors import AccessRefused, DpnError, Misconfigured, StoreUnavailable, TransientError
from dpn.packaging.location import S3Location
from dpn.packaging.s3.connection import S3Source
from dpn.packaging.settings import DepositS3Settings
from dpn.s3.limits import AnswerLimits, Retries
from dpn.storage.s3.store import S3Store
from dpn.storage.settings import StoreSettings
from tests.fixtures.nasty.store import (
    Behaviour,
    NastyStore,
    answering,
    nasty_store,
    page,
    pouring,
    refusing,
    self_signed,
    uploads_page,
)

Ask = Callable[..., Any]
RETRIES = Retries(attempts=3, first_seconds=0.001, max_seconds=0.01)
SERVICES = {"storage": "store:main", "packaging": "source:bucket"}
TABLES = {"storage": "store", "packaging": "ingest.s3"}
WELL = {"storage": uploads_page([]), "packaging": page(["p/a"])}
"""A listing: the question that both ask."""


def ask_as_storage(url: str, retries: Retries, **access: Any) -> Any:
    settings = StoreSettings.model_validate({"url": "s3://bucket/p", **access, "endpoint_url": url})
    store = S3Store(settings, clock=SystemClock(), retries=retries, limits=AnswerLimits(answer_seconds=5.0))
    return store.abort_abandoned_uploads(older_than=timedelta(0), keep=())


def ask_as_packaging(url: str, retries: Retries, **access: Any) -> Any:
    settings = DepositS3Settings.model_validate({**access, "endpoint_url": url})
    source = S3Source(
        S3Location("bucket", "p/"), settings, retries=retries, limits=AnswerLimits(answer_seconds=5.0)
    )
    return list(source.list(Cancellation()))


@pytest.fixture(params=["storage", "packaging"])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(user: str) -> Ask:
    """Asks a server at a URL for a listing, as one of the users."""
    asking = {"storage": ask_as_storage, "packaging": ask_as_packaging}[user]

    def ask(url: str, retries: Retries = RETRIES, **access: Any) -> Any:
        keys = {"access_key_id": "us", "secret_access_key": "secret"}
        return asking(url, retries, **{**keys, "connect_timeout_seconds": 2, "read_timeout_seconds": 2, **access})

    return ask


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("certificate"))


def test_a_certificate_that_nobody_vouches_for_calls_the_operator_at_once(
    user: str, ask: Ask, certificate: tuple[Path, Path]
) -> None:
    with nasty_store(certificate) as store, pytest.raises(Misconfigured) as failure:
        ask(store.url)
    assert f"{SERVICES[user]}: " in str(failure.value)
    assert "certificate is not trusted" in str(failure.value)
    assert f"correct {TABLES[user]}.endpoint_url" in str(failure.value)
    assert "AWS_CA_BUNDLE" in str(failure.value)


def test_so_does_a_certificate_for_another_name(
    ask: Ask, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[1]))
    with nasty_store(certificate) as store, pytest.raises(Misconfigured, match="certificate"):
        ask(store.url.replace("127.0.0.1", "localhost"))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_and_a_file_of_authorities_that_cannot_be_used(
    ask: Ask,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    if content:
        (tmp_path / "ca.pem").write_text(content)
    with nasty_store(certificate) as store, pytest.raises(Misconfigured, match="AWS_CA_BUNDLE"):
        ask(store.url)


def test_a_certificate_that_the_operator_vouches_for_is_good(
    user: str, ask: Ask, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[1]))
    with nasty_store(certificate) as store:
        store.behave(answering(WELL[user]))
        ask(store.url)


@pytest.mark.parametrize(
    "away",
    [
        refusing(503, "SlowDown"),
        refusing(500, "InternalError"),
        refusing(429, "TooManyRequests"),
        refusing(400, "RequestTimeout"),
        answering("<html>Bad gateway</html>", 502),
        answering("<html>Please log in</html>"),
        pouring(b"HTTP/1.1 200 OK\r\n\r\n", b"<a>"),
    ],
    ids=["slow-down", "internal-error", "too-many", "timeout", "bad-gateway", "web-page", "endless"],
)
def test_a_server_that_is_away_is_asked_as_often_and_then_waited_for(
    user: str, ask: Ask, nasty: NastyStore, away: Behaviour
) -> None:
    nasty.behave(away, times=2)
    nasty.behave(answering(WELL[user]), times=1)
    nasty.behave(away)

    ask(nasty.url)
    with pytest.raises(StoreUnavailable) as failure:
        ask(nasty.url)

    assert len(nasty.seen) == 2 * RETRIES.attempts
    assert failure.value.service == SERVICES[user]


def test_a_server_says_when_it_wants_to_be_asked_again(user: str, ask: Ask, nasty: NastyStore) -> None:
    nasty.behave(refusing(503, "SlowDown", Retry_After="1"), times=1)
    nasty.behave(answering(WELL[user]), times=1)
    nasty.behave(refusing(503, "SlowDown", Retry_After="120"))
    patient = Retries(attempts=2, first_seconds=0.001, max_seconds=1.0)

    begun = time.monotonic()
    ask(nasty.url, patient)
    assert time.monotonic() - begun >= 1.0
    with pytest.raises(StoreUnavailable) as failure:
        ask(nasty.url, Retries(attempts=1))
    assert failure.value.retry_after_seconds == 120


@pytest.mark.parametrize(
    ("status", "code", "error", "remedy"),
    [
        (403, "AccessDenied", AccessRefused, "allow the key s3:"),
        (403, "InvalidAccessKeyId", AccessRefused, "correct {table}.access_key_id"),
        (404, "XAdminUserNotFound", AccessRefused, "correct {table}.access_key_id"),
        (403, "SignatureDoesNotMatch", AccessRefused, "correct {table}.secret_access_key"),
        (400, "ExpiredToken", AccessRefused, "renew the credentials"),
        (403, "RequestTimeTooSkewed", AccessRefused, "clock"),
        (301, "PermanentRedirect", Misconfigured, "correct {table}.region or {table}.endpoint_url"),
        (400, "AuthorizationHeaderMalformed", Misconfigured, "correct {table}.region"),
        (501, "NotImplemented", Misconfigured, "lacks"),
        (403, "AllAccessDisabled", AccessRefused, "ask the store's operator"),
        (418, "Teapot", TransientError, "Teapot"),
    ],
)
def test_a_refusal_means_the_same(
    user: str, ask: Ask, nasty: NastyStore, status: int, code: str, error: type[DpnError], remedy: str
) -> None:
    nasty.behave(refusing(status, code))

    with pytest.raises(error) as failure:
        ask(nasty.url)

    assert type(failure.value) is error
    assert remedy.format(table=TABLES[user]) in str(failure.value)
    assert str(failure.value).startswith(SERVICES[user])


def test_credentials_that_are_not_there_are_asked_for(
    user: str, ask: Ask, nasty: NastyStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match=f"set {TABLES[user]}.access_key_id"):
        ask(nasty.url, access_key_id=None, secret_access_key=None)


def test_a_region_that_cannot_be_is_refused_before_anything_is_asked(
    user: str, ask: Ask, nasty: NastyStore
) -> None:
    with pytest.raises(Misconfigured, match=f"{TABLES[user]}: .*region"):
        ask(nasty.url, region="no such region/")
    assert nasty.seen == []
