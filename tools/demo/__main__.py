"""`python -m tools.demo`, started by bin/demo. Exit codes: 0 every bag has a verified copy on every other node
(and, with --corrupt, what was spoilt was repaired), 1 not so, 2 unusable input, 128 and the signal's number if it
was stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tools.demo.run import Order, run_demo
from tools.demo.s3_sources import s3_settings
from tools.network.backends import BrokerKind, DatabaseKind, Kinds, StoreKind
from tools.network.environment import clean_environment
from tools.network.errors import EXIT_NOT_EVERYWHERE, EXIT_UNUSABLE, Broken, StopRequested, Unusable
from tools.network.place import FEWEST_NODES, MOST_NODES

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]…",
            help="A folder or a BagIt bag (folder or tar), which is packaged; a valid DPN bag in a tar, which is "
            "taken as it is; s3://bucket/prefix/, reached as AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY say. None: a sample.",
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=FEWEST_NODES, max=MOST_NODES, help="How many nodes.")] = 3,
    broker: Annotated[BrokerKind, typer.Option(help="How workers hear of work.")] = BrokerKind.EMBEDDED,
    database: Annotated[DatabaseKind, typer.Option(help="Where nodes keep their records.")] = DatabaseKind.SQLITE,
    store: Annotated[StoreKind, typer.Option(help="Where nodes store bags.")] = StoreKind.FILE,
    workdir: Annotated[
        Path | None, typer.Option(help="Where the nodes live: an empty or new folder, or an earlier demo's.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder as it is at the end.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result there as JSON; -: on stdout.")
    ] = None,
    corrupt: Annotated[
        bool,
        typer.Option(
            "--corrupt",
            help="In the end, flip a bit in one stored copy and delete another: fixity checks find it, and good "
            "copies from other nodes take their place.",
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Give up after so long; default 600 and more for large bags."),
    ] = None,
) -> None:
    """Run a small network of preservation nodes on this machine and replicate bags from the first to all others.

    Every node is real processes with a database, a registry server, an rsync daemon and a store of its own. Kill
    any of them and watch: it is started again, and the bag arrives. Last of all, every copy is read back.
    """
    kinds = Kinds(broker, database, store)
    s3 = s3_settings(os.environ)
    order = Order(sources or [], nodes, kinds, workdir, keep, json_file, timeout, s3, corrupt)
    raise typer.Exit(_exit_code(order))


def _exit_code(order: Order) -> int:
    for name in os.environ.keys() - clean_environment(os.environ).keys():
        del os.environ[name]  # nothing from outside may steer what we do at the nodes' databases and stores
    try:
        return run_demo(order)
    except Unusable as error:
        return _say(f"demo: {error}", EXIT_UNUSABLE)
    except Broken as error:
        return _say(f"demo: {error}", EXIT_NOT_EVERYWHERE)
    except OSError as error:  # a full disk, a process that cannot be started: its text says what and where
        return _say(f"demo: {error}", EXIT_NOT_EVERYWHERE)
    except StopRequested as stopped:
        return _say(f"demo: stopped by {stopped.number.name}", stopped.exit_code)


def _say(text: str, exit_code: int) -> int:
    print(text, file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    app()
