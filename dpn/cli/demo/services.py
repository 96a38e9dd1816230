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

from dpn.cli.demo.errors import Broken, Unusable
from dpn.cli.demo.processes import checkout, clean_environment

DOCUMENT = "services.json"
"""Written by bin/services: which servers were started and not stopped."""

CLEAN_UP_SECONDS = 60.0


@dataclass(frozen=True)
class Services:
    """The servers of one folder."""

    directory: Path

    @property
    def started(self) -> bool:
        """Whether any of them may run."""
        try:
            document = json.loads((self.directory / DOCUMENT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        return bool(document["services"])

    def up(self, *names: str) -> dict[str, dict[str, Any]]:
        """Starts what does not run of `names`; answers every server's addresses. Raises Broken, Unusable."""
        document: dict[str, dict[str, dict[str, Any]]] = json.loads(self._run("up", *names))
        return document["services"]

    def down(self) -> None:
        """Stops all of them; their data stays. Raises Broken, Unusable."""
        if self.started:
            self._run("down")

    def _run(self, command: str, *arguments: str) -> str:
        with subprocess.Popen(
            (program(), command, "--dir", self.directory, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(os.environ),
            start_new_session=True,
        ) as process:
            try:
                output, problems = process.communicate()
            except BaseException:
                process.send_signal(signal.SIGTERM)  # it takes back what it had begun to start
                process.wait(CLEAN_UP_SECONDS)
                raise
        if process.returncode != 0:
            raise Broken(f"bin/services {command} {' '.join(arguments)} failed:\n{problems.strip()}")
        return output


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
    for pattern in (f"services/{DOCUMENT}", f"*/services/{DOCUMENT}"):
        for document in sorted(directory.glob(pattern)):
            _stop(Services(document.parent), say)


def _stop(services: Services, say: Callable[[str], None]) -> None:
    try:
        services.down()
    except Broken as error:
        say(str(error))
