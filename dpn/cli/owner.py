"""Whose a node's data are: a command that runs as another user would leave files that the node cannot use."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dpn.errors import Misconfigured

if TYPE_CHECKING:
    from dpn.settings import Settings

AS_ROOT_ANYWAY = "--as-root-anyway"
AS_ROOT_ANYWAY_VARIABLE = "DPN_AS_ROOT_ANYWAY"
"""Says the same, to the processes that a command starts."""

ROOT = 0
SQLITE = "sqlite:///"


def runs_anyway(context: typer.Context) -> bool:
    """Whether `--as-root-anyway` was given, or its variable."""
    return bool(context.find_root().params["as_root_anyway"])


def require_owner(settings: Settings, uid: int | None = None) -> None:
    """Raises Misconfigured if `uid`, by default our own, is not the owner of what the node has made."""
    uid = os.geteuid() if uid is None else uid
    for path in _made(settings):
        with suppress(OSError):  # whoever needs it says so
            if not path.exists() and uid == ROOT:
                path = path.parent  # root would make it there, whosever the folder is
            owner = path.stat().st_uid
            if owner != uid:
                name = _name(owner)
                raise Misconfigured(
                    f"{path} belongs to {name}, and this runs as {_name(uid)}: {name} could not use what "
                    f"it makes: run it as {name} (root: runuser -u {name} -- dpn …), or say {AS_ROOT_ANYWAY}"
                )


def _made(settings: Settings) -> Iterator[Path]:
    """What the node makes itself, and shares among its processes."""
    from dpn.staging.volumes import MARKER

    with suppress(Misconfigured):  # likewise
        address = settings.database.address()
        if address.startswith(SQLITE):
            yield Path(address.removeprefix(SQLITE).partition("?")[0])
    for volume in settings.staging.volumes.values():
        yield volume / MARKER


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
