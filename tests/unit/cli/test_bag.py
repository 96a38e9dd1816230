"""`dpn bag`: exit statuses and output that others script against."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dpn.cli.bag import app
from tests.fixtures.made_bags import UUID, bag_files, tar_bag, write_folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_valid_bag_exits_0_with_the_promised_document(tmp_path: Path) -> None:
    files = bag_files()
    path = tar_bag(tmp_path, files)
    result = run("validate", path, "--json")
    assert result.exit_code == 0
    found = document(result)
    assert found["path"] == str(path)
    assert (found["valid"], found["profile"], found["files"], found["bytes"]) == (True, "dpn", 7, 1286)
    assert found["tag_manifest_sha256"] == hashlib.sha256(files["tagmanifest-sha256.txt"]).hexdigest()
    assert found["findings"] == []


def test_an_invalid_bag_exits_1_and_says_why(tmp_path: Path) -> None:
    files = bag_files()
    del files["data/a.txt"]
    path = tar_bag(tmp_path, files)
    result = run("validate", path, "--json")
    assert result.exit_code == 1
    assert document(result)["findings"] == [
        {
            "severity": "error",
            "code": "payload-file-missing",
            "path": "data/a.txt",
            "message": "Listed in manifest-sha256.txt, not in the bag.",
        }
    ]
    plain = run("validate", path)
    assert plain.exit_code == 1
    assert "error: payload-file-missing: data/a.txt" in plain.stdout
    assert "INVALID" in plain.stdout


def test_what_cannot_be_read_as_a_bag_exits_2_with_nothing_on_standard_output(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar at all")
    path = tar_bag(tmp_path)
    for arguments in (
        (tmp_path / "gone.tar",),
        (tmp_path / "text.tar",),
        (path, "--profile", "unheard-of"),
        (path, "--profile", tmp_path / "gone.json"),
    ):
        result = run("validate", *arguments, "--json")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("dpn bag: ")


def test_strict_and_profiles_change_the_verdict(tmp_path: Path) -> None:
    path = tar_bag(tmp_path, {**bag_files(), "stray": b"x"})
    assert run("validate", path).exit_code == 0
    assert run("validate", path, "--strict").exit_code == 1
    assert run("validate", path, "--profile", "dpn-strict").exit_code == 1
    assert run("validate", path, "--profile", "none").exit_code == 0
    assert document(run("validate", path, "--profile", "none", "--json"))["profile"] is None


def test_the_digest_of_the_tar_comes_if_asked_for(tmp_path: Path) -> None:
    path = tar_bag(tmp_path)
    assert document(run("validate", path, "--json"))["sha256"] is None
    found = document(run("validate", path, "--json", "--sha256"))
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_build_writes_a_bag_that_validate_calls_valid(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "thing", {"a": b"1", "b/c": b"2"})
    result = run(
        "build", source, "--out", tmp_path, "--member", "m-1", "--local-id", "inst/1", "--json",
        "--tag", "Contact-Name=Ann", "--tag", "Mood=calm = quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    built = document(result)
    path = Path(built["path"])
    assert path == tmp_path / f"{built['uuid']}.tar"
    assert built["size"] == path.stat().st_size
    assert built["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    content = path.read_bytes()
    for line in (b"Member-ID: m-1\n", b"Local-ID: inst/1\n", b"Contact-Name: Ann\n", b"Mood: calm = quiet\n"):
        assert line in content
    assert run("validate", path, "--profile", "dpn-strict", "--strict").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("gone", "--out", "."),
        ("thing", "--out", "no-such-folder"),
        ("thing", "--out", ".", "--tag", "nothing"),
        ("thing", "--out", ".", "--tag", "Bag-Type=cake"),
        ("thing", "--out", ".", "--uuid", "x"),
        ("empty", "--out", "."),
        ("thing",),
    ],
)
def test_build_that_cannot_be_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path("thing"), {"a": b"1"})
    Path("empty").mkdir()
    result = run("build", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "thing"]


def test_build_takes_the_sources_name_for_want_of_an_identifier(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "thing", {"a": b"1"})
    assert run("build", source, "--out", tmp_path, "--uuid", UUID).exit_code == 0
    assert b"Local-ID: thing\n" in (tmp_path / f"{UUID}.tar").read_bytes()


def test_every_code_can_be_explained() -> None:
    from dpn.bags.codes import CATALOGUE

    lines = [json.loads(line) for line in run("codes", "--json").stdout.splitlines()]
    assert [line["code"] for line in lines] == list(CATALOGUE)
    assert "RFC 8493" in run("codes", "payload-checksum-mismatch").stdout
    assert run("codes", "no-such-code").exit_code == 2


def test_a_dry_run_tells_all_that_cannot_be_bagged_and_builds_nothing(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "thing", {"a": b"1", "end ": b"2", "two\u2028lines": b"3"})
    (tmp_path / "out").mkdir()
    plain = run("build", source, "--out", tmp_path / "out", "--dry-run")
    assert plain.exit_code == 1
    assert [
        line.partition("' cannot be bagged: ")[0].rpartition("/")[2] for line in plain.stdout.splitlines()
    ] == [
        "end ",
        "two\\u2028lines",
        "thing' cannot be bagged",
    ]
    found = document(run("build", source, "--out", tmp_path / "out", "--dry-run", "--json"))
    assert (found["fit"], [one["path"] for one in found["unfit"]]) == (
        False,
        [f"{source}/end ", f"{source}/two\u2028lines"],
    )
    for name in ("end ", "two\u2028lines"):
        (source / name).unlink()
    fit = run("build", source, "--out", tmp_path / "out", "--dry-run")
    assert (fit.exit_code, fit.stdout) == (0, f"'{source}' can be bagged\n")
    assert run("build", source, "--out", source, "--dry-run").exit_code == 2
    assert list((tmp_path / "out").iterdir()) == []
