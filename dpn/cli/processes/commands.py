"""`dpn node up|down|status`: the processes of the node on this machine, without systemd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from dpn.cli.node import ConfigOption, settings_of
from dpn.cli.owner import AS_ROOT_ANYWAY, AS_ROOT_ANYWAY_VARIABLE, runs_anyway
from dpn.cli.processes.node import WorkerSplit, plan
from dpn.clock import SystemClock
from dpn.errors import Misconfigured
from dpn.settings import Settings
from dpn.supervision.state import AlreadyUp, NodeState, StateFolder
from dpn.supervision.upkeep import Upkeep

EXIT_FAILED = 1
LOOK_SECONDS = 0.1
READY_SECONDS = 120.0
"""How long `up --detach` waits until everything is ready."""
PATIENCE_SECONDS = 5.0
"""After which `down` says what it waits for."""

PROCESS_COLUMNS = ("process", "state", "pid", "since", "restarts")
JOB_COLUMNS = ("job", "state", "began last", "next")

GONE = {"state": "down", "process": None}

app = typer.Typer(
    help="The processes of the node on this machine, without systemd.", no_args_is_help=True, add_completion=False
)


@app.command("up")
def up(
    context: typer.Context,
    config: ConfigOption = None,
    workers: Annotated[
        WorkerSplit, typer.Option(help="A process for each stage, or one for all.")
    ] = WorkerSplit.EACH,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave out a process or job, as status calls it; repeatable."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is ready.")] = False,
) -> None:
    """Run the server, the workers and cron's jobs; restart what ends; stop all in order when told to.

    Ctrl-C or SIGTERM: what runs is finished. Once more: it is put back for later. Once more: all is killed.
    """
    settings, path = settings_of(context, config)
    anyway = {AS_ROOT_ANYWAY_VARIABLE: "1"} if runs_anyway(context) else {}
    what = plan(settings, path, workers=workers, without=without or (), environment={**os.environ, **anyway})
    folder = _folder(settings)
    try:
        if detach:
            options = ["--workers", workers.value, *(f"--without={name}" for name in without or ())]
            options += [AS_ROOT_ANYWAY] if anyway else []
            raise typer.Exit(_detach(folder, settings, path, options))
        Upkeep(what, folder, say=_say, clock=SystemClock()).run()
    except AlreadyUp as error:
        typer.echo(f"dpn: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error


@app.command("down")
def down(
    context: typer.Context,
    config: ConfigOption = None,
    now: Annotated[bool, typer.Option("--now", help="Put back what runs instead of finishing it.")] = False,
) -> None:
    """Stop the node's processes on this machine, and wait until they have: workers finish what they run."""
    settings, _ = settings_of(context, config)
    folder = _folder(settings)
    if not folder.is_held():
        typer.echo(f"{settings.node.namespace} is not up on this machine")
        return
    state = _state_of_holder(folder)
    if state is not None:
        try:
            state.supervisor.send(signal.SIGQUIT if now else signal.SIGTERM)
        except PermissionError as error:
            raise Misconfigured(f"pid {state.supervisor.pid} is another user's: stop it as that one") from error
    _await_end(folder, "" if now else ": `dpn_node down --now` does not let them finish")
    typer.echo(f"{settings.node.namespace} is down")


@app.command("status")
def status(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")] = False,
) -> None:
    """Show what runs. Exit 0: all is well; 1: something does not run, or a job's last run failed."""
    settings, _ = settings_of(context, config)
    folder = _folder(settings)
    node = settings.node.namespace
    said = folder.read()
    state = _as_seen(said) if said is not None and folder.is_held() else None
    if as_json:
        print(json.dumps({"node": node, "state": "down"} if state is None else state.model_dump(mode="json")))
    elif state is None:
        typer.echo(f"{node} is not up on this machine{_why_not(said)}")
    else:
        _print(state)
    if state is None or not state.well:
        raise typer.Exit(EXIT_FAILED)


def _folder(settings: Settings) -> StateFolder:
    return StateFolder(settings.processes.folder(settings.node.namespace))


def _say(text: str) -> None:
    """A line for whoever looks on; nobody may."""
    with suppress(OSError):
        print(f"{SystemClock().now():%Y-%m-%d %H:%M:%SZ}  {text}", flush=True)


# -- up --detach -------------------------------------------------------------------------------------------------


def _detach(folder: StateFolder, settings: Settings, config: Path, options: Sequence[str]) -> int:
    """Starts the same without --detach, in a session of its own, and waits until all is ready."""
    folder.make()
    output = (settings.log.directory or folder.path) / "dpn_node.output"
    output.parent.mkdir(parents=True, exist_ok=True)
    command = (
        sys.executable,
        "-P",
        "-m",
        "dpn.cli.main",
        "--config",
        str(config.absolute()),
        "node",
        "up",
        *options,
    )
    with output.open("ab") as log:
        said_before = log.tell()
        begun = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    deadline = time.monotonic() + READY_SECONDS
    while begun.poll() is None:
        state = folder.read()
        ready = state is not None and state.supervisor.pid == begun.pid and _all_ready(state)
        if ready or time.monotonic() > deadline:
            begun.returncode = 0  # it goes on without us
            return _begun(settings.node.namespace, begun.pid, output, ready=ready)
        time.sleep(LOOK_SECONDS)
    with output.open("rb") as log:
        log.seek(said_before)
        typer.echo(log.read().decode(errors="replace").strip(), err=True)
    return begun.returncode or EXIT_FAILED


def _begun(node: str, pid: int, output: Path, *, ready: bool) -> int:
    if ready:
        typer.echo(f"{node} is up (pid {pid}); its output: {output}")
        return 0
    typer.echo(
        f"dpn: not everything is ready after {READY_SECONDS:g} s: see dpn_node status and {output}", err=True
    )
    return EXIT_FAILED


def _all_ready(state: NodeState) -> bool:
    return all(process.state == "ready" for process in state.processes)


# -- down --------------------------------------------------------------------------------------------------------


def _state_of_holder(folder: StateFolder) -> NodeState | None:
    """What the one that holds the lock has said; None if it lets go of it before."""
    while folder.is_held():
        state = folder.read()
        if state is not None and state.supervisor.alive():
            return state
        time.sleep(LOOK_SECONDS)
    return None


def _await_end(folder: StateFolder, hint: str) -> None:
    told_at = time.monotonic() + PATIENCE_SECONDS
    while folder.is_held():
        if told_at and time.monotonic() > told_at:
            told_at = 0.0
            state = folder.read()
            left = [one.name for one in _as_seen(state).processes if one.process] if state else []
            typer.echo(f"waiting for {', '.join(left)}{hint}")
        time.sleep(LOOK_SECONDS)


# -- status ------------------------------------------------------------------------------------------------------


def _as_seen(state: NodeState) -> NodeState:
    """The state without the processes that have ended since it was written."""
    processes = tuple(
        one if one.process is not None and one.process.alive() else one.model_copy(update=GONE)
        for one in state.processes
    )
    return state.model_copy(update={"processes": processes})


def _why_not(said: NodeState | None) -> str:
    if said is None:
        return ""
    if said.state == "down":
        return f": stopped at {_moment(said.since)}"
    return f": the one that ran it (pid {said.supervisor.pid}) was killed, and its processes with it"


def _print(state: NodeState) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    processes, jobs = Table(box=None), Table(box=None)
    for table, names in ((processes, PROCESS_COLUMNS), (jobs, JOB_COLUMNS)):
        for name in names:
            table.add_column(name, no_wrap=True)
    for one in state.processes:
        pid = str(one.process.pid) if one.process else ""
        processes.add_row(one.name, one.state, pid, _moment(one.since), str(one.restarts))
    for job in state.jobs:
        began = _moment(job.started) if job.started else ""
        doing = "runs" if job.process else "failed" if job.failed else "waits"
        jobs.add_row(job.name, doing, began, _moment(job.due))
    console = Console()
    console.print(f"{state.node} is {state.state} since {_moment(state.since)} (pid {state.supervisor.pid})\n")
    console.print(processes, jobs, sep="\n")
    endings = [(one.name, one.ended, one.log) for one in state.processes if one.ended]
    endings += [(job.name, job.ended, job.log) for job in state.jobs if job.failed]
    for name, ended, log in endings:
        console.print(escape(f"{name}: last time it {ended}" + (f": see {log}" if log else "")), soft_wrap=True)


def _moment(moment: datetime) -> str:
    return f"{moment:%m-%d %H:%M:%S}"
