"""Reads a node's settings from one TOML file with `DPN_*` environment variables over it.

A wrong key, type or path raises `SettingsError`, which names file, key and remedy, and repeats no value.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dpn.setting_types import SettingsError
from dpn.settings import MOVED, Settings

ENVIRONMENT_PREFIX = "DPN_"
NOT_SETTINGS = {"DPN_CONFIG", "DPN_AS_ROOT_ANYWAY"}
"""Variables with our prefix that other things read."""

SECRETS = ("url", "token", "secret_access_key")
ALTERNATIVES = {name: f"{name}_file" for name in SECRETS} | {f"{name}_file": name for name in SECRETS}
"""Two ways to give one secret: a variable for one of them replaces the other one in the file."""

Keys = tuple[str, ...]


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings in the TOML file at `path`, with `DPN_SECTION__KEY` variables over them.

    Raises SettingsError, whose text has one line a problem: file, key, what is wrong, what to do.
    """
    environment = os.environ if environment is None else environment
    values = _read_toml(path)
    moved = _move(values, path)
    origins = _overlay(values, environment)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [_explain(path, problem, origins, moved) for problem in error.errors(include_input=False)]
        raise SettingsError("\n".join(lines)) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file: copy config/node.example.toml there and edit it") from error
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read as a file ({error.strerror}): fix it or name another"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}: correct it there") from error


def _move(values: dict[str, Any], path: Path) -> dict[Keys, Keys]:
    """Puts what stands where a key once stood where it stands now; returns the old place of each that it moved."""
    moved: dict[Keys, Keys] = {}
    for old, new in MOVED.items():
        section = values.get(old[0])
        if isinstance(section, dict) and old[1] in section:
            table = _table(values, new[:-1], str(path))
            if new[-1] in table:
                raise SettingsError(
                    f"{path}: {'.'.join(old)}: given as {'.'.join(new)}, too: remove this one, its earlier name"
                )
            table[new[-1]] = section.pop(old[1])
            moved[new] = old
    return moved


def _overlay(values: dict[str, Any], environment: Mapping[str, str]) -> dict[Keys, str]:
    """Puts the environment's values into `values`; returns which variable each key came from."""
    origins: dict[Keys, str] = {}
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        keys = tuple(part.lower() for part in variable.removeprefix(ENVIRONMENT_PREFIX).split("__"))
        if len(keys) < 2 or keys[0] not in Settings.model_fields:
            sections = ", ".join(sorted(Settings.model_fields))
            raise SettingsError(
                f"environment: {variable}: no such setting: unset it, or write DPN_SECTION__KEY"
                f" with a section of {sections}"
            )
        keys = MOVED.get(keys, keys)
        if keys in origins:
            raise SettingsError(f"environment: {origins[keys]}, {variable}: the same setting twice: unset one")
        table = _table(values, keys[:-1], f"environment: {variable}")
        alternative = ALTERNATIVES.get(keys[-1])
        if alternative and (*keys[:-1], alternative) not in origins:
            table.pop(alternative, None)
        text = environment[variable]
        table[keys[-1]] = _listed(text) if _is_list(keys) else text
        origins[keys] = variable
    return origins


def _table(values: dict[str, Any], keys: Iterable[str], where: str) -> dict[str, Any]:
    for key in keys:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{where}: {key!r} is a value, not a table: correct the name, or remove it")
    return values


def _is_list(keys: Keys) -> bool:
    """Whether the setting at `keys` holds several values: a variable gives them separated by commas."""
    field = _table_at(keys[:-1]).model_fields.get(keys[-1])
    return field is not None and get_origin(field.annotation) is tuple


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


PLAIN_WORDS = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": 'must be a list, e.g. ["a", "b"]',
    "path_type": "must be a path, in quotes",
    "string_type": "must be text, in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
"""What an operator is told where pydantic would speak of Python's types."""


def _explain(path: Path, problem: Any, origins: Mapping[Keys, str], moved: Mapping[Keys, Keys]) -> str:
    location = tuple(str(part) for part in problem["loc"] if part != "[key]")
    where = _where(path, location, origins)
    for new, old in moved.items():
        if location[: len(new)] == new:
            location = (*old, *location[len(new) :])  # as it is written there
    key = problem.get("ctx", {}).get("key") or ".".join(location)
    match problem["type"]:
        case "extra_forbidden":
            known = list(_table_at(location[:-1]).model_fields)
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
            return f"{where}: {key}: unknown key: remove it or correct it ({hint})"
        case "missing":
            return f"{where}: {key}: missing: add it (config/node.example.toml explains every key)"
        case "own_peer":
            return f"{where}: {key}: {problem['msg']}"
        case kind:
            message = PLAIN_WORDS.get(kind) or problem["msg"]
            message = message.removeprefix("Value error, ").replace("Input should be", "must be", 1)
            return f"{where}: {key}: {message}: correct it (config/node.example.toml explains every key)"


def _where(path: Path, location: Keys, origins: Mapping[Keys, str]) -> str:
    """Where the value came from: the file, a variable, or the file with variables over parts of it."""
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            return f"environment: {origins[location[:length]]}"
    inside = [variable for keys, variable in origins.items() if location and keys[: len(location)] == location]
    return f"{path} with {', '.join(inside)} from the environment" if inside else str(path)


def _table_at(location: Iterable[str]) -> type[BaseModel]:
    """The section of the innermost table there that is one of ours."""
    section: type[BaseModel] = Settings
    named: type[BaseModel] | None = None
    for part in location:
        if named is not None:  # a name that whoever writes the file has chosen, e.g. a peer's
            section, named = named, None
        elif part in section.model_fields:
            field = section.model_fields[part]
            section, named = table_of(field) or section, tables_of(field)
    return section


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key of settings is the table of, where it may be left out, too; None for a plain key."""
    left_out = get_args(field.annotation) if type(None) in get_args(field.annotation) else ()
    kinds = (field.annotation, *left_out)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def tables_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section of each table below a key of settings, where it holds tables by name; else None."""
    if get_origin(field.annotation) is not dict:
        return None
    kind = get_args(field.annotation)[1]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
