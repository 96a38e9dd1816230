"""`dpn --config FILE COMMAND …`.

Exit codes: 0 good, 1 what was asked about is bad or some of it failed, 2 unusable input or settings (what, where,
remedy on stderr).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from dpn.cli.owner import AS_ROOT_ANYWAY, AS_ROOT_ANYWAY_VARIABLE
from dpn.errors import DpnError

EXIT_UNUSABLE = 2

OTHERS_OUT = 0o027
"""The umask at least: what a process makes is for its own user and its group, whatever starts it."""


class CommandEntry(NamedTuple):
    """Where a command is defined, a Typer app or the function of a single command, and what it does in a line."""

    defined: str
    help: str


COMMANDS = {
    "bag": CommandEntry("dpn.cli.bag:app", "Validate and build bags."),
    "db": CommandEntry("dpn.cli.db:app", "The node's database."),
    "backup": CommandEntry(
        "dpn.cli.backup:backup",
        "Make DIR with a copy of the database, an export of the registry, and the settings without their secrets.",
    ),
    "token": CommandEntry("dpn.cli.token:app", "The tokens that others show us."),
    "peer": CommandEntry("dpn.cli.peer.commands:app", "The other nodes of the network."),
    "registry": CommandEntry(
        "dpn.cli.registry:app",
        "The registry as a whole: into a file, out of one, and what sync has set aside.",
    ),
    "serve": CommandEntry(
        "dpn.cli.serve:serve",
        "Run the services named until told to stop (SIGTERM: answer what was asked, take nothing new).",
    ),
    "worker": CommandEntry(
        "dpn.cli.worker:worker",
        "Run the worker of a stage until told to stop (SIGTERM: finish what runs, take nothing new).",
    ),
    "node": CommandEntry(
        "dpn.cli.processes.commands:app", "The processes of the node on this machine, without systemd."
    ),
    "cron": CommandEntry(
        "dpn.cli.processes.cron_jobs:cron", "Run jobs of cron's in this order, each as if by itself."
    ),
    "sync": CommandEntry("dpn.cli.processes.cron:sync", "Pull the records of the other nodes into our registry."),
    "queue": CommandEntry(
        "dpn.cli.processes.cron:queue",
        "Make work items of open transfers, of bags that other nodes ask back and of fixity checks whose time has "
        "come; announce whatever is due.",
    ),
    "cleanup": CommandEntry(
        "dpn.cli.processes.cron:cleanup",
        "Release and remove what no item needs any more: reservations, staged bytes, old quarantine, dead "
        "uploads, offers. Count anew what lists hold.",
    ),
    "ingest": CommandEntry(
        "dpn.cli.ingest:app",
        "Deposit content: it becomes a bag with as many proven copies as are wanted.",
    ),
    "member": CommandEntry("dpn.cli.member:app", "The institutions whose content the network keeps."),
    "fixity": CommandEntry("dpn.cli.fixity.commands:app", "Checks of stored copies."),
    "store": CommandEntry("dpn.cli.store.commands:app", "The long-term store as a whole."),
    "roots": CommandEntry(
        "dpn.cli.roots:roots",
        "Show the named places of objects in the settings; with --check, whether they answer.",
    ),
    "restore": CommandEntry("dpn.cli.restore.commands:app", "Bags back from other nodes, or from our own store."),
    "drill": CommandEntry(
        "dpn.cli.fixity.drill:drill",
        "Bring random bags back to scratch space and prove them: a restore drill, for cron.",
    ),
    "items": CommandEntry(
        "dpn.cli.items:list_all",
        "List work items: where each is, since when, and why. With --json one JSON object a line.",
    ),
    "item": CommandEntry("dpn.cli.items:item_app", "One work item."),
}


class LazyCommands(TyperGroup):
    """Imports a command's module only when that command is asked for: validating a bag needs no database."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes `--as-root-anyway` wherever on the command line it stands."""
        rest = [word for word in args if word != AS_ROOT_ANYWAY]
        return super().parse_args(ctx, [*[AS_ROOT_ANYWAY] * (len(rest) < len(args)), *rest])

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].defined.partition(":")
        gc.disable()  # what an import makes stays: looking for garbage among it is a tenth of a start, in vain
        try:
            defined = getattr(import_module(module), attribute)
        finally:
            gc.freeze()
            gc.enable()
        return _command(cmd_name, defined)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Lists what there is without importing any of it."""
        listed: dict[str, Any] = {
            name: TyperCommand(name, help=command.help) for name, command in COMMANDS.items()
        }
        TyperGroup(
            name=self.name,
            commands=listed,
            help=self.help,
            params=self.params,
            rich_markup_mode=self.rich_markup_mode,
        ).format_help(ctx, formatter)


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
    as_root_anyway: Annotated[
        bool,
        typer.Option(
            AS_ROOT_ANYWAY,
            help="Work on a node's data although they are another user's, who could not use what is made.",
            envvar=AS_ROOT_ANYWAY_VARIABLE,
        ),
    ] = False,
) -> None:
    context.obj = config


def run() -> None:
    """What the `dpn` program does: failures that we name end in one clear line, not in a traceback."""
    os.umask(os.umask(OTHERS_OUT) | OTHERS_OUT)
    try:
        app(prog_name="dpn")
    except DpnError as error:
        _end(str(error))
    except Exception as error:
        if "sqlalchemy" not in sys.modules:
            raise
        from sqlalchemy.exc import DatabaseError, OperationalError

        from dpn.database import ADDRESS

        # DatabaseError itself, no kind of it, is what SQLite says of a file that is no database.
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
            raise
        _end(f"the database cannot be used ({str(error.orig).strip()}): check {ADDRESS} and that it runs")


def _end(message: str) -> NoReturn:
    print(f"dpn: {message}", file=sys.stderr)
    sys.exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    run()
