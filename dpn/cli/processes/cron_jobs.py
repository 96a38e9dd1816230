"""`dpn cron JOB …`: several of cron's jobs one after the other, in one process, which starts but once."""

from __future__ import annotations

from typing import Annotated

import typer

from dpn.cli.node import ConfigOption, settings_of
from dpn.cli.owner import AS_ROOT_ANYWAY, runs_anyway
from dpn.cli.processes.node import JOBS
from dpn.errors import Misconfigured


def cron(
    context: typer.Context,
    jobs: Annotated[list[str], typer.Argument(metavar="JOB", help=f"Of {', '.join(JOBS)}.")],
    config: ConfigOption = None,
) -> None:
    """Run jobs of cron's in this order, each as if by itself.

    Exit 1 if any of them failed.
    """
    if unknown := [job for job in jobs if job not in JOBS]:
        raise Misconfigured(f"no job {unknown[0]!r}: choose of {', '.join(JOBS)}")
    _, path = settings_of(context, config)
    dpn = context.find_root().command
    options = ["--config", str(path), *([AS_ROOT_ANYWAY] if runs_anyway(context) else [])]
    worst = 0
    problem: Exception | None = None
    for job in jobs:
        try:
            code = dpn.main([*options, *JOBS[job].command], prog_name="dpn", standalone_mode=False)
            worst = max(worst, code or 0)
        except Exception as error:  # noqa: BLE001  (the others are still to run; the first one's end is ours)
            problem = problem or error
    if problem is not None:
        raise problem
    raise typer.Exit(worst)
