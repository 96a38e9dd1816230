"""bin/services: what it starts answers, what it stops is gone, and it touches nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]


def run(command: str, directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "bin/services", command, "--dir", directory, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_stopped(pid: int) -> bool:
    """Whether every thread of it stands still."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def processes_of(directory: Path) -> list[str]:
    """The command lines of all processes that name `directory`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            lines.append(line)
    return lines


def max_msg_timeout_ms(address: str) -> int:
    """What nsqd tells a client that says hello (NSQ protocol, IDENTIFY)."""
    host, port = address.split(":")
    body = json.dumps({"feature_negotiation": True}).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"  V2IDENTIFY\n" + struct.pack(">I", len(body)) + body)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">I", answer.read(4))
        return int(json.loads(answer.read(size)[4:])["max_msg_timeout"])


def depth(entry: dict[str, Any], topic: str) -> int:
    with urllib.request.urlopen(f"http://{entry['http']}/stats?format=json") as answer:
        topics = json.load(answer)["topics"]
    return sum(row["depth"] for row in topics if row["topic_name"] == topic)


def test_up_twice_starts_nothing_twice_and_adds_what_is_new(own_services):
    first = own_services.up("nsqlookupd")
    nsqd = own_services.up("nsqd")
    assert own_services.up("nsqlookupd") == first
    document = json.loads((own_services.directory / "services.json").read_text())
    assert set(document["services"]) == {"nsqlookupd", "nsqd"}
    assert document["services"]["nsqd"] == nsqd
    assert document["dir"] == str(own_services.directory)


def test_of_many_that_ask_for_a_service_at_once_one_starts_it(own_services):
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: run("up", own_services.directory, "glacier"), range(4)))
    assert [one.returncode for one in done] == [0, 0, 0, 0]
    assert len({one.stdout for one in done}) == 1
    assert sum(one.stderr.count("started") for one in done) == 1


def test_a_killed_service_is_seen_and_comes_back_on_its_ports(own_services):
    before = own_services.up("nsqd")
    os.kill(before["pid"], signal.SIGKILL)
    while is_running(before["pid"]):
        time.sleep(0.01)
    status = run("status", own_services.directory)
    assert status.returncode == 1
    assert "nsqd         died" in status.stdout
    after = own_services.up("nsqd")
    assert after["pid"] != before["pid"]
    assert (after["tcp"], after["http"]) == (before["tcp"], before["http"])
    assert run("status", own_services.directory).returncode == 0


def test_a_service_that_hangs_is_replaced(own_services):
    before = own_services.up("nsqlookupd")
    os.kill(before["pid"], signal.SIGSTOP)
    while not is_stopped(before["pid"]):  # the signal is only on its way when kill returns
        time.sleep(0.01)
    after = own_services.up("nsqlookupd")
    assert after["http"] == before["http"]
    assert not is_running(before["pid"])


def test_a_port_that_somebody_took_meanwhile_is_left_to_them(own_services):
    before = own_services.up("nsqlookupd")
    own_services.down("nsqlookupd")
    host, port = before["http"].split(":")
    with socket.create_server((host, int(port))):
        assert own_services.up("nsqlookupd")["http"] != before["http"]


def test_down_stops_exactly_what_this_folder_started(own_services, tmp_path):
    ours = own_services.up("nsqd")
    assert run("up", tmp_path / "theirs", "nsqlookupd").returncode == 0
    theirs = json.loads((tmp_path / "theirs/services.json").read_text())["services"]["nsqlookupd"]
    own_services.down()
    assert not is_running(ours["pid"])
    assert is_running(theirs["pid"])
    assert run("down", tmp_path / "theirs", "--wipe").returncode == 0
    assert not is_running(theirs["pid"])
    assert not processes_of(tmp_path)


def test_a_stranger_with_a_recycled_pid_is_never_stopped(own_services):
    own_services.up("nsqlookupd")
    document_path = own_services.directory / "services.json"
    document = json.loads(document_path.read_text())
    real = document["services"]["nsqlookupd"]["pid"]
    with subprocess.Popen(["sleep", "60"]) as stranger:
        document["services"]["nsqlookupd"]["pid"] = stranger.pid
        document_path.write_text(json.dumps(document))
        own_services.down()
        assert stranger.poll() is None
        stranger.kill()
    os.kill(real, signal.SIGKILL)


def test_a_wiped_nsqd_comes_back_empty_on_its_ports(own_services):
    before = own_services.up("nsqd")
    publish = urllib.request.Request(f"http://{before['http']}/pub?topic=wiped", data=b"1")
    with urllib.request.urlopen(publish):  # noqa: S310
        assert depth(before, "wiped") == 1
    own_services.down("nsqd")
    assert depth(own_services.up("nsqd"), "wiped") == 1, "data outlives a stop"
    own_services.down("nsqd", wipe=True)
    after = own_services.up("nsqd")
    assert depth(after, "wiped") == 0
    assert after["tcp"] == before["tcp"]


def test_flags_reach_the_server_and_stay(own_services):
    entry = own_services.up("nsqd", max_msg_timeout="3s", msg_timeout="1s")
    assert max_msg_timeout_ms(entry["tcp"]) == 3000
    other = run("up", own_services.directory, "--set", "nsqd.max-msg-timeout=9s", "nsqd")
    assert other.returncode == 1
    assert "other flags" in other.stderr
    own_services.down("nsqd", wipe=True)
    assert max_msg_timeout_ms(own_services.up("nsqd")["tcp"]) == 3000


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(own_services):
    failed = run("up", own_services.directory, "--set", "nsqlookupd.no-such-flag=1", "nsqlookupd")
    assert failed.returncode == 1
    assert "flag provided but not defined: -no-such-flag" in failed.stderr
    assert json.loads((own_services.directory / "services.json").read_text())["services"] == {}
    assert not processes_of(own_services.directory)


def test_an_interrupted_start_leaves_nothing_running(own_services):
    document = own_services.directory / "services.json"
    with subprocess.Popen(
        [ROOT / "bin/services", "up", "--dir", own_services.directory, "glacier"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as starting:
        while not document.exists():
            time.sleep(0.005)
        pid = json.loads(document.read_text())["services"]["glacier"]["pid"]
        starting.terminate()
    assert starting.returncode == 130
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nsq"], "no such service"),
        (["--set", "nsqd=3s"], "SERVICE.FLAG=VALUE"),
        (["--set", "x.y=1"], "SERVICE.FLAG"),
    ],
)
def test_unusable_input_is_refused_with_the_remedy(tmp_path, arguments, problem):
    refused = run("up", tmp_path, *arguments)
    assert refused.returncode == 2
    assert problem in refused.stderr


def test_a_foreign_file_in_the_place_of_ours_is_refused(tmp_path):
    (tmp_path / "services.json").write_text("[1, 2]")
    refused = run("up", tmp_path, "nsqlookupd")
    assert refused.returncode == 2
    assert "not written by bin/services" in refused.stderr


def test_a_missing_program_is_named_with_the_remedy(tmp_path):
    missing = run("up", tmp_path, "nsqlookupd", PATH="/usr/bin:/bin", XDG_CACHE_HOME=str(tmp_path))
    assert missing.returncode == 1
    assert missing.stderr == "services: nsqlookupd is not installed: run bin/setup --services\n"


def test_passwords_are_for_our_eyes_only(own_services):
    own_services.up("nsqlookupd")
    assert (own_services.directory / "services.json").stat().st_mode & 0o077 == 0
