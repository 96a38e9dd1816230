"""A process says that it is ready as it would to systemd; who says it is known from the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from dpn.supervision.ready import ReadySocket
from dpn.telemetry import readiness
from dpn.telemetry.readiness import notify_systemd

CHILD = """
import os
from dpn.telemetry.readiness import notify_systemd
notify_systemd("READY=1")
print(os.getpid())
"""


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadySocket]:
    with closing(ReadySocket()) as ready:
        monkeypatch.setenv("NOTIFY_SOCKET", ready.address)
        yield ready


def test_what_is_said_is_heard_once_with_the_pid_of_who_said_it(ready: ReadySocket) -> None:
    notify_systemd("READY=1")
    notify_systemd("STATUS=fine\nSTOPPING=1")
    pid = int(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout)
    us = os.getpid()
    assert list(ready.heard()) == [(us, "READY=1"), (us, "STATUS=fine"), (us, "STOPPING=1"), (pid, "READY=1")]
    assert list(ready.heard()) == []


def test_a_socket_that_nobody_reads_or_that_is_gone_holds_up_nobody_for_long(
    ready: ReadySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 0.001)
    for _ in range(2000):
        notify_systemd("READY=1")
    assert 0 < len(list(ready.heard())) < 2000
    ready.close()
    notify_systemd("READY=1")
