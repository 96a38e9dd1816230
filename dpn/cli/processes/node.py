"""What runs of a node on one machine: its registry server, its workers, and cron's jobs with their times."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from pathlib import Path

from dpn.errors import Misconfigured
from dpn.settings import Settings
from dpn.supervision.cron import CronJob
from dpn.supervision.running import Program
from dpn.supervision.schedule import SUNDAY, Schedule, daily, every
from dpn.supervision.upkeep import NodePlan
from workers.notice import TELL
from workers.pipelines import WORKERS

SERVE = "serve"
HOUR_SECONDS = 3600.0
LONGER_THAN_A_WORKER_SECONDS = 60.0


@dataclass(frozen=True)
class Timed:
    """A job of cron's: a command of `dpn`, its times, and how long it may take."""

    command: tuple[str, ...]
    schedule: Schedule
    spread_seconds: float
    limit_seconds: float


JOBS = {
    "sync": Timed(("sync",), every(5), 30.0, 12 * HOUR_SECONDS),
    "reconcile": Timed(("sync", "--full", "--reconcile"), daily(time(1, 23)), 1800.0, 12 * HOUR_SECONDS),
    "queue": Timed(("queue",), every(5, after=2), 0.0, HOUR_SECONDS),
    "cleanup": Timed(("cleanup",), daily(time(3, 17)), 600.0, 12 * HOUR_SECONDS),
    "drill": Timed(("drill", "--sample", "2"), daily(time(5, 37), weekday=SUNDAY), 0.0, HOUR_SECONDS),
}
"""The same as config/systemd and config/cron.example have."""


class WorkerSplit(StrEnum):
    """How stages are spread over processes."""

    EACH = "each"
    ALL = "all"


STAGE_WORKERS = [name for name in WORKERS if name != TELL.worker]
"""Those with a process of their own; what we owe other nodes every worker tells them."""


def plan(
    settings: Settings,
    config: Path,
    *,
    workers: WorkerSplit,
    without: Collection[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> NodePlan:
    """What is to run, with the names in `without` left out. Output goes to `log.directory`, or where ours goes.

    Raises Misconfigured for a name that is not there.
    """
    config = config.absolute()
    folder = settings.log.directory
    environment = {name: value for name, value in environment.items() if name != "NOTIFY_SOCKET"}
    if folder is not None:
        environment["DPN_LOG__STDERR"] = "false"

    def program(name: str, *command: str, more: Mapping[str, str] | None = None) -> Program:
        output = folder / f"{name}.output" if folder else None
        return dpn_program(name, config, *command, environment={**environment, **(more or {})}, log=output)

    server = program(SERVE, "serve")
    named = {"worker": "all"} if workers is WorkerSplit.ALL else {f"worker-{one}": one for one in STAGE_WORKERS}
    working = [
        program(name, "worker", stage, more=worker_environment(config, stage)) for name, stage in named.items()
    ]
    jobs = [
        CronJob(program(name, *job.command), job.schedule, job.spread_seconds, job.limit_seconds)
        for name, job in JOBS.items()
    ]
    names = {one.name for one in (server, *working)} | set(JOBS)
    if unknown := set(without) - names:
        raise Misconfigured(
            f"--without {min(unknown)}: nothing of that name: choose of {', '.join(sorted(names))}"
        )
    groups = [[one for one in group if one.name not in without] for group in ([server], working)]
    patience = settings.work.stop_timeout_seconds + LONGER_THAN_A_WORKER_SECONDS
    wanted = [job for job in jobs if job.program.name not in without]
    return NodePlan(settings.node.namespace, groups, wanted, patience)


def dpn_program(
    name: str, config: Path, *command: str, environment: Mapping[str, str], log: Path | None, if_killed: str = ""
) -> Program:
    """`dpn --config FILE COMMAND …`, run by the Python that runs us."""
    arguments = (sys.executable, "-P", "-m", "dpn.cli.main", "--config", str(config), *command)
    return Program(name, arguments, environment, log, if_killed)


def worker_environment(config: Path, worker: str) -> dict[str, str]:
    """What a worker has of its own, as systemd's unit reads it: `NAME=value` lines in worker-NAME.env beside the
    settings. Raises Misconfigured."""
    path = config.with_name(f"worker-{worker}.env")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: cannot be read ({error}): correct it, or remove it") from error
    said = [line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", ";"))]
    if wrong := [line for line in said if "=" not in line]:
        raise Misconfigured(f"{path}: {wrong[0].split()[0]}: not NAME=value: correct it")
    return {name.strip(): value.strip().strip("\"'") for name, _, value in (line.partition("=") for line in said)}
