"""The `[roots.…]` tables: what may stand there, and what an operator is told who wrote something else."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dpn.errors import Misconfigured
from dpn.objects.bandwidth import bytes_per_second
from dpn.objects.folder.root import FolderRoot
from dpn.objects.roots import open_root
from dpn.objects.settings import RootSettings
from dpn.setting_types import SettingsError
from dpn.settings_file import load_settings

BASE = """
[node]
namespace = "south"
[database]
url = "sqlite:////tmp/x.db"
[roots.archive]
"""
SFTP = 'type = "sftp", host = "h"'


def load(tmp_path: Path, lines: str, environment: dict[str, str] | None = None) -> RootSettings:
    path = tmp_path / "node.toml"
    path.write_text(BASE + lines)
    return load_settings(path, environment or {}).roots["archive"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("", "roots.archive: give exactly one of url, rclone and rclone_remote (none is given)"),
        ('url = "file:///x"\nrclone_remote = "r"', "url and rclone_remote is given"),
        ('url = "ftp://host/x"', "roots.archive.url: must be file:///absolute/folder or s3://bucket[/prefix]"),
        ('url = "file:///x"\nregion = "r"', "region goes with an s3:// url"),
        ('url = "file:///x"\nrclone_config = "/c"', "rclone_config goes with rclone_remote"),
        ('rclone_remote = "r:x"', "roots.archive.rclone_remote: must be the name of a remote alone"),
        ('rclone_remote = "r"\nengine = "native"', 'engine = "native" serves a url only'),
        ('url = "file:///x"\naccess = "all"', "roots.archive.access: must be 'read', 'write' or 'read-write'"),
        ('url = "file:///x"\nallow = ["medusa"]', 'roots.archive.allow: must be a list of "door:NAME"'),
        ('url = "file:///x"\nworkers = ["a b"]', "roots.archive.workers: must be a list of host names"),
        ('url = "file:///x"\nbandwidth = "fast"', "roots.archive.bandwidth: must be a rate a second"),
        ('url = "file:///x"\nbandwidth = "25:00,1M"', "roots.archive.bandwidth: must be a rate a second"),
        ('url = "file:///x"\nbandwidth = ""', "roots.archive.bandwidth: must be a rate a second"),
        ('rclone = "sftp"', "roots.archive.rclone: must be a table"),
        ('rclone = { type = "ftp" }', "roots.archive.rclone: type must be one of alias, local, s3, sftp, webdav"),
        (f'rclone = {{ {SFTP}, ssh = "rm" }}', "'ssh' is no option of a sftp remote here: use"),
        ('rclone = { type = "sftp" }', "host is missing: a sftp remote needs it"),
        (f'rclone = {{ {SFTP}, pass = "hush", pass_file = "/p" }}', "give only one of pass and pass_file"),
        (f'rclone = {{ {SFTP}, key_file = "k" }}', "key_file must be an absolute path"),
        ('rclone = { type = "alias", remote = ":sftp,ssh=rm:" }', "remote must be an absolute path"),
        ('rclone = { type = "webdav", url = [] }', "url must be text, a whole number, true or false"),
        ('urll = "file:///x"', "did you mean 'url'?"),
    ],
)
def test_what_cannot_be_used_is_told_with_table_key_and_remedy(tmp_path: Path, lines: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, lines)
    assert told in str(refused.value)
    assert "roots.archive" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_remote_gets_its_secrets_from_a_file_or_the_environment_and_shows_none(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("hush\n")
    from_file = load(tmp_path, f'rclone = {{ {SFTP}, port = 22, pass_file = "{tmp_path / "pass"}" }}')
    from_environment = load(tmp_path, f"rclone = {{ {SFTP} }}", {"DPN_ROOTS__ARCHIVE__RCLONE__PASS": "hush"})
    assert from_file.rclone_options() == {"type": "sftp", "host": "h", "port": "22", "pass": "hush"}
    assert from_environment.rclone_options() == {"type": "sftp", "host": "h", "pass": "hush"}
    assert "hush" not in repr(from_environment) + str(from_environment.model_dump())
    (tmp_path / "pass").unlink()
    with pytest.raises(SettingsError, match=r"rclone\.pass_file"):
        from_file.rclone_options()


def test_a_root_opens_without_asking_anything(tmp_path: Path) -> None:
    root = open_root("archive", RootSettings(url="file:///no%20such", prefix="a/b/"))
    assert isinstance(root, FolderRoot)
    with pytest.raises(Misconfigured, match="/no such/a/b is no folder"):
        root.head("k")
    with pytest.raises(Misconfigured, match=r"roots\.archive\.prefix.*'\.\.'"):
        open_root("archive", RootSettings(url="file:///x", prefix="../y"))
    with pytest.raises(Misconfigured, match="only rclone can reach"):
        open_root("archive", load(tmp_path, 'rclone_remote = "r"'))


WEEK = "Mon-08:00,1M Fri-18:00,off"
DAY = "08:00,512k 19:00,10M"


@pytest.mark.parametrize(
    ("bandwidth", "at", "expected"),
    [
        (None, "2026-01-05 00:00", None),
        ("10M", "2026-01-05 00:00", 10 * 2**20),
        ("1.5k", "2026-01-05 00:00", 1536),
        ("100", "2026-01-05 00:00", 100 * 2**10),
        ("100B", "2026-01-05 00:00", 100),
        ("off", "2026-01-05 00:00", None),
        ("0", "2026-01-05 00:00", None),
        (DAY, "2026-01-05 07:59", 10 * 2**20),
        (DAY, "2026-01-05 08:00", 512 * 2**10),
        (DAY, "2026-01-11 23:00", 10 * 2**20),
        (WEEK, "2026-01-05 07:59", None),
        (WEEK, "2026-01-05 08:00", 2**20),
        (WEEK, "2026-01-09 17:59", 2**20),
        (WEEK, "2026-01-09 18:00", None),
    ],
)
def test_a_timetable_says_how_fast_at_which_moment(bandwidth: Any, at: str, expected: int | None) -> None:
    settings = RootSettings(url="file:///x", bandwidth=bandwidth)
    assert bytes_per_second(settings.bandwidth, datetime.fromisoformat(at)) == expected
