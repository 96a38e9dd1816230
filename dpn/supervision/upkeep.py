"""Runs the processes of a node on one machine until it is told to stop: SIGTERM, SIGINT or SIGHUP.

What runs is stopped in order then: cron's jobs, the workers, which finish what they run, the server. Told again,
or by SIGQUIT, the workers put back what they run; told once more, everything is killed. If this process is killed
itself, the kernel kills all others with it, and the next one says so.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType

from dpn.clock import Clock
from dpn.supervision.cron import Cron, CronJob, Line
from dpn.supervision.process_id import ProcessId
from dpn.supervision.ready import ReadySocket
from dpn.supervision.running import Program, log_tail
from dpn.supervision.state import JobState, NodeState, ProcessState, StateFolder
from dpn.supervision.supervisor import Kept, Supervisor, UnaskedExit

LONGEST_REST_SECONDS = 60.0
PUT_BACK_SECONDS = 15.0
"""How long a worker may take that was told twice."""
SAID_OFTEN, SAID_EVERY = 5, 60
"""So many failures in a row of one process are said, then one in so many."""
GONE_SECONDS = 10.0
MAX_REASON_CHARACTERS = 300

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
STATES = {"READY=1": "ready", "STOPPING=1": "stopping"}


@dataclass(frozen=True)
class NodePlan:
    """What is to run on this machine. `groups` are started in order and stopped in the other one."""

    node: str
    groups: Sequence[Sequence[Program]]
    jobs: Sequence[CronJob]
    patience_seconds: float
    """How long processes may finish what they run once they are told to stop."""

    @property
    def programs(self) -> list[Program]:
        return [program for group in self.groups for program in group]


class Upkeep:
    """See the module's docstring. Belongs to the main thread of a process that does nothing else."""

    def __init__(self, plan: NodePlan, folder: StateFolder, *, say: Callable[[str], None], clock: Clock) -> None:
        self._plan = plan
        self._folder = folder
        self._say = say
        self._clock = clock
        self._supervisor = Supervisor(self._ended)
        self._cron = Cron(say, clock=clock)
        self._told = 0
        """How often we were told to stop."""
        self._states: dict[str, ProcessState] = {}
        self._ready: dict[int, str] = {}
        self._written: NodeState | None = None
        self._was_well = False

    def run(self) -> None:
        """Returns once it was told to stop and everything has. Raises AlreadyUp, Misconfigured."""
        with self._folder.held(), closing(ReadySocket()) as ready, self._signals() as woken:
            before = self._folder.read()
            self._end_what_is_left(before)
            self._since = self._clock.now()
            self._begin(before, ready.address)
            try:
                while not self._told:
                    self._look_after(ready)
                    select.select([ready.fileno(), woken], [], [], self._rest_seconds())
                    _drain(woken)
            finally:
                ready.close()  # nobody reads it any more, and a full one would hold up those who stop
                self._stop()

    def _begin(self, before: NodeState | None, address: str) -> None:
        last = {job.name: job.started for job in before.jobs} if before else {}
        count = len(self._plan.programs)
        self._say(f"{self._plan.node}: starting {count} processes and the times of {len(self._plan.jobs)} jobs")
        for program in self._plan.programs:
            self._supervisor.want(replace(program, environment={**program.environment, "NOTIFY_SOCKET": address}))
        for job in self._plan.jobs:
            self._cron.add(job, last=last.get(job.program.name))

    def _look_after(self, ready: ReadySocket) -> None:
        pids = {kept.running.pid for kept in self._supervisor.kept.values() if kept.running}
        said = {pid: STATES[line] for pid, line in ready.heard() if line in STATES and pid in pids}
        self._ready = {pid: state for pid, state in self._ready.items() if pid in pids} | said
        self._supervisor.tick()
        self._cron.tick()
        state = self._state("up")
        self._write(state)
        if (well := all(one.state == "ready" for one in state.processes)) and not self._was_well:
            self._say("all processes are ready")
        self._was_well = well

    def _rest_seconds(self) -> float:
        """How long nothing will be to do unless somebody wakes us."""
        starts = [start - time.monotonic() for start in self._supervisor.starts_at()]
        due = self._cron.next_due()
        jobs = [] if due is None else [(due - self._clock.now()).total_seconds()]
        return max(0.0, min(*starts, *jobs, LONGEST_REST_SECONDS, LONGEST_REST_SECONDS))

    def _stop(self) -> None:
        self._say("stopping: what runs is finished; told again, it is put back")
        self._since = self._clock.now()
        self._write(self._state("stopping"))
        self._cron.remove_all()
        for group in reversed(self._plan.groups):
            self._supervisor.drop(
                *(program.name for program in group),
                patience_seconds=(self._plan.patience_seconds, PUT_BACK_SECONDS),
                hurried=lambda: self._told - 1,
            )
        self._since = self._clock.now()
        self._write(self._state("down"))
        self._say("stopped")

    def _ended(self, ended: UnaskedExit) -> None:
        """Says so; of one that fails for long, now and then."""
        if ended.pid is not None:
            self._ready.pop(ended.pid, None)  # the number may soon be another's
        failures = ended.restart.failures
        if failures > SAID_OFTEN and failures % SAID_EVERY:
            return
        last = (log_tail(ended.program.log).splitlines() or [""])[-1]
        reason = "" if last.startswith("{") else last[-MAX_REASON_CHARACTERS:]
        again = f", {failures} times in a row" if failures > SAID_OFTEN else ""
        self._say(f"{ended}{again}" + (f" ({reason})" if reason and not ended.ending.by_signal else ""))

    def _end_what_is_left(self, before: NodeState | None) -> None:
        """Makes sure that what a killed one ran, which the kernel kills with it, is gone."""
        if before is None or before.state == "down":
            return
        killed = [process for process in before.left() if process.send(signal.SIGKILL)]
        deadline = time.monotonic() + GONE_SECONDS
        while any(process.alive() for process in killed) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._say(f"the one before (pid {before.supervisor.pid}) was killed, and its processes with it")

    # -- what is said of it all ----------------------------------------------------------------------------------

    def _state(self, state: str) -> NodeState:
        return NodeState.model_validate(
            {
                "node": self._plan.node,
                "state": state,
                "since": self._since,
                "supervisor": ProcessId.of(os.getpid()),
                "processes": [self._process_state(name, kept) for name, kept in self._supervisor.kept.items()],
                "jobs": [_job_state(name, line) for name, line in self._cron.lines.items()],
            },
        )

    def _process_state(self, name: str, kept: Kept) -> ProcessState:
        pid = kept.running.pid if kept.running else None
        state = ProcessState(
            name=name,
            state="down" if pid is None else self._ready.get(pid, "starting"),
            since=self._clock.now(),
            process=None if pid is None else ProcessId.of(pid),
            restarts=max(0, kept.starts - 1),
            ended=str(kept.ending or ""),
            log=kept.program.log,
        )
        known = self._states.get(name)
        if known is None or known.model_copy(update={"since": state.since}) != state:
            self._states[name] = state
        return self._states[name]

    def _write(self, state: NodeState) -> None:
        """A full disk stops nothing: what runs goes on, and is told of later."""
        if state == self._written:
            return
        try:
            self._folder.write(state)
        except OSError as error:
            self._say(f"{self._folder.path}: {error.strerror}: dpn_node status shows what was before")
        self._written = state

    # -- signals -------------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """A descriptor that becomes readable with each signal, the end of a process among them."""

        def stop(number: int, _frame: FrameType | None) -> None:
            self._told += 2 if number == signal.SIGQUIT and not self._told else 1

        def ended(_number: int, _frame: FrameType | None) -> None:
            """A child has; without a handler, the signal would wake nobody."""

        handlers = dict.fromkeys(STOPPING, stop) | {signal.SIGCHLD: ended}
        woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        wakeup = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(woken)
            os.close(waking)


def _job_state(name: str, line: Line) -> JobState:
    return JobState(
        name=name,
        due=line.due,
        process=ProcessId.of(line.running.pid) if line.running else None,
        started=line.started,
        ended=str(line.ending or ""),
        failed=line.ending is not None and line.ending.code != 0,
        log=line.job.program.log,
    )


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
