"""One node of a network: its place, its database, its processes, and what an operator can make it do."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dpn.cli.processes.node import WorkerSplit, dpn_program, plan
from dpn.database import Sessions, open_engine, open_sessions, upgrade
from dpn.settings import Settings
from dpn.settings_file import load_settings
from dpn.supervision.running import Program, Running
from dpn.supervision.supervisor import Supervisor
from tools.network.environment import clean_environment, find_program
from tools.network.errors import Broken
from tools.network.place import Place, Ports
from tools.services.ports import LOOPBACK

WORKER, RSYNCD = "worker", "rsyncd"
"""What every node runs beside its registry server."""

COMMAND_SECONDS = 120.0
HTTP_SECONDS = 5.0
MAX_ANSWER_BYTES = 1_000_000


class RunningNode:
    """See the module's docstring."""

    def __init__(self, place: Place, database_url: str, supervisor: Supervisor) -> None:
        self.place = place
        self._supervisor = supervisor
        self._engine = open_engine(database_url, pool_size=1)
        self.sessions: Sessions = open_sessions(self._engine)
        self.ports = Ports(0, 0)
        self.peer_token = ""
        """A token that it issued to one of its peers."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def settings(self) -> Settings:
        """As its processes read them. Raises SettingsError."""
        return load_settings(self.place.settings_file, environment={})

    def run(self, *command: str, timeout_seconds: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        """Runs `dpn --config … COMMAND` to its end, as an operator would, and returns what it said."""
        log = self.place.logs / f"dpn-{command[0]}.run"
        log.unlink(missing_ok=True)
        program = self.program(" ".join(command), *command, log=log)
        running = Running(program)
        try:
            ending = running.wait(timeout_seconds)
        finally:
            running.kill()
        return subprocess.CompletedProcess(program.arguments, ending.code, log.read_text(encoding="utf-8"))

    def cron(self, *jobs: str) -> subprocess.CompletedProcess[str]:
        """One run of these jobs, by default of sync and queue."""
        return self.run("cron", *(jobs or ("sync", "queue")))

    def start(self, process: str, *command: str) -> Running:
        """Starts a process and keeps it running. `process` is serve, worker or rsyncd, or a name for a further one
        that runs `dpn COMMAND`, e.g. `start("second", "worker", "copy")`."""
        return self._supervisor.keep(self._program_of(process, command))

    def stop(self, *processes: str) -> None:
        """Stops processes in order, and wants them no more."""
        self._supervisor.drop(*(f"{self.name}/{process}" for process in processes))

    def process(self, process: str) -> Running | None:
        """The process of that name, if it runs."""
        return self._supervisor.running(f"{self.name}/{process}")

    def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signals a process that is kept running; returns its pid. It is started again at the next tick.

        Raises Broken if it does not run.
        """
        running = self.process(process)
        if running is None:
            raise Broken(f"{self.name}/{process} does not run")
        running.send(number)
        return running.pid

    def program(self, name: str, *command: str, log: Path | None = None) -> Program:
        """`dpn --config …/node.toml COMMAND` of this node."""
        return dpn_program(
            f"{self.name}/{name}",
            self.place.settings_file,
            *command,
            environment=clean_environment(os.environ),
            log=log or self.place.logs / f"{name}.output",
        )

    def answers(self) -> bool:
        """Whether its registry server answers requests, and it is this node's and no stranger's."""
        connection = http.client.HTTPConnection(LOOPBACK, self.ports.registry, timeout=HTTP_SECONDS)
        try:
            headers = {"Authorization": f"Token token={self.peer_token}"}
            connection.request("GET", f"/api-v2/node/{self.name}", headers=headers)
            answer = json.loads(connection.getresponse().read(MAX_ANSWER_BYTES))
        except (OSError, ValueError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return isinstance(answer, dict) and answer.get("namespace") == self.name

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def create_database(self) -> None:
        upgrade(self._engine)

    def _program_of(self, process: str, command: Sequence[str]) -> Program:
        if process == RSYNCD:
            options = ("--daemon", "--no-detach", f"--config={self.place.rsyncd_configuration}")
            arguments = (find_program("rsync", "rsync"), *options)
            log = self.place.logs / "rsyncd.output"
            return Program(f"{self.name}/{process}", arguments, clean_environment(os.environ), log)
        if command:
            return self.program(process, *command)
        settings = self.settings
        environment = clean_environment(os.environ)
        programs = plan(
            settings, self.place.settings_file, workers=WorkerSplit.ALL, environment=environment
        ).programs
        program = next(program for program in programs if program.name == process)
        hint = f"what it ran goes on when its lease of {settings.work.lease_seconds:g} s is over"
        return replace(program, name=f"{self.name}/{process}", if_killed=hint if process == WORKER else "")
