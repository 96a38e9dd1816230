"""Fetches one file from a peer into a folder that is ours alone; a second try sends only what is not there yet."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dpn.cancellation import Cancellation
from dpn.clock import Clock, SystemClock
from dpn.errors import TransientError
from dpn.files import sync_folder
from dpn.process import Ended, run
from dpn.transfer.command import rsync_command
from dpn.transfer.errors import SourceMissing, SourceTooLarge
from dpn.transfer.link import RemoteFile
from dpn.transfer.outcome import Figures, is_link, judge, last_words
from dpn.transfer.settings import RsyncSource, TransferSettings
from dpn.transfer.watch import FetchWatch

NOWHERE = Path("/nowhere")
"""Where the file would be put, if it were not only asked for."""

_SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class FetchResult:
    """A file that is here whole and durable, as its peer had it."""

    bytes: int
    sent_bytes: int
    """How many of them were sent this time; the rest had come before."""
    seconds: float
    output_tail: str


class AskSize(Protocol):
    """How a peer is asked for its file's size: `ask_size`, or what stands in for it under a simulator."""

    def __call__(
        self,
        remote: RemoteFile,
        *,
        service: str,
        settings: TransferSettings,
        source: RsyncSource,
        max_bytes: int,
        cancellation: Cancellation,
    ) -> int: ...


class FetchFile(Protocol):
    """How a peer's file comes here: `fetch`, or what stands in for it under a simulator."""

    def __call__(
        self,
        remote: RemoteFile,
        destination: Path,
        *,
        service: str,
        settings: TransferSettings,
        source: RsyncSource,
        max_bytes: int,
        cancellation: Cancellation,
        keep_open: tuple[int, ...] = (),
        progress: Callable[[int], None] | None = None,
    ) -> FetchResult: ...


def fetch(
    remote: RemoteFile,
    destination: Path,
    *,
    service: str,
    settings: TransferSettings,
    source: RsyncSource,
    max_bytes: int,
    cancellation: Cancellation,
    keep_open: tuple[int, ...] = (),
    progress: Callable[[int], None] | None = None,
    clock: Clock = _SYSTEM_CLOCK,
) -> FetchResult:
    """Makes `destination`, an absolute path in a folder of the caller's own, equal to the peer's file; durable.

    What an earlier try left there, whole, partial or damaged, is compared and sent only where it differs. No byte
    is written after this has returned or raised, nor two seconds after this process was killed. `keep_open` are
    descriptors that rsync inherits, so that a lock on them lasts as long as it writes. `progress` hears the size
    of the file five times a second. Whoever changes the file under us, or sends something else, is found by the
    digests that are taken afterwards: this promises rsync's own checksum of the whole file.

    Raises ServiceUnavailable(`service`): unreachable, broken off, or nothing, or too little, came;
    SourceMissing; SourceTooLarge: more than `max_bytes`; NoSpace; Misconfigured: keys, passwords, programs;
    TransientError; Interrupted within a second of `cancellation`.
    """
    started = clock.monotonic()
    _make_ready(destination, max_bytes)
    figures, output = _run(
        remote,
        destination,
        service=service,
        settings=settings,
        source=source,
        max_bytes=max_bytes,
        cancellation=cancellation,
        keep_open=keep_open,
        progress=progress,
        clock=clock,
    )
    size = _make_durable(destination, max_bytes)
    return FetchResult(
        bytes=size,
        sent_bytes=figures.literal_bytes,
        seconds=clock.monotonic() - started,
        output_tail=last_words(output),
    )


def ask_size(
    remote: RemoteFile,
    *,
    service: str,
    settings: TransferSettings,
    source: RsyncSource,
    max_bytes: int,
    cancellation: Cancellation,
) -> int:
    """The size of the peer's file; nothing of it is sent. Raises as `fetch` does, SourceTooLarge for more than
    `max_bytes` too."""
    figures, _output = _run(
        remote,
        NOWHERE,
        service=service,
        settings=settings,
        source=source,
        max_bytes=max_bytes,
        cancellation=cancellation,
        only_ask=True,
    )
    return figures.file_bytes


def _run(
    remote: RemoteFile,
    destination: Path,
    *,
    service: str,
    settings: TransferSettings,
    source: RsyncSource,
    max_bytes: int,
    cancellation: Cancellation,
    keep_open: tuple[int, ...] = (),
    progress: Callable[[int], None] | None = None,
    clock: Clock = _SYSTEM_CLOCK,
    only_ask: bool = False,
) -> tuple[Figures, str]:
    """What rsync says of a run that went well, and its output."""

    def attempt(*, follow_link: bool) -> Ended:
        command = rsync_command(
            remote,
            destination,
            settings=settings,
            source=source,
            max_bytes=max_bytes,
            follow_link=follow_link,
            only_ask=only_ask,
        )
        watch = FetchWatch(
            destination,
            service=service,
            stall_seconds=settings.stall_timeout_seconds,
            minimum_rate=settings.minimum_rate_kib * 1024,
            max_bytes=max_bytes,
            cancellation=cancellation,
            progress=progress,
            clock=clock,
        )
        return run(command, keep_open=keep_open, watch=watch)

    cancellation.check()
    ended = attempt(follow_link=False)
    if is_link(ended):
        # Asked for only where needed: a peer that serves its bags through rrsync refuses --copy-links.
        ended = attempt(follow_link=True)
    figures = judge(ended, service=service, max_bytes=max_bytes, known_hosts=settings.known_hosts_file)
    return figures, ended.output


def _make_ready(destination: Path, max_bytes: int) -> None:
    """Leaves at the destination nothing, or a plain file that is not longer than what may come."""
    if not destination.is_absolute():
        raise ValueError(f"the destination must be an absolute path, not {str(destination)!r}")
    try:
        found = destination.lstat()
    except FileNotFoundError:
        return
    if not _is_plain(found):
        destination.unlink()
    elif found.st_size > max_bytes:
        os.truncate(destination, max_bytes)


def _make_durable(destination: Path, max_bytes: int) -> int:
    """Puts the file and its name on the disk; returns its size."""
    try:
        descriptor = os.open(destination, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SourceMissing("rsync ended well, yet there is no file") from error
    try:
        found = os.fstat(descriptor)
        if not _is_plain(found):
            raise SourceMissing("rsync ended well, yet there is no plain file")
        if found.st_size > max_bytes:
            raise SourceTooLarge(found.st_size, max_bytes)
        _sync(descriptor, destination)
    finally:
        os.close(descriptor)
    sync_folder(destination.parent)
    return found.st_size


def _sync(descriptor: int, destination: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # After a failed fsync the kernel may call lost pages clean: what lies here proves nothing any more.
        destination.unlink()
        raise TransientError(
            f"{destination}: the disk did not take the file ({error}): it is fetched anew"
        ) from error


def _is_plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
