"""`dpn serve` and `dpn token` as an operator runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[3]
NAMED = ["-subj", "/CN=north", "-addext", "subjectAltName=IP:127.0.0.1"]
OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *NAMED]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings of a node with an empty, migrated database."""
    file = tmp_path / "node.toml"
    staging, store = tmp_path / "staging", tmp_path / "store"
    for folder in (staging, store):
        folder.mkdir()
    file.write_text(f"""
        [node]
        namespace = "north"
        api_root = "http://127.0.0.1:1"
        [database]
        url = "sqlite:///{tmp_path / "node.db"}"
        [staging.volumes]
        main = "{staging}"
        [store]
        url = "{store.as_uri()}"
        [server]
        port = 0
        [peers.south]
        api_root = "http://127.0.0.1:1"
        token = "x"
        rsync.hosts = ["127.0.0.1"]
    """)
    assert dpn(file, "db", "upgrade").returncode == 0
    return file


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DPN_")}


def dpn(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dpn.cli.main", "--config", config, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def serving(config: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server process, and its address as its log tells it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dpn.cli.main", "--config", config, "serve", *arguments],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            entry: dict[str, Any] = json.loads(line)
            if entry["event"] == "serving":
                yield process, f"http://{entry['address']}:{entry['port']}"
                break
        else:
            pytest.fail("the server ended before it served")
    finally:
        process.kill()
        process.communicate()


def test_a_token_is_shown_once_and_lets_its_node_in_until_it_is_revoked(config: Path) -> None:
    issued = dpn(config, "token", "issue", "south")
    token = issued.stdout.strip()
    assert (issued.returncode, len(token)) == (0, 64)
    with serving(config) as (_, url):
        header = {"Authorization": f"Token token={token}"}
        answer = requests.get(f"{url}/api-v2/node/south", headers=header, timeout=10)
        assert answer.json()["namespace"] == "south"
        listed = [json.loads(line) for line in dpn(config, "token", "list", "--json").stdout.splitlines()]
        assert [(entry["node"], entry["revoked_at"]) for entry in listed] == [("south", None)]
        assert token not in dpn(config, "token", "list").stdout
        assert dpn(config, "token", "revoke", str(listed[0]["id"])).returncode == 0
        assert requests.get(f"{url}/api-v2/node/south", headers=header, timeout=10).status_code == 401
        assert dpn(config, "token", "revoke", str(listed[0]["id"])).returncode == 1


def test_a_token_may_be_issued_before_its_node_is_in_the_settings(config: Path) -> None:
    early = dpn(config, "token", "issue", "West")
    assert (early.returncode, len(early.stdout.strip())) == (0, 64)
    assert "no [peers.west] yet" in early.stderr


def test_what_is_no_namespace_gets_no_token(config: Path) -> None:
    refused = dpn(config, "token", "issue", "No Node")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "dpn: 'No Node' is not a node's namespace" in refused.stderr


def test_a_token_for_jobs_belongs_to_whom_it_names_and_says_what_it_is_for_and_until_when(config: Path) -> None:
    options = [
        "--scope",
        "jobs:write",
        "--scope",
        "endpoints:write",
        "--label",
        "laptop",
        "--expires",
        "2099-01-31",
    ]
    issued = dpn(config, "token", "issue", "alice@example.org", *options)
    assert (issued.returncode, len(issued.stdout.strip()), issued.stderr) == (0, 64, "")
    (listed,) = [json.loads(line) for line in dpn(config, "token", "list", "--json").stdout.splitlines()]
    told = (listed["node"], listed["label"], listed["scopes"], listed["expires_at"])
    assert told == ("alice@example.org", "laptop", ["endpoints:write", "jobs:write"], "2099-01-31T00:00:00Z")
    assert "endpoints:write jobs:write" in dpn(config, "token", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["alice", "--scope", "jobs:delete"], "jobs:delete"),
        (["token:alice", "--scope", "jobs:read"], "no owner's name"),
        (["south", "--expires", "2001-01-01"], "not within the next 36500 days"),
        (["south", "--expires", "2099-01-01", "--days", "3"], "give one of them"),
    ],
)
def test_an_unusable_token_is_not_issued_and_the_reason_is_told(
    config: Path, arguments: list[str], problem: str
) -> None:
    refused = dpn(config, "token", "issue", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert problem in refused.stderr


def test_a_service_may_be_named_twice_and_runs_once(config: Path) -> None:
    with serving(config, "registry", "registry") as (_, url):
        assert requests.get(f"{url}/healthz", timeout=10).status_code == 200


def test_what_is_no_service_is_refused_with_what_there_is(config: Path) -> None:
    refused = dpn(config, "serve", "registry", "registrar")
    assert (refused.returncode, refused.stderr) == (2, "dpn: 'registrar' is no service: there is registry\n")


def test_sigterm_ends_the_server_well_while_a_connection_is_open(config: Path) -> None:
    with serving(config) as (process, url), requests.Session() as session:
        assert session.get(f"{url}/healthz", timeout=10).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_port_that_is_taken_is_told_in_one_line(config: Path) -> None:
    with serving(config) as (_, url):
        port = url.rpartition(":")[2]
        second = dpn(config, "serve", "--port", port)
        assert second.returncode == 2
        assert second.stderr.splitlines()[-1].startswith(f"dpn: cannot listen on 127.0.0.1:{port}")


def test_a_certificate_is_served_with_its_own_key_or_the_reason_is_told_in_one_line(
    config: Path, tmp_path: Path
) -> None:
    for name in ("ours", "another"):
        made = [*OPENSSL, "-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run(made, check=True, capture_output=True)
    settings = config.read_text()

    def serve_with(key: str) -> None:
        files = f'certificate_file = "{tmp_path}/ours.pem"\n{key}'
        config.write_text(settings.replace("[server]", f"[server]\n{files}"))

    serve_with("")
    refused = dpn(config, "serve")
    assert refused.returncode == 2
    assert "give both of certificate_file and key_file, or neither" in refused.stderr
    lock = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", f"{tmp_path}/ours.key"]
    subprocess.run([*lock, "-out", f"{tmp_path}/locked.key"], check=True, capture_output=True)
    for unusable in ("another", "locked"):
        serve_with(f'key_file = "{tmp_path}/{unusable}.key"')
        refused = dpn(config, "serve")
        assert refused.returncode == 2
        told = refused.stderr.splitlines()[-1]
        assert told.startswith("dpn: server.certificate_file and server.key_file cannot be used together")
    serve_with(f'key_file = "{tmp_path}/ours.key"')
    with serving(config) as (_, url):
        secure = f"{url.replace('http', 'https')}/healthz"
        assert requests.get(secure, verify=str(tmp_path / "ours.pem"), timeout=10).json() == {"status": "ok"}


def test_answers_do_not_wait_for_acknowledgements(config: Path) -> None:
    token = dpn(config, "token", "issue", "north").stdout.strip()
    with serving(config) as (_, url), requests.Session() as session:
        session.headers["Authorization"] = f"Token token={token}"

        def seconds() -> float:
            started = time.perf_counter()
            session.get(f"{url}/api-v2/node/north", timeout=10)
            return time.perf_counter() - started

        assert sorted(seconds() for _ in range(40))[4] < 0.03, "a few of the answers are quick on any machine"


def test_the_server_needs_no_secret_but_the_databases_address(config: Path, tmp_path: Path) -> None:
    """So its unit can hide the folder of secrets, and the bags."""
    hidden = tmp_path / "hidden"
    text = config.read_text().replace('token = "x"', f'token_file = "{hidden}/token"')
    text = text.replace(f'main = "{tmp_path}/staging"', f'main = "{hidden}/staging"')
    text = text.replace((tmp_path / "store").as_uri(), "s3://bucket")
    text += f'''
        [transfer]
        identity_file = "{hidden}/id_ed25519"
        known_hosts_file = "{hidden}/known_hosts"
    '''
    text = text.replace(
        's3://bucket"', f's3://bucket"\nsecret_access_key_file = "{hidden}/s3"\naccess_key_id = "x"'
    )
    config.write_text(text)
    with serving(config) as (_, address):
        assert requests.get(f"{address}/healthz", timeout=10).json() == {"status": "ok"}
    assert not hidden.exists()


def test_what_a_process_makes_is_not_for_others_whatever_umask_it_is_started_with(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "node.db").unlink()
    config.write_text(f'{config.read_text()}\n[log]\ndirectory = "{tmp_path / "logs"}"\n')
    before = os.umask(0)
    try:
        assert dpn(config, "db", "upgrade").returncode == 0
        assert dpn(config, "queue").returncode == 0
    finally:
        os.umask(before)
    assert (tmp_path / "node.db").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "logs").iterdir()} == {0o640}
