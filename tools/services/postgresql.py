"""postgresql: a cluster of its own, with a password, over TCP only.

The server refuses to run as root; root starts it as the user `postgres`. That user may be unable to walk to DIR
(a parent that only root may enter), so the server is handed its folder as an open descriptor and reaches it
through /proc/self/fd: nothing has to lie outside DIR.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.services.ports import LOOPBACK
from tools.services.process import Launch, environment
from tools.services.programs import find, postgresql_folders
from tools.services.service import ANSWER_SECONDS, Home, NotReady, Service, StartFailed
from tools.services.system_user import give, system_user

USER = "dpn"
DATABASE = "postgres"
SYSTEM_USER = "postgres"
FAST_BUT_UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Test data need not survive a power cut. `--set postgresql.fsync=on` (and so on) has the production values."""

INITDB_SECONDS = 120


class Postgresql(Service):
    """A PostgreSQL server. `--set postgresql.NAME=VALUE` passes `-c NAME=VALUE`."""

    name = "postgresql"
    port_names = ("tcp",)
    stop_signal = signal.SIGINT  # "fast": ends the sessions, keeps the data whole

    def prepare(self, home: Home) -> Launch:
        user = system_user(SYSTEM_USER, "PostgreSQL")
        programs = _program_folder()
        give(home.path, user)
        descriptor = os.open(home.path, os.O_PATH | os.O_DIRECTORY)
        reachable = Path(f"/proc/self/fd/{descriptor}")
        if not (home.path / "data" / "PG_VERSION").exists():
            _make_cluster(home, programs, reachable, user, descriptor)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(home.ports["tcp"]),
            "unix_socket_directories": "",
            "max_connections": "300",
            **FAST_BUT_UNSAFE,
            **home.flags,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(programs / "postgres"), "-D", str(reachable / "data"), *options]
        return Launch(argv, {}, user=user, keep_open=(descriptor,))

    def entry(self, home: Home) -> dict[str, Any]:
        password = home.secret("password")
        return {
            "url": f"postgresql+psycopg://{USER}:{password}@{home.address('tcp')}/{DATABASE}",
            "host": LOOPBACK,
            "port": home.ports["tcp"],
            "user": USER,
            "password": password,
            "database": DATABASE,
        }

    def check(self, entry: dict[str, Any]) -> None:
        import psycopg  # only here: status and down of the other services need no driver

        try:
            with psycopg.connect(
                host=entry["host"],
                port=entry["port"],
                user=entry["user"],
                password=entry["password"],
                dbname=entry["database"],
                connect_timeout=round(ANSWER_SECONDS),
            ) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise NotReady(f"SELECT 1 at {entry['host']}:{entry['port']}: {error}") from error


def _program_folder() -> Path:
    """Where initdb is there is the postgres of the same version, whatever links lead there."""
    return Path(find("initdb", *postgresql_folders())).resolve().parent


def _make_cluster(home: Home, programs: Path, reachable: Path, user: str | None, descriptor: int) -> None:
    shutil.rmtree(home.path / "data", ignore_errors=True)  # what an interrupted initdb left
    with _password_file(home, user) as password_file:
        initdb = subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={reachable / 'data'}",
                f"--username={USER}",
                f"--pwfile={reachable / password_file.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            env=environment(),
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            pass_fds=(descriptor,),
            timeout=INITDB_SECONDS,
            check=False,
        )
    if initdb.returncode != 0:
        raise StartFailed(f"postgresql: initdb failed:\n{initdb.stdout[-1000:]}{initdb.stderr[-2000:]}".rstrip())


@contextmanager
def _password_file(home: Home, user: str | None) -> Iterator[Path]:
    path = home.path / "password"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    give(path, user)
    path.write_text(home.secret("password") + "\n", encoding="ascii")
    try:
        yield path
    finally:
        path.unlink()
