"""Threads that hash: hashlib lets go of the interpreter lock, so they use all cores.

Whoever reads hands out tasks; the first error of any task ends all, and comes out where tasks are handed out.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from dpn.cancellation import Cancellation

READ_BYTES = 1 << 20
"""How much is read at once: large enough to be cheap, small enough to stay in the cache and in memory."""
MAX_THREADS = 32
_TASKS_WAITING_PER_THREAD = 2
_TICK_SECONDS = 0.2
_TELL_EVERY_BYTES = 4 << 20
_TELL_EVERY_FILES = 1000

Task = Callable[[], None]
OnProgress = Callable[[int, int], None]
"""Is told how many bytes and how many files there were so far."""
_Thing = TypeVar("_Thing")


def default_threads() -> int:
    """As many threads as this process may use cores, at most 32."""
    return min(len(os.sched_getaffinity(0)), MAX_THREADS)


class ReadingStopped(Exception):
    """Another part of the same reading failed or was cancelled."""


class Progress:
    """One reading of a bag: how far it is, whether it was cancelled, and the first error of any of its threads."""

    def __init__(self, callback: OnProgress | None = None, cancellation: Cancellation | None = None) -> None:
        self._callback = callback
        self._cancellation = cancellation
        self._lock = threading.Lock()
        self._stopping = False
        self._error: BaseException | None = None
        self._told_bytes = 0
        self._told_files = 0
        self.bytes = 0
        self.files = 0

    def add(self, bytes_read: int, files: int = 0) -> None:
        """Note what was read, from any thread. Raises ReadingStopped if the reading was given up meanwhile."""
        with self._lock:
            self.bytes += bytes_read
            self.files += files
        if self._stopping:
            raise ReadingStopped

    def tick(self) -> None:
        """From the thread that reads, often: raises what the cancellation says, or a thread's error."""
        if self._error is not None:
            raise self._error
        if self._cancellation is not None:
            self._cancellation.check()
        moved_far = self.bytes - self._told_bytes >= _TELL_EVERY_BYTES
        if moved_far or self.files - self._told_files >= _TELL_EVERY_FILES:
            self.tell()

    def tell(self) -> None:
        """Tell the caller how far it is."""
        self._told_bytes, self._told_files = self.bytes, self.files
        if self._callback is not None:
            self._callback(self.bytes, self.files)

    def fail(self, error: BaseException) -> None:
        """From any thread: this error ends the reading. The first one counts."""
        with self._lock:
            self._error = self._error or error
            self._stopping = True

    def stop(self) -> None:
        self._stopping = True

    @property
    def stopping(self) -> bool:
        return self._stopping


class Workers:
    """A few threads and a short queue; one thread does its tasks in order. Leaving the `with` block ends them.

    No thread at all: who hands a task out does it, for where the other cores have work of their own.
    """

    def __init__(self, threads: int, progress: Progress) -> None:
        self._progress = progress
        self._tasks: queue.Queue[Task | None] = queue.Queue(max(1, threads * _TASKS_WAITING_PER_THREAD))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._progress.stop()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        if error is None:
            self._progress.tick()

    def submit(self, task: Task) -> None:
        """Hand out a task; waits while the queue is full. Raises the first error of any task before it."""
        self._progress.tick()
        if not self._threads:
            return task()
        while True:
            try:
                return self._tasks.put(task, timeout=_TICK_SECONDS)
            except queue.Full:
                self._progress.tick()

    def finish(self) -> None:
        """Wait until every task is done. Raises the first error of any."""
        with self._tasks.all_tasks_done:
            while self._tasks.unfinished_tasks and not self._progress.stopping:
                self._tasks.all_tasks_done.wait(_TICK_SECONDS)
                self._progress.tick()
        self._progress.tick()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if not self._progress.stopping:
                    task()
            except ReadingStopped:
                pass  # the error that stopped us is already on its way
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that reads
                self._progress.fail(error)
            finally:
                self._tasks.task_done()


def take(things: queue.Queue[_Thing], progress: Progress) -> _Thing:
    """The next of a few things that threads give back; waits for one. Raises the first error of any thread."""
    while True:
        try:
            return things.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            progress.tick()
