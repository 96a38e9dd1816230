"""The command line of bin/services. Exit 0 good, 1 a service does not run or cannot start, 2 unusable input."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tools.services.folder import Folder, UnusableFolder
from tools.services.lifecycle import SERVICES, down, state, up
from tools.services.programs import MissingProgram
from tools.services.service import StartFailed

DESCRIPTION = """\
Real servers for tests and demo, on free loopback ports, with all they own under DIR.

  up      starts the named services (all of them if none is named) and what they need; prints DIR/services.json
  down    stops those that this DIR started; --wipe removes their data as well, without NAME everything
  status  says how each one is; exit 1 if one that was started (or is named) does not run
"""

EPILOG = f"""\
services: {", ".join(SERVICES)}

A service keeps ports, keys, data and --set flags in DIR from one start to the next; its output is in DIR/NAME/log.
--set gives it flags of its own: nsqd.max-msg-timeout=3s, postgresql.fsync=on, sshd.MaxSessions=1.
PostgreSQL runs with fsync, full_page_writes and synchronous_commit off unless --set says otherwise.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped half-way, clean up as for Ctrl-C
    folder = Folder(options.dir)
    try:
        names = _names(options.names)
        flags = _flags(options.set if options.command == "up" else [])
        with folder.locked():
            return int(options.run(folder, names, flags, options))
    except (StartFailed, MissingProgram) as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    except (UnusableFolder, UnusableInput) as error:
        print(f"services: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


class UnusableInput(Exception):
    """The command line says something that we cannot do."""


def _up(folder: Folder, names: list[str], flags: dict[str, dict[str, str]], _: argparse.Namespace) -> int:
    for name in up(folder, names or list(SERVICES), flags):
        print(f"started {name}", file=sys.stderr)
    print(folder.document.read_text(encoding="utf-8"), end="")
    return 0


def _down(folder: Folder, names: list[str], _: dict[str, dict[str, str]], options: argparse.Namespace) -> int:
    for name in down(folder, names or list(SERVICES), wipe=options.wipe):
        print(f"stopped {name}", file=sys.stderr)
    if options.wipe and not names:
        folder.forget()
    return 0


def _status(folder: Folder, names: list[str], _: dict[str, dict[str, str]], options: argparse.Namespace) -> int:
    states = {name: state(folder, name) for name in names or list(SERVICES)}
    started = folder.entries()
    if options.json:
        document = {name: {"state": state, **started.get(name, {})} for name, state in states.items()}
        print(json.dumps({"dir": str(folder.path), "services": document}, indent=1))
    else:
        for name, condition in states.items():
            print(f"{name:<12} {condition}")
    asked = names or list(started)
    return 0 if asked and all(states[name] == "runs" for name in asked) else 1


def _names(names: list[str]) -> list[str]:
    for name in names:
        if name not in SERVICES:
            raise UnusableInput(f"{name}: no such service: name some of {', '.join(SERVICES)}")
    return names


def _flags(settings: list[str]) -> dict[str, dict[str, str]]:
    flags: dict[str, dict[str, str]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, flag = target.partition(".")
        if name not in SERVICES or not (equals and dot and flag):
            raise UnusableInput(
                f"--set {setting}: write SERVICE.FLAG=VALUE with a service of {', '.join(SERVICES)}"
            )
        flags.setdefault(name, {})[flag] = value
    return flags


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bin/services",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="up|down|status")
    for name, run in (("up", _up), ("down", _down), ("status", _status)):
        command = commands.add_parser(
            name, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.set_defaults(run=run)
        command.add_argument("--dir", type=Path, required=True, metavar="DIR", help="the folder that holds it all")
        command.add_argument("names", nargs="*", metavar="NAME", help="a service; none: all")
        if name == "up":
            command.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="SERVICE.FLAG=VALUE",
                help="a flag of the server itself",
            )
        if name == "down":
            command.add_argument("--wipe", action="store_true", help="remove the services' data, too")
        if name == "status":
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
