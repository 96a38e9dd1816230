"""`dpn backup DIR`: what a node cannot be rebuilt without, as it is at one moment, while everything runs."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import URL, make_url

from dpn.cli.node import ConfigOption, open_node
from dpn.database import schema_of
from dpn.errors import Misconfigured
from dpn.files import replace_file, sync_folder
from dpn.node import OpenNode
from dpn.registry import archive

SQLITE_COPY = "dpn.sqlite"
POSTGRESQL_DUMP = "dpn.pgdump"
REGISTRY = "registry.jsonl"
SETTINGS = "settings.toml"
CONTENTS = "backup.json"
ONLY_FOR_US = 0o700
SECRET_KEYS = ("token", "secret_access_key")
PLACEHOLDER = "not in a backup"


def backup(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make; it must not be there yet.")],
    config: ConfigOption = None,
) -> None:
    """Make DIR with a copy of the database, an export of the registry, and the settings without their secrets.

    Each is as of one moment, and proven to be whole; nothing need be stopped. DIR is there when all of it is.
    """
    with open_node(context, config, "dpn-backup") as node:
        try:
            sizes = make_backup(node, folder.absolute())
        except OSError as error:
            raise Misconfigured(f"{folder}: cannot be written ({error}): name another place") from error
        node.log.info("backup made", folder=str(folder), bytes=sizes)
    print(f"{folder}: {', '.join(f'{name} ({size} bytes)' for name, size in sizes.items())}")


def make_backup(node: OpenNode, folder: Path) -> dict[str, int]:
    """Makes the folder; returns the bytes of each file in it. Raises Misconfigured, OSError: then none is made."""
    if folder.exists():
        raise Misconfigured(f"{folder} is there already: each backup is a folder of its own: name another")
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    unfinished.mkdir(mode=ONLY_FOR_US)
    try:
        sizes = _fill(node, unfinished)
        sync_folder(unfinished)
        unfinished.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sizes


def _fill(node: OpenNode, folder: Path) -> dict[str, int]:
    if node.engine.dialect.name == "sqlite":
        database = folder / SQLITE_COPY
        _copy_sqlite(node, database)
    else:
        database = folder / POSTGRESQL_DUMP
        _dump_postgresql(node.settings.database.address(), database)
    _make_durable(database)
    with replace_file(folder / REGISTRY) as file:
        archive.export(node.sessions, file, node=node.namespace, now=node.clock.now())
    with replace_file(folder / SETTINGS) as file:
        file.write(without_secrets(node.config.read_text("utf-8")).encode())
    names = (database.name, REGISTRY, SETTINGS)
    contents = {
        "node": node.namespace,
        "made_at": node.clock.now().isoformat(),
        "schema": schema_of(node.engine),
        "sha256": {name: _sha256(folder / name) for name in names},
    }
    with replace_file(folder / CONTENTS) as file:
        file.write(f"{json.dumps(contents, indent=1)}\n".encode())
    return {name: (folder / name).stat().st_size for name in names}


def _copy_sqlite(node: OpenNode, target: Path) -> None:
    """A copy of the file alone may be torn, and lacks what is still in the write-ahead log."""
    with closing(node.engine.raw_connection()) as connection:
        connection.cursor().execute("VACUUM INTO ?", (str(target),))
    with closing(sqlite3.connect(target)) as copy:
        found = copy.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        raise Misconfigured(f"the database is damaged ({found}): look at its disk; restore an earlier backup")


def _dump_postgresql(address: str, target: Path) -> None:
    url = make_url(address)
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    environment = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url.password else {})
    for command in (
        ("pg_dump", "--format=custom", "--no-owner", f"--file={target}", f"--dbname={plain.render_as_string()}"),
        ("pg_restore", "--list", str(target)),
    ):
        try:
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise Misconfigured(f"no program {command[0]}: install postgresql-client") from error
        if ended.returncode:
            raise Misconfigured(f"{command[0]} failed: {ended.stderr.strip()[-500:]}")


def without_secrets(text: str) -> str:
    """The settings, with a placeholder for each secret in them. Raises Misconfigured if one cannot be found."""
    for secret in set(_secrets_in(tomllib.loads(text))):
        for quote in ('"""', "'''", '"', "'"):
            text = text.replace(f"{quote}{secret}{quote}", f'"{PLACEHOLDER}"')
    if any(secret != PLACEHOLDER for secret in _secrets_in(tomllib.loads(text))):
        raise Misconfigured("a secret in the settings cannot be told from the rest: put it into a file")
    return text


def _secrets_in(values: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _secrets_in(value, (*place, key))
        elif key in SECRET_KEYS or ((*place, key) == ("database", "url") and "@" in str(value)):
            yield str(value)


def _make_durable(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
