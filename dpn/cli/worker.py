"""`dpn worker STAGE`: the long-running worker of one stage, or of all in one process."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.errors import Misconfigured
from dpn.node import OpenNode
from dpn.work.pipeline import StageSpec
from workers.pipelines import PIPELINES, WORKERS, stages_of

if TYPE_CHECKING:
    from workers.runner.worker import Worker

ALL = "all"


def worker(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(WORKERS)}, {ALL}.")],
    config: ConfigOption = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Items at once; default work.concurrency.")
    ] = None,
) -> None:
    """Run the worker of a stage until told to stop (SIGTERM: finish what runs, take nothing new)."""
    specs = _specs(stage)
    with open_node(context, config, f"dpn-worker-{stage}") as node:
        asyncio.run(_open(node, stage, specs, concurrency or node.settings.work.concurrency).run())


def _specs(stage: str) -> list[StageSpec]:
    specs = PIPELINES.all_specs() if stage == ALL else stages_of(stage.replace("_", "-"))
    if not specs:
        raise Misconfigured(f"no worker for stage {stage!r}: choose one of {', '.join([*WORKERS, ALL])}")
    return specs


def _open(node: OpenNode, name: str, specs: list[StageSpec], concurrency: int) -> Worker:
    # Imported here: what one stage needs (boto3, pynsq) is not loaded for a process that does not run it.
    from dpn.work.breakers import Breakers
    from workers.pipelines import build
    from workers.runner.process import open_worker
    from workers.runner.services import Services, breaker_policy

    jitter = random.SystemRandom().random
    breakers = Breakers(node.sessions, breaker_policy(node.settings.work), clock=node.clock, jitter=jitter)
    services = Services(node, pipelines=PIPELINES, breakers=breakers)
    stages = {spec: build(spec, services) for spec in specs}
    return open_worker(
        services, stages, name=name, host=socket.gethostname(), concurrency=concurrency, jitter=jitter
    )
