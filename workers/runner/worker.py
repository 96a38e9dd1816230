"""The worker process: takes no more items than it has slots, sweeps for what no message announced, stops in order.

SIGTERM and SIGINT: finish what runs, take nothing new, exit. A second one interrupts what runs; it is put back.
SIGUSR2: the same as the first SIGTERM, but a second SIGUSR2 takes the halt back.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from dpn.broker import Broker
from dpn.broker.messages import item_id_in
from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import Interrupted
from dpn.telemetry.logs import Log
from dpn.telemetry.metrics import WorkerMetrics
from dpn.telemetry.readiness import notify_systemd
from dpn.work.schedule.presence import Presence
from dpn.work.settings import WorkSettings
from workers.runner.chores import Chore, ChoreThreads
from workers.runner.lease_keeper import LeaseKeeper
from workers.runner.stage_runner import StageRunner
from workers.runner.steps import Held, WorkerSteps

T = TypeVar("T")

DATABASE_THREADS = 2
PAUSE_AFTER_FAILURE_SECONDS = 1.0


class Halt(StrEnum):
    """Whether the worker takes new items."""

    NO = "running"
    DRAINING = "draining"
    """Until what runs has ended; can be taken back."""
    STOPPING = "stopping"


class Worker:
    """See the module's docstring. `run` returns once the worker has stopped."""

    def __init__(
        self,
        *,
        runner: StageRunner,
        presence: Presence,
        sessions: Sessions,
        broker: Broker,
        settings: WorkSettings,
        concurrency: int,
        chores: Sequence[Chore],
        clock: Clock,
        log: Log,
        metrics: WorkerMetrics,
    ) -> None:
        self._runner = runner
        self._presence = presence
        self._leases = LeaseKeeper(sessions, lease_seconds=settings.lease_seconds, clock=clock, log=log)
        self._steps = WorkerSteps(
            presence=presence,
            runner=runner,
            leases=self._leases,
            sessions=sessions,
            lease_seconds=settings.lease_seconds,
            clock=clock,
            slots_per_node=max(1, int(concurrency * settings.peer_share)),
        )
        self._shared = {spec.queue for spec in runner.stages if spec.shared}
        self._broker = broker
        self._settings = settings
        self._concurrency = concurrency
        self._chores = ChoreThreads(chores, jitter=runner.jitter, log=log)
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._taken = 0
        self._running: dict[asyncio.Task[None], Cancellation] = {}
        self._halt = Halt.NO
        self._stop_by = math.inf
        self._interrupted: Interrupted | None = None
        self._sweep = asyncio.Event()
        self._beat = asyncio.Event()
        self._changed = asyncio.Event()
        self._stage_threads = ThreadPoolExecutor(concurrency, thread_name_prefix="stage")
        self._database_threads = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="database")

    async def run(self) -> None:
        """Works until told to stop. Raises what makes starting impossible."""
        await self._in_database(self._steps.register)
        self._leases.start()
        self._listen_to_signals()
        await self._broker.start(self._queues(), self.offer, self._sweep.set)
        self._free_slots_changed()
        background = [
            asyncio.create_task(
                self._forever("sweep", self._sweep_once, self._sweep, self._settings.sweep_seconds)
            ),
            asyncio.create_task(
                self._forever("heartbeat", self._beat_once, self._beat, self._settings.heartbeat_seconds)
            ),
        ]
        self._chores.start()
        notify_systemd("READY=1")
        self._log.info("worker started", stages=list(self._presence.stages), volumes=list(self._presence.volumes))
        try:
            await self._until_stopped()
        finally:
            notify_systemd("STOPPING=1")
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._chores.stop()
            await self._broker.stop()
            self._leases.stop()
            with suppress(SQLAlchemyError):
                await self._in_database(self._steps.leave)
            self._stage_threads.shutdown()
            self._database_threads.shutdown()
            self._log.info("worker stopped")

    @property
    def free_slots(self) -> int:
        return 0 if self._halt is not Halt.NO else self._concurrency - self._taken

    async def offer(self, queue: str, body: bytes) -> bool:
        """A message: claims its item and starts it. False: it must go to another worker."""
        try:
            item_id = item_id_in(body)
        except ValueError as error:
            return await self._bury(queue, body, str(error))
        if self.free_slots <= 0:
            self._metrics.message(queue, "no slot")
            return False
        if queue in self._shared:  # whose turn it is, the message does not know
            self._metrics.message(queue, "looked")
            self._sweep.set()
            return True
        try:
            claimed = await self._take(item_id)
            known = claimed or await self._in_database(self._steps.is_known, item_id)
        except SQLAlchemyError as error:
            self._log.error("an item could not be claimed", item=item_id, error=str(error))
            await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)  # or messages and log lines would go round and round
            return False
        if not known:
            return await self._bury(queue, body, f"there is no item {item_id}")
        self._metrics.message(queue, "claimed" if claimed else "nothing to do")
        return True

    def halt(self) -> None:
        """Takes nothing new and stops once what runs has ended; called twice, interrupts what runs."""
        if self._halt is Halt.STOPPING:
            self._interrupt("the worker was told twice to stop")
        self._set_halt(Halt.STOPPING)

    def toggle_drain(self) -> None:
        """Takes nothing new and stops once what runs has ended; called again before that, goes on as before."""
        if self._halt is not Halt.STOPPING:
            self._set_halt(Halt.NO if self._halt is Halt.DRAINING else Halt.DRAINING)

    # -- items ---------------------------------------------------------------------------------------------------

    async def _take(self, item_id: int) -> bool:
        """Claims and starts the item, if it can be claimed. The slot is taken before the database is asked."""
        self._taken += 1
        self._free_slots_changed()
        held: Held | None = None
        try:
            held = await self._in_database(self._steps.take, item_id)
        finally:
            if held is None:
                self._give_slot_back()
        if held is None:
            return False
        if self._interrupted is not None:  # while we claimed it
            held.cancellation.cancel(self._interrupted)
        task = asyncio.create_task(self._perform(held))
        self._running[task] = held.cancellation
        task.add_done_callback(self._ended)
        self._metrics.running(len(self._running))
        return True

    async def _perform(self, held: Held) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._stage_threads, self._steps.perform, held)
        except Exception as error:  # noqa: BLE001  (a bug in one run must not end the worker; the lease runs out)
            self._log.error("a run broke off", item=held.claim.item_id, error=repr(error), exc_info=error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._metrics.running(len(self._running))
        self._give_slot_back()
        self._sweep.set()

    def _give_slot_back(self) -> None:
        self._taken -= 1
        self._free_slots_changed()
        self._changed.set()

    def _free_slots_changed(self) -> None:
        self._broker.set_free_slots(max(0, self.free_slots))

    async def _bury(self, queue: str, body: bytes, reason: str) -> bool:
        self._metrics.message(queue, "dead letter")
        self._log.warning("message that names no item of ours", topic=queue, body=repr(body[:100]), reason=reason)
        try:
            await self._in_database(self._steps.bury, queue, body, reason)
        except SQLAlchemyError:
            return False
        return True

    # -- what goes on beside -------------------------------------------------------------------------------------

    async def _forever(
        self, name: str, once: Callable[[], Awaitable[None]], now: asyncio.Event, every_seconds: float
    ) -> None:
        """Does `once` whenever `now` is set, and every so often. A failure is told, and tried again later."""
        while True:
            # Not wait_for: before Python 3.12 that swallows a cancellation which meets the end of the wait.
            with suppress(TimeoutError):
                async with asyncio.timeout(every_seconds * (0.75 + self._runner.jitter() / 2)):
                    await now.wait()
            now.clear()
            try:
                await once()
            except Exception as error:  # noqa: BLE001  (a worker whose loops have ended would be a dead one that looks alive)
                self._log.error(f"the {name} failed", error=str(error))
                await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
                now.set()

    async def _sweep_once(self) -> None:
        """Starts due items that no message announced, as many as there are slots."""
        if self.free_slots <= 0:
            return
        for item_id in await self._in_database(self._steps.due, self.free_slots):
            if self.free_slots <= 0:
                break
            await self._take(item_id)
        self._metrics.swept(self._clock.now())

    async def _beat_once(self) -> None:
        await self._in_database(self._steps.beat, self._halt.value, len(self._running))

    # -- stopping ------------------------------------------------------------------------------------------------

    async def _until_stopped(self) -> None:
        while self._halt is Halt.NO or self._taken:
            left = self._stop_by - self._clock.monotonic()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), None if left == math.inf else max(0.0, left))
            except TimeoutError:
                self._stop_by = math.inf
                self._interrupt("the worker stops and the time to finish is over")

    def _set_halt(self, halt: Halt) -> None:
        if halt is Halt.NO:
            self._stop_by, self._interrupted = math.inf, None
            self._runner.stopping.clear()
        elif self._halt is Halt.NO:
            self._stop_by = self._clock.monotonic() + self._settings.stop_timeout_seconds
        self._halt = halt
        self._log.info("halt", state=halt.value, running=len(self._running))
        self._free_slots_changed()
        for waiting in (self._changed, self._sweep, self._beat):
            waiting.set()

    def _interrupt(self, reason: str) -> None:
        self._interrupted = Interrupted(reason)
        self._runner.stopping.set()
        for cancellation in self._running.values():
            cancellation.cancel(self._interrupted)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.halt)
        loop.add_signal_handler(signal.SIGUSR2, self.toggle_drain)

    # -- in the database, on its threads -------------------------------------------------------------------------

    async def _in_database(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database_threads, function, *arguments)

    def _queues(self) -> list[str]:
        return [
            queue
            for spec in self._runner.stages
            for queue in spec.queues(self._presence.volumes if spec.may_lie_on_volume else ())
        ]
