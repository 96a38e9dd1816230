"""The real servers that a network stands on, started and stopped by `bin/services`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpn.cancellation import Cancellation
from dpn.supervision.running import tied_to_us
from tools.network.environment import checkout, clean_environment
from tools.network.errors import Broken, Unusable

FOLDER = "services"
"""What the folder of servers is called, in the network's own and in a node's."""

LOOK_SECONDS = 0.1
CLEAN_UP_SECONDS = 60.0


@dataclass(frozen=True)
class StartedServices:
    """The servers of one folder."""

    directory: Path

    def up(self, *names: str, cancellation: Cancellation) -> dict[str, dict[str, Any]]:
        """Starts what does not run of `names`; returns every server's addresses. Raises Broken, Unusable."""
        document: dict[str, dict[str, dict[str, Any]]] = json.loads(
            self._run("up", *names, cancellation=cancellation)
        )
        return document["services"]

    def down(self) -> None:
        """Stops all of them; their data stays. Waits for an `up` that is under way. Raises Broken, Unusable."""
        if self.directory.exists():
            self._run("down", cancellation=Cancellation())

    def _run(self, command: str, *arguments: str, cancellation: Cancellation) -> str:
        """Runs bin/services. Told to stop, or with us gone, it takes back what it had begun to start."""
        with subprocess.Popen(
            tied_to_us(str(program()), command, "--dir", str(self.directory), *arguments, number=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(os.environ),
            start_new_session=True,
        ) as process:
            try:
                output, problems = _follow(process, cancellation)
            except BaseException:
                process.send_signal(signal.SIGTERM)
                process.wait(CLEAN_UP_SECONDS)
                raise
        if process.returncode != 0:
            raise Broken(f"bin/services {command} {' '.join(arguments)} failed:\n{problems.strip()}")
        return output


def _follow(process: subprocess.Popen[str], cancellation: Cancellation) -> tuple[str, str]:
    while True:
        cancellation.check()
        try:
            return process.communicate(timeout=LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def program() -> Path:
    """bin/services of this checkout. Raises Unusable."""
    path = checkout() / "bin" / "services"
    if not path.exists():
        raise Unusable(
            f"{path}: no such program: nsq, postgresql, s3 and glacier need a checkout, run bin/demo there"
        )
    return path


def stop_below(directory: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Stops every server that a network in `directory` may have left running."""
    for pattern in (FOLDER, f"*/{FOLDER}"):
        for folder in sorted(directory.glob(pattern)):
            _stop(StartedServices(folder), say)


def _stop(services: StartedServices, say: Callable[[str], None]) -> None:
    try:
        services.down()
    except Broken as error:
        say(str(error))
