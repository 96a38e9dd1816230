"""rsyncd: an rsync daemon that serves one folder, read-only, openly and behind a password."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tools.services.ports import LOOPBACK
from tools.services.process import Launch, environment
from tools.services.programs import find
from tools.services.service import ANSWER_SECONDS, Home, NotReady, Service

OPEN_MODULE = "outbound"
LOCKED_MODULE = "locked"
USER = "dpn"

CONFIGURATION = """\
# Written by bin/services at every start.
port = {port}
address = {host}
log file = {log}
{identity}
use chroot = no
reverse lookup = no
socket options = TCP_NODELAY
read only = yes
list = yes
hosts allow = {host}

[{open_module}]
path = {root}

[{locked_module}]
path = {root}
auth users = {user}
secrets file = {secrets_file}
"""


class Rsyncd(Service):
    """An rsync daemon. `--set rsyncd.NAME=VALUE` passes `--dparam=NAME=VALUE`, a parameter of rsyncd.conf."""

    name = "rsyncd"
    port_names = ("tcp",)

    def prepare(self, home: Home) -> Launch:
        configuration = CONFIGURATION.format(
            host=LOOPBACK,
            port=home.ports["tcp"],
            log=home.path / "transfers.log",
            identity=_identity(),
            open_module=OPEN_MODULE,
            locked_module=LOCKED_MODULE,
            root=home.folder("outbound"),
            user=USER,
            secrets_file=_private(home.path / "secrets", f"{USER}:{home.secret('password')}\n"),
        )
        _private(home.path / "password", home.secret("password") + "\n")
        path = home.path / "rsyncd.conf"
        path.write_text(configuration, encoding="utf-8")
        flags = [f"--dparam={name}={value}" for name, value in home.flags.items()]
        return Launch([find("rsync"), "--daemon", "--no-detach", f"--config={path}", *flags], {})

    def entry(self, home: Home) -> dict[str, Any]:
        root = str(home.path / "outbound")
        return {
            "host": LOOPBACK,
            "port": home.ports["tcp"],
            "modules": {OPEN_MODULE: root, LOCKED_MODULE: root},
            "user": USER,
            "password_file": str(home.path / "password"),
        }

    def check(self, entry: dict[str, Any]) -> None:
        url = f"rsync://{entry['host']}:{entry['port']}/{OPEN_MODULE}/"
        require_listing([f"--contimeout={round(ANSWER_SECONDS)}", url], url)


def require_listing(arguments: list[str], where: str) -> None:
    """Raises NotReady unless `rsync --list-only` with these arguments lists something."""
    listing = subprocess.run(
        [find("rsync"), "--list-only", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=4 * ANSWER_SECONDS,
        check=False,
    )
    if listing.returncode != 0:
        raise NotReady(f"rsync --list-only {where}: {listing.stderr.strip()}")


def _identity() -> str:
    """Root's daemon would read as nobody, who may not walk to DIR; anybody else's stays who it is."""
    return "uid = root\ngid = root" if os.geteuid() == 0 else ""


def _private(path: Path, content: str) -> Path:
    """Writes what only we may read: rsync refuses such a file if others may."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(content, encoding="ascii")
    return path
