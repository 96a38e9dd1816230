"""`dpn --config FILE COMMAND …`.

Exit codes: 0 good, 1 what was asked about is bad or some of it failed, 2 unusable input or settings (what, where,
remedy on stderr).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dpn.errors import DpnError

EXIT_UNUSABLE = 2

COMMANDS = {
    "bag": "dpn.cli.bag:app",
    "db": "dpn.cli.db:app",
    "token": "dpn.cli.token:app",
    "registry": "dpn.cli.registry:app",
    "serve": "dpn.cli.serve:serve",
    "worker": "dpn.cli.worker:worker",
    "sync": "dpn.cli.cron:sync",
    "queue": "dpn.cli.cron:queue",
    "cleanup": "dpn.cli.cron:cleanup",
    "ingest": "dpn.cli.ingest:app",
    "member": "dpn.cli.member:app",
    "fixity": "dpn.cli.fixity:app",
    "restore": "dpn.cli.restore.commands:app",
    "drill": "dpn.cli.drill:drill",
    "items": "dpn.cli.items:list_all",
    "item": "dpn.cli.items:item_app",
}
"""Where each command is defined: a Typer app, or the function of a single command."""


class LazyCommands(TyperGroup):
    """Imports a command's module only when that command is asked for: validating a bag needs no database."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        return _command(cmd_name, getattr(import_module(module), attribute))


def _command(name: str, defined: typer.Typer | Callable[..., Any]) -> Any:
    if not isinstance(defined, typer.Typer):
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(name)(defined)
        defined = single
    command = typer.main.get_command(defined)
    command.name = name
    return command


app = typer.Typer(
    name="dpn",
    help="A preservation node: ingests, replicates, stores, keeps proving and hands back bags.",
    cls=LazyCommands,
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


def run() -> None:
    """What the `dpn` program does: failures that we name end in one clear line, not in a traceback."""
    try:
        app(prog_name="dpn")
    except DpnError as error:
        _end(str(error))
    except Exception as error:
        if "sqlalchemy" not in sys.modules:
            raise
        from sqlalchemy.exc import DatabaseError, OperationalError

        # DatabaseError itself, no kind of it, is what SQLite says of a file that is no database.
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
            raise
        _end(f"the database cannot be used ({str(error.orig).strip()}): check database.url and that it runs")


def _end(message: str) -> NoReturn:
    print(f"dpn: {message}", file=sys.stderr)
    sys.exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    run()
