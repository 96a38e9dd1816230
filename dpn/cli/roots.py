"""`dpn roots`: the named places of objects in the settings, and whether they answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Annotated

import typer

from dpn.cli.node import ConfigOption, settings_of
from dpn.cli.tables import print_table
from dpn.errors import DpnError
from dpn.objects.roots import open_root
from dpn.objects.settings import RootSettings

EXIT_FAILED = 1


@dataclass(frozen=True)
class RootState:
    """One root as an operator is shown it."""

    name: str
    place: str
    access: str
    allow: tuple[str, ...]
    problem: str | None
    """Why it cannot be listed; None if that was not tried, or worked."""


def roots(
    context: typer.Context,
    config: ConfigOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask each whether it can be listed; exit 1 if one cannot.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
) -> None:
    """Show the named places of objects in the settings; with --check, whether they answer."""
    settings, _ = settings_of(context, config)
    found = [_state(name, root, check=check) for name, root in sorted(settings.roots.items())]
    if as_json:
        for state in found:
            print(json.dumps(asdict(state)))
    else:
        headings = ("name", "place", "access", "allow", "problem")
        rows = [(one.name, one.place, one.access, " ".join(one.allow), one.problem or "") for one in found]
        print_table(headings, rows, alarming=[one.problem is not None for one in found])
    if any(one.problem is not None for one in found):
        raise typer.Exit(EXIT_FAILED)


def _state(name: str, root: RootSettings, *, check: bool) -> RootState:
    place = root.url or f"rclone: {root.rclone_remote or root.rclone_type}"
    return RootState(name, place, root.access, root.allow, _problem(name, root) if check else None)


def _problem(name: str, root: RootSettings) -> str | None:
    """Why not a single object can be listed. Of a root that is written only nothing is asked."""
    if root.access == "write":
        return None
    try:
        list(islice(open_root(name, root, max_connections=1).walk(), 1))
    except (DpnError, OSError) as error:
        return str(error)
    return None
