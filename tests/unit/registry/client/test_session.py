"""Calls go over the HTTP session that the client is given: no network, and few frames of ours on the way."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

import dpn
from dpn.errors import PeerRefused
from dpn.registry.client import NoAnswer, RegistryClient
from dpn.settings import PeerSettings
from tests.fixtures.records import a_bag, a_transfer, uuid

OURS = str(Path(dpn.__file__).parent)
SETTINGS = PeerSettings.model_validate(
    {"api_root": "https://north.example", "token": "a-token", "rsync": {"hosts": ["north.example"]}}
)


class Line(HTTPAdapter):
    """Answers in the peer's stead: each call with the next of these, an exception or a status and a JSON value."""

    def __init__(self, *answers: Exception | tuple[int, Any]) -> None:
        super().__init__()
        self._answers = list(answers)
        self.asked: list[str] = []
        self.frames: list[list[str]] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.asked.append(f"{request.method} {request.url}")
        self.frames.append(frames_of_ours())
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, value = answer
        body = io.BytesIO(json.dumps(value).encode())
        raw = HTTPResponse(body, status=status, headers={"Location": "/elsewhere/"}, preload_content=False)
        return self.build_response(request, raw)


def frames_of_ours() -> list[str]:
    """Who of ours waits for this call, the innermost first."""
    frame, found = sys._getframe(1), []
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_filename.startswith(OURS):
            found.append(frame.f_code.co_qualname)
    return found


def client_over(line: Line, pause: Callable[[float], None] = lambda _: None) -> RegistryClient:
    session = requests.Session()
    session.mount("https://north.example", line)
    return RegistryClient("north", SETTINGS, session=session, pause=pause)


def test_a_record_comes_over_the_session_that_was_given() -> None:
    line = Line((200, a_bag().to_wire()))
    assert client_over(line).get_bag(uuid(1)) == a_bag()
    assert line.asked == [f"GET https://north.example/api-v2/bag/{uuid(1)}/"]


def test_what_only_reads_is_asked_once_more_after_a_pause_where_nothing_came_back() -> None:
    line, pauses = Line(requests.ConnectionError("reset"), (200, a_bag().to_wire())), list[float]()
    assert client_over(line, pauses.append).get_bag(uuid(1)) == a_bag()
    assert (len(line.asked), pauses) == (2, [0.2])
    line = Line(*[requests.ConnectionError("reset")] * 3)
    with pytest.raises(NoAnswer, match="reset"):
        client_over(line).get_bag(uuid(1))
    assert len(line.asked) == 2


@pytest.mark.parametrize("answer", [requests.ReadTimeout(), (404, None)])
def test_what_was_answered_or_took_too_long_is_not_asked_again(answer: Any) -> None:
    line = Line(answer)
    with pytest.raises((NoAnswer, PeerRefused)):
        client_over(line).get_bag(uuid(1))
    assert len(line.asked) == 1


def test_a_change_is_sent_once_whatever_comes_of_it() -> None:
    line = Line(requests.ConnectionError("reset"))
    with pytest.raises(NoAnswer):
        client_over(line).put_transfer(a_transfer())
    assert len(line.asked) == 1


def test_each_step_of_a_redirect_has_its_own_second_try() -> None:
    reset = requests.ConnectionError("reset")
    line = Line(reset, (302, None), reset, (200, a_bag().to_wire()))
    assert client_over(line).get_bag(uuid(1)) == a_bag()
    assert [asked.removeprefix("GET https://north.example") for asked in line.asked[1:]] == [
        f"/api-v2/bag/{uuid(1)}/",
        "/elsewhere/",
        "/elsewhere/",
    ]


@pytest.mark.parametrize(
    ("ask", "most"),
    [
        (lambda client: client.get_bag(uuid(1)), 4),
        (lambda client: client.put_transfer(a_transfer()), 4),
        (lambda client: client.list_count("bag"), 6),
        (lambda client: next(client.list_bags()), 7),
    ],
    ids=["get", "put", "count", "list"],
)
def test_few_frames_of_ours_lie_between_a_method_and_the_session(
    ask: Callable[[RegistryClient], Any], most: int
) -> None:
    """A traceback, and whoever reads one, gets to the point. A list is walked: its page is some steps further."""
    line = Line((404, None))
    with pytest.raises(PeerRefused):
        ask(client_over(line))
    [frames] = line.frames
    assert frames[0] == "PeerCalls._send", "the count begins with the session's caller"
    assert len(frames) <= most, frames


def test_the_session_is_closed_with_the_client() -> None:
    class Closing(requests.Session):
        closed = False

        def close(self) -> None:
            self.closed = True

    session = Closing()
    RegistryClient("north", SETTINGS, session=session).close()
    assert session.closed
