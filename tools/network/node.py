"""One node of a network: its place, its database, its processes, and what an operator can make it do."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dpn.database import Sessions, open_engine, open_sessions, upgrade
from dpn.settings import Settings
from dpn.settings_file import load_settings
from tools.network.errors import Broken
from tools.network.place import Place, Ports
from tools.network.processes import Program, Running, find_program
from tools.network.supervisor import Supervisor
from tools.services.ports import LOOPBACK

SERVE, WORKER, RSYNCD = "serve", "worker", "rsyncd"
"""The processes that every node has."""

COMMAND_SECONDS = 120.0
HTTP_SECONDS = 5.0
MAX_ANSWER_BYTES = 1_000_000


class Node:
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
        """Runs `dpn --config … COMMAND` to its end, as an operator would, and answers what it said."""
        log = self.place.logs / f"dpn-{command[0]}.run"
        log.unlink(missing_ok=True)
        program = self.program(" ".join(command), *command, log=log)
        running = Running(program)
        try:
            ending = running.wait(timeout_seconds)
        finally:
            running.kill()
        return subprocess.CompletedProcess(program.arguments, ending.code, log.read_text(encoding="utf-8"))

    def sync(self) -> subprocess.CompletedProcess[str]:
        """One run of `dpn_sync`."""
        return self.run("sync")

    def queue(self) -> subprocess.CompletedProcess[str]:
        """One run of `dpn_queue`."""
        return self.run("queue")

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
        """Signals a process that is kept running; answers its pid. It is started again at the next tick.

        Raises Broken if it does not run.
        """
        running = self.process(process)
        if running is None:
            raise Broken(f"{self.name}/{process} does not run")
        running.send(number)
        return running.pid

    def program(self, name: str, *command: str, log: Path | None = None) -> Program:
        """`dpn --config …/node.toml COMMAND` of this node."""
        arguments = (
            sys.executable,
            "-P",
            "-m",
            "dpn.cli.main",
            "--config",
            str(self.place.settings_file),
            *command,
        )
        return Program(f"{self.name}/{name}", arguments, log or self.place.logs / f"{name}.output")

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
        match process:
            case "serve":
                return self.program(process, "serve")
            case "worker":
                lease = self.settings.work.lease_seconds
                hint = f"what it ran goes on when its lease of {lease:g} s is over"
                return replace(self.program(process, "worker", "all"), if_killed=hint)
            case "rsyncd":
                rsync = find_program("rsync", "rsync")
                options = ("--daemon", "--no-detach", f"--config={self.place.rsyncd_configuration}")
                return Program(f"{self.name}/{process}", (rsync, *options), self.place.logs / "rsyncd.output")
            case _:
                return self.program(process, *command)
