"""Fetches that are killed, cancelled, stalled or broken off: what dies, what stays, and what is sent again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, LeaseLost, ServiceUnavailable
from dpn.transfer.command import ENVIRONMENT
from tests.services.transfer.conftest import Peer, processes_with, wait_until

MEBIBYTE = 1024**2
BLOCK_SLACK_BYTES = 128 * 1024
"""What rsync may send again at the seam: less than two of its blocks."""

WORKER = """
import fcntl, json, os, sys
from pathlib import Path
from dpn.cancellation import Cancellation
from dpn.transfer.settings import RsyncSource, TransferSettings
from dpn.transfer.link import parse_link
from dpn.transfer.rsync import fetch
told = json.loads(sys.argv[1])
source = RsyncSource.model_validate(told["source"])
lock = os.open(told["lock"], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
fetch(parse_link(told["link"], source, bag=told["bag"]), Path(told["destination"]), service="rsync:north",
      settings=TransferSettings.model_validate(told["settings"]), source=source, max_bytes=10**9,
      cancellation=Cancellation(), keep_open=(lock,))
"""


@pytest.fixture
def slow(peer: Peer) -> Iterator[Peer]:
    """A peer with 24 MiB to give, at 6 MiB a second."""
    peer.offer(random.Random(7).randbytes(24 * MEBIBYTE))
    peer.set(bandwidth_limit_kib=6 * 1024)
    yield peer
    peer.file.unlink()


@pytest.mark.parametrize("whole_tree", [False, True], ids=["worker", "tree"])
def test_after_kill_9_rsync_is_dead_and_only_the_rest_is_sent(
    slow: Peer, tmp_path: Path, whole_tree: bool
) -> None:
    worker = _worker(slow, tmp_path)
    wait_until(lambda: _size(slow) > 6 * MEBIBYTE)
    rsyncs = _rsyncs(slow)
    assert rsyncs
    worker.kill()
    killed_at = time.monotonic()
    for pid in rsyncs if whole_tree else ():
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not _rsyncs(slow))
    assert time.monotonic() - killed_at < 5
    came = _size(slow)
    assert 6 * MEBIBYTE < came < 20 * MEBIBYTE
    slow.set(bandwidth_limit_kib=0)
    result = slow.fetch()
    assert result.sent_bytes <= result.bytes - came + BLOCK_SLACK_BYTES
    assert slow.destination.read_bytes() == slow.file.read_bytes()


def test_a_lock_that_is_passed_on_lasts_as_long_as_rsync(slow: Peer, tmp_path: Path) -> None:
    worker = _worker(slow, tmp_path)
    try:
        wait_until(lambda: _size(slow) > MEBIBYTE)
        lock = (tmp_path / "lock").stat()
        holders = {pid for pid in _rsyncs(slow) if (lock.st_dev, lock.st_ino) in _open_files(pid)}
        assert len(holders) >= 2  # the process that asks and the one that writes
    finally:
        worker.kill()
        worker.wait()


def test_a_cancelled_fetch_is_over_within_a_second_and_leaves_no_process(slow: Peer) -> None:
    cancellation = Cancellation()
    ended_with: list[BaseException] = []
    thread = threading.Thread(target=lambda: ended_with.append(_raised(lambda: slow.fetch(cancellation))))
    thread.start()
    wait_until(lambda: _size(slow) > MEBIBYTE)
    cancellation.cancel(LeaseLost("another worker holds it"))
    cancelled_at = time.monotonic()
    thread.join()
    assert time.monotonic() - cancelled_at < 1
    assert isinstance(ended_with[0], LeaseLost)
    assert not _rsyncs(slow)
    size = _size(slow)
    assert size > MEBIBYTE
    assert not _zombies()


def test_a_fetch_that_is_cancelled_before_it_begins_starts_nothing(daemon: Peer) -> None:
    cancellation = Cancellation()
    cancellation.cancel(Interrupted("stopping"))
    with pytest.raises(Interrupted):
        daemon.fetch(cancellation)
    assert not daemon.destination.exists()


def test_when_nothing_comes_any_more_the_fetch_is_given_up(slow: Peer, services: Any, request: Any) -> None:
    """The peer's process stands still and its connection stays open."""
    slow.set(stall_timeout_seconds=4)  # longer than a busy machine takes to begin
    stopped: list[int] = []

    def stop_the_sender(size: int) -> None:
        if size > MEBIBYTE and not stopped:
            stopped.extend(_senders(slow))
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)

    started = time.monotonic()
    try:
        with pytest.raises(ServiceUnavailable, match="nothing has come"):
            slow.fetch(progress=stop_the_sender)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
    assert stopped
    assert time.monotonic() - started < 30
    assert not _rsyncs(slow)


def test_a_connection_that_breaks_is_an_outage_and_what_came_stays(slow: Peer) -> None:
    broken: list[int] = []

    def break_off(size: int) -> None:
        if size > 6 * MEBIBYTE and not broken:
            broken.extend(_senders(slow))
            for pid in broken:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ServiceUnavailable):
        slow.fetch(progress=break_off)
    came = _size(slow)
    assert came > 6 * MEBIBYTE
    slow.set(bandwidth_limit_kib=0)
    result = slow.fetch()
    assert result.sent_bytes <= result.bytes - came + BLOCK_SLACK_BYTES
    assert slow.destination.read_bytes() == slow.file.read_bytes()


def test_rsync_and_ssh_inherit_no_environment(slow: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RSYNC_CONNECT_PROG", "RSYNC_RSH", "RSYNC_PROXY", "SSH_AUTH_SOCK", "HOME"):
        monkeypatch.setenv(name, f"touch {tmp_path / 'pwned'}")
    seen: list[set[bytes]] = []

    def look(size: int) -> None:
        for pid in _rsyncs(slow):
            seen.append(set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")) - {b""})
        if size > MEBIBYTE:
            raise Interrupted("seen enough")

    with pytest.raises(Interrupted):
        slow.fetch(progress=look)
    assert all(found <= {f"{name}={value}".encode() for name, value in ENVIRONMENT.items()} for found in seen)
    assert seen


def test_an_error_in_the_progress_report_leaves_no_process(slow: Peer) -> None:
    def fail(size: int) -> None:
        if size > 0:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        slow.fetch(progress=fail)
    assert not _rsyncs(slow)


def _worker(peer: Peer, tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process of its own that fetches from the peer with a lock open."""
    told = {
        "link": peer.link,
        "bag": peer.bag,
        "destination": str(peer.destination),
        "lock": str(tmp_path / "lock"),
        "source": peer.source.model_dump(mode="json"),
        "settings": peer.settings.model_dump(mode="json"),
    }
    return subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(told)], cwd=Path(__file__).parents[3])


def _rsyncs(peer: Peer) -> list[int]:
    """Our processes that fetch to the peer's destination, whatever guards them included."""
    return processes_with(f"\0--\0{peer.link}\0{peer.destination}\0")


def _senders(peer: Peer) -> list[int]:
    """The peer's processes that have its file open."""
    wanted = peer.file.stat()
    return [pid for pid in processes_with("rsync") if (wanted.st_dev, wanted.st_ino) in _open_files(pid)]


def _open_files(pid: int) -> set[tuple[int, int]]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            state = entry.stat()
            found.add((state.st_dev, state.st_ino))
    except OSError:
        pass
    return found


def _zombies() -> list[str]:
    """Children of ours that nobody has waited for."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    states = [Path(f"/proc/{pid}/stat").read_text() for pid in children]
    return [state for state in states if state.rpartition(")")[2].split()[0] == "Z"]


def _size(peer: Peer) -> int:
    return peer.destination.stat().st_size if peer.destination.exists() else 0


def _raised(call: Any) -> BaseException:
    try:
        call()
    except Interrupted as error:
        return error
    raise AssertionError("it was not interrupted")
