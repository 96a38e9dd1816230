"""config/node.example.toml is the documentation of the settings: complete, true, and usable as it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dpn.settings import Settings
from dpn.settings_file import ALTERNATIVES, load_settings, table_of, tables_of

EXAMPLE = Path(__file__).resolve().parents[3] / "config" / "node.example.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")

PLACEHOLDERS = re.compile(r'"(/etc/dpn/[^"]+)"')
ENTRY = re.compile(r"(?P<off>#?)(?P<key>[a-z_]+) = (?P<value>.+)\Z")
TABLE = re.compile(r"\[(?P<name>[a-z0-9_.]+)\]\Z")
EXAMPLE_NAMES = {"peers": "north", "roots": "archive", "ingest.outbound": "main"}
"""What the tables by name are called in the example."""


@dataclass(frozen=True)
class Entry:
    """A key where it stands in the example, with the comment before it."""

    table: str
    key: str
    is_set: bool
    value: Any
    comment: str

    @property
    def name(self) -> str:
        return f"{self.table}.{self.key}"


def entries_of(text: str) -> Iterator[Entry]:
    table, comment = "", ""
    for line in text.splitlines():
        if found := ENTRY.match(line):
            value = tomllib.loads(f"x = {found['value']}")["x"]
            yield Entry(table, found["key"], not found["off"], value, comment.strip())
            comment = ""
        elif re.match("#( |$)", line):
            comment += line.removeprefix("#")
        else:
            comment = ""
            if found := TABLE.match(line):
                table = found["name"]
            else:
                assert not line, f"neither comment, key nor table: {line!r}"


def fields_of(model: type[BaseModel], table: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key that the settings have, under the name that it has in the example."""
    for name, field in model.model_fields.items():
        path = f"{table}.{name}".removeprefix(".")
        if (section := table_of(field)) is not None:
            yield from fields_of(section, path)
        elif (section := tables_of(field)) is not None:
            yield from fields_of(section, f"{path}.{EXAMPLE_NAMES[path]}")
        elif path == "staging.volumes":
            yield f"{path}.main", field
        else:
            yield path, field


ENTRIES = list(entries_of(TEXT))
FIELDS = dict(fields_of(Settings))


def test_every_key_of_every_section_stands_there_once_and_no_other() -> None:
    names = [entry.name for entry in ENTRIES]
    assert sorted(names) == sorted(FIELDS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_key_is_explained_where_it_stands(entry: Entry) -> None:
    assert len(entry.comment.split()) >= 3, f"{entry.name} has no explanation"
    assert entry.comment.endswith((".", "…", "Example:")), f"not a sentence: {entry.comment!r}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_key_shows_its_default(entry: Entry) -> None:
    field = FIELDS[entry.name]
    shown = tuple(entry.value) if isinstance(entry.value, list) else entry.value
    is_example = re.search(r"\b(required|example)\b", entry.comment, re.IGNORECASE)
    if field.is_required():
        assert entry.is_set
        assert "Required" in entry.comment
    elif field.get_default(call_default_factory=True) in (None, {}):
        assert not entry.is_set or is_example, f"{entry.name} is not set by default"
    else:
        assert entry.is_set
        assert (shown, type(shown)) == (field.get_default(), type(field.get_default()))


def test_it_loads_as_it_stands_once_what_it_names_is_there(tmp_path: Path) -> None:
    settings = load_settings(placed(TEXT, tmp_path), {})
    assert settings.node.namespace == "south"
    assert settings.peers["north"].secret() == "placeholder"


def test_it_loads_with_every_key_that_is_not_set_by_default(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[a-z_]+ = )", "", TEXT, flags=re.MULTILINE)
    for entry in ENTRIES:
        if not entry.is_set and entry.key in ALTERNATIVES and not entry.key.endswith("_file"):
            text = re.sub(rf"^{entry.key} = .*\n", "", text, flags=re.MULTILINE)
    text = text.replace('url = "sqlite:////var/lib/dpn/node.db"\n', "")  # url_file stands for it
    text = re.sub(r"^rclone(_remote|_config)? = .*\n", "", text, flags=re.MULTILINE)  # url stands for them
    settings = load_settings(placed(text, tmp_path), {})
    assert settings.store.secret() == settings.database.address() == "placeholder"


def placed(text: str, folder: Path) -> Path:
    """The settings in `folder`, with the files that they name."""
    for name in PLACEHOLDERS.findall(text):
        placeholder = folder / Path(name).relative_to("/etc/dpn")
        placeholder.parent.mkdir(exist_ok=True)
        placeholder.write_text("placeholder\n")
    settings = folder / "node.toml"
    settings.write_text(text.replace("/etc/dpn/", f"{folder}/"))
    return settings
