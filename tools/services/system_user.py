"""Servers that refuse to run as root run as the user that their package made."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from tools.services.programs import MissingProgram


def system_user(name: str, server: str) -> str | None:
    """Whom to run `server` as: None, ourselves, unless we are root. Raises MissingProgram."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError as error:
        raise MissingProgram(f"the system user {name} ({server})") from error


def give(path: Path, user: str | None) -> None:
    """Makes `path` the user's; None is ourselves, whose it is."""
    if user is not None:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
