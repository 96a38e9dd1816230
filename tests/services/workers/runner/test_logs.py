"""What a process says: JSON lines whatever happens, whatever others make it say (reliability 43)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dpn.errors import Misconfigured
from dpn.telemetry.prometheus import PrometheusMetrics
from dpn.telemetry.readiness import notify_systemd
from models.work import Status
from tests.fixtures.scripted.node import ScriptedNode, eventually

ROOT = Path(__file__).resolve().parents[4]
HOSTILE = 'a\n{"event": "forged"}\r\n\x1b[2J\x1b]0;title\x07\0\ud800\u2028\x85end'


def lines_of(
    code: str, folder: Path | None = None, *, stderr: bool = True, **environment: str
) -> list[dict[str, Any]]:
    """What a process that runs `code` after setting up its log wrote to stderr, line by line."""
    directory = "None" if folder is None else f"Path({str(folder)!r})"
    whole = f"""
import logging, structlog, sys, threading, warnings
from pathlib import Path
from dpn.telemetry.settings import LogSettings
from dpn.telemetry.logs import configure_logs
HOSTILE = {HOSTILE!a}
log = configure_logs(LogSettings(level="debug", directory={directory}, stderr={stderr}), "proc", node="north")
{textwrap.dedent(code)}
"""
    done = subprocess.run(
        [sys.executable, "-c", whole],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stderr.decode("ascii").splitlines()]


def test_each_line_says_who_what_when_and_how_bad() -> None:
    (line,) = lines_of('log.bind(item=7).warning("stage ended", outcome="retry")')
    assert (line["event"], line["level"], line["node"], line["process"]) == (
        "stage ended",
        "warning",
        "north",
        "proc",
    )
    assert (line["item"], line["outcome"]) == (7, "retry")
    assert line["time"].endswith("Z")


def test_lines_go_to_the_file_alone_where_the_settings_say_so(tmp_path: Path) -> None:
    assert lines_of('log.info("once")', tmp_path, stderr=False) == []
    (line,) = (tmp_path / "proc.json").read_text(encoding="ascii").splitlines()
    assert json.loads(line)["event"] == "once"


def test_hostile_words_stay_inside_their_line() -> None:
    lines = lines_of(
        """
        log.info(HOSTILE, text=HOSTILE, **{HOSTILE: HOSTILE})
        logging.getLogger("library").warning("%s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError as error:
            log.error("failed", exc_info=error)
        """
    )
    assert [line["event"] for line in lines] == [HOSTILE, HOSTILE, "failed"]
    assert lines[0][HOSTILE] == lines[0]["text"] == HOSTILE
    assert "Traceback" in lines[2]["exception"]


def test_what_libraries_warnings_and_dying_threads_say_is_json_too() -> None:
    lines = lines_of(
        """
        logging.getLogger("library").error("lost %d", 7)
        warnings.warn("deprecated")
        thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")
        thread.start(); thread.join()
        """
    )
    assert lines[0]["event"] == "lost 7"
    assert "deprecated" in lines[1]["event"]
    assert "worker-7" in lines[2]["event"]
    assert "ZeroDivisionError" in lines[2]["exception"]


def test_what_cannot_be_written_as_json_is_written_somehow() -> None:
    lines = lines_of(
        """
        loop = []; loop.append(loop)
        log.info("odd", number=float("nan"), loop=loop, path=Path("/a"), error=ValueError("v"), raw=b"\\xff")
        log.info("next")
        """
    )
    assert [line["event"].strip("'") for line in lines] == ["odd", "next"]


def test_a_log_that_cannot_be_written_stops_nothing_and_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "proc.json").symlink_to("/dev/full")
    lines = lines_of('for n in range(50): log.info("line", n=n)', tmp_path)
    assert sum(line["event"] == "line" for line in lines) == 50
    (told,) = [line for line in lines if line["event"] != "line"]
    assert "No space left" in told["error"]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    """By a full disk, or a crash."""
    (tmp_path / "proc.json").write_text('{"event": "cut o')
    lines_of('log.info("one"); log.info("two")', tmp_path)
    first, *others = (tmp_path / "proc.json").read_text().splitlines()
    assert first == '{"event": "cut o'
    assert [json.loads(line)["event"] for line in others] == ["one", "two"]


@pytest.mark.parametrize("stderr", [True, False])
def test_lines_that_cannot_be_written_to_their_file_are_on_stderr_once(tmp_path: Path, stderr: bool) -> None:
    """Somebody ran a command as root once, or the folder cannot be made."""
    (tmp_path / "proc.json").mkdir()  # root, who may run these tests, cannot write to it either
    for folder in (tmp_path, tmp_path / "proc.json" / "deeper"):
        if folder != tmp_path:
            (tmp_path / "proc.json").rmdir()
            (tmp_path / "proc.json").touch()
        lines = lines_of('log.info("one"); log.info("two")', folder, stderr=stderr)
        assert [line["event"] for line in lines if "could not" not in line["event"]] == ["one", "two"]
        assert sum("could not" in line["event"] for line in lines) == 1


def test_a_log_folder_that_is_gone_stops_nothing_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    lines = lines_of(
        f"""
        folder = Path({str(folder)!r})
        log.info("before")
        folder.rename(folder.with_name("elsewhere"))
        log.info("nowhere")
        folder.mkdir()
        log.info("after")
        """,
        folder,
    )
    assert [line["event"] for line in lines if "could not" not in line["event"]] == ["before", "nowhere", "after"]
    assert json.loads((folder / "proc.json").read_text())["event"] == "after"


def test_a_log_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    lines_of(
        f"""
        log.info("before")
        folder = Path({str(tmp_path)!r})
        (folder / "proc.json").rename(folder / "proc.json.1")
        log.info("after")
        """,
        tmp_path,
    )
    texts = {name: (tmp_path / name).read_text() for name in ("proc.json.1", "proc.json")}
    assert [json.loads(text)["event"] for text in texts.values()] == ["before", "after"]


def test_a_worker_logs_one_line_a_run_into_its_file_also_after_rotation(
    embedded_node: ScriptedNode, tmp_path: Path
) -> None:
    node, folder = embedded_node, tmp_path / "logs"
    node.start("a", "copy", log={"directory": str(folder), "level": "info"})
    first = node.make_item(1)

    def ended(name: str) -> list[dict[str, Any]]:
        path = folder / name
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == "stage ended"]

    eventually(lambda: ended("a.json"))
    (folder / "a.json").rename(folder / "a.json.1")
    node.script.write("copy", {"answer": ["Fail", HOSTILE]})
    second = node.make_item(2)
    eventually(lambda: ended("a.json"))
    assert [(line["item"], line["outcome"], line["next_stage"]) for line in ended("a.json.1")] == [
        (first, "done", "validate")
    ]
    (line,) = ended("a.json")
    assert (line["item"], line["outcome"], line["status"], line["level"]) == (second, "fail", "failed", "warning")
    assert line["manifest"]["summaries"]["copy"]["attempts"] == 1
    assert node.item(second).status == Status.FAILED


def test_a_metrics_port_that_is_taken_says_what_to_do() -> None:
    port = PrometheusMetrics().serve("127.0.0.1", 0)
    with pytest.raises(Misconfigured, match="DPN_LOG__METRICS_PORT"):
        PrometheusMetrics().serve("127.0.0.1", port)


def test_systemd_is_told_and_a_socket_of_it_that_is_gone_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify_systemd("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notify_systemd("STOPPING=1")
        assert systemd.recv(100) == b"STOPPING=1"
