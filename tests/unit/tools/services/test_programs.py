"""Which programs are started: PATH's rclone only if it is new enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.services import programs


@pytest.fixture
def rclone_on_path(tmp_path, monkeypatch):
    """Puts an rclone on PATH that says it has a version; there is a built one, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = programs.build_folder(programs.RCLONE)
    built.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def make(version: str) -> tuple[Path, Path]:
        for folder in (built, tmp_path / "bin"):
            (folder / "rclone").write_text(f"#!/bin/sh\necho rclone {version}\necho - go/version: go1.99.0\n")
            (folder / "rclone").chmod(0o755)
        return tmp_path / "bin/rclone", built / "rclone"

    return make


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [("v1.60.1-DEV", False), ("v1.74.9", False), ("v1.75.0", True), ("v1.100.0", True), ("v2.0.0", True)],
)
def test_an_rclone_on_the_path_is_taken_if_it_is_new_enough(rclone_on_path, version, is_taken):
    on_path, built = rclone_on_path(version)
    assert programs.find_rclone() == str(on_path if is_taken else built)


def test_without_any_rclone_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(programs.MissingProgram, match="rclone is not installed: run bin/setup --services"):
        programs.find_rclone()
