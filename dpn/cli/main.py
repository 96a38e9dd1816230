"""`dpn --config FILE COMMAND …`.

Exit codes: 0 good, 1 what was asked about is bad or some of it failed, 2 unusable input or settings (what, where,
remedy on stderr).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dpn.cli import bag, cron, db, items, serve, token, worker
from dpn.errors import DpnError

EXIT_FAILED = 1
EXIT_UNUSABLE = 2

app = typer.Typer(
    name="dpn",
    help="A preservation node: pulls, validates, stores and keeps proving the bags of its peers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _main(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="The node's settings file; DPN_CONFIG may name it.", envvar="DPN_CONFIG")
    ] = None,
) -> None:
    context.obj = config


app.add_typer(db.app, name="db")
app.add_typer(bag.app, name="bag")
app.add_typer(items.item_app, name="item")
app.add_typer(token.app, name="token")
app.command("items")(items.list_all)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("sync")(cron.sync)
app.command("queue")(cron.queue)
app.command("cleanup")(cron.cleanup)


def run() -> None:
    """What the `dpn` program does: failures that we name end in one clear line, not in a traceback."""
    try:
        app()
    except DpnError as error:
        print(f"dpn: {error}", file=sys.stderr)
        sys.exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    run()
