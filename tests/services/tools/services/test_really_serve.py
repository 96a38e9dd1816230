"""Each server of bin/services does what our tests rely on it to do."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

BIG = 2_000_000


def connect(entry: dict[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(entry["url"].replace("+psycopg", ""), autocommit=True)


def fetch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["rsync", "--times", *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def ssh(entry: dict[str, Any]) -> list[str]:
    return [
        "ssh", "-F", "none", "-p", str(entry["port"]), "-i", entry["identity_file"], "-o", "BatchMode=yes",
        "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={entry['known_hosts_file']}",
    ]  # fmt: skip


def put(folder: str, name: str, content: bytes) -> None:
    (Path(folder) / name).write_bytes(content)


def test_postgresql_keeps_its_data_in_its_folder_over_a_restart(own_services):
    entry = own_services.up("postgresql")
    with connect(entry) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    assert (own_services.directory / "postgresql/data/PG_VERSION").exists()
    own_services.down("postgresql")
    with connect(own_services.up("postgresql")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_postgresql_needs_its_password_and_syncs_if_told_to(own_services):
    entry = own_services.up("postgresql", fsync="on")
    with connect(entry) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    with pytest.raises(psycopg.OperationalError, match="password"):
        connect(entry | {"url": entry["url"].replace(entry["password"], "wrong")})


def test_every_database_of_a_test_is_its_own(postgresql_url, services):
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)
    assert postgresql_url != services.up("postgresql")["url"]


def test_s3_keeps_objects_as_files_and_refuses_wrong_checksums_and_overwriting(s3_bucket, services):
    client = s3_bucket.client()
    client.put_object(Bucket=s3_bucket.name, Key="a/b.tar", Body=b"bag")
    assert (Path(services.up("s3")["data"]) / s3_bucket.name / "a/b.tar").read_bytes() == b"bag"
    with pytest.raises(ClientError, match=r"BadDigest|did not match|InvalidRequest"):
        client.put_object(Bucket=s3_bucket.name, Key="c.tar", Body=b"bag", ChecksumSHA256="A" * 43 + "=")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=s3_bucket.name, Key="a/b.tar", Body=b"other", IfNoneMatch="*")


def test_glacier_wants_a_restore_before_a_read(glacier_bucket):
    client = glacier_bucket.client()
    client.put_object(Bucket=glacier_bucket.name, Key="cold.tar", Body=b"bag", StorageClass="GLACIER")
    with pytest.raises(ClientError, match="InvalidObjectState"):
        client.get_object(Bucket=glacier_bucket.name, Key="cold.tar")


def test_rsyncd_hands_out_its_folder_and_takes_nothing(services, tmp_path):
    entry = services.up("rsyncd")
    put(entry["modules"]["outbound"], "bag.tar", b"bag")
    url = f"rsync://{entry['host']}:{entry['port']}"
    assert fetch(f"{url}/outbound/bag.tar", str(tmp_path)).returncode == 0
    assert (tmp_path / "bag.tar").read_bytes() == b"bag"
    refused = fetch(str(tmp_path / "bag.tar"), f"{url}/outbound/new.tar")
    assert "read only" in refused.stderr


def test_rsyncd_has_a_module_behind_a_password(services, tmp_path):
    entry = services.up("rsyncd")
    put(entry["modules"]["locked"], "bag.tar", b"bag")
    url = f"rsync://{entry['user']}@{entry['host']}:{entry['port']}/locked/bag.tar"
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("wrong\n")
    assert "auth failed" in fetch(f"--password-file={wrong}", url, str(tmp_path)).stderr
    assert fetch(f"--password-file={entry['password_file']}", url, str(tmp_path)).returncode == 0


def test_sshd_hands_out_its_folder_by_rsync_and_nothing_else(services, tmp_path):
    entry = services.up("sshd")
    put(entry["root"], "bag.tar", b"bag")
    login = f"{entry['user']}@{entry['host']}"
    shell = shlex.join(ssh(entry))
    assert fetch(f"--rsh={shell}", f"{login}:/bag.tar", str(tmp_path)).returncode == 0
    assert (tmp_path / "bag.tar").read_bytes() == b"bag"
    assert fetch(f"--rsh={shell}", f"{login}:/../sshd_config", str(tmp_path)).returncode != 0
    assert fetch(f"--rsh={shell}", str(tmp_path / "bag.tar"), f"{login}:/new.tar").returncode != 0
    command = subprocess.run([*ssh(entry), login, "id"], capture_output=True, text=True, check=False, timeout=30)
    assert command.returncode != 0
    assert "uid=" not in command.stdout


def test_sshd_wants_its_own_key(services, tmp_path):
    entry = services.up("sshd")
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    login = f"{entry['user']}@{entry['host']}"
    shell = shlex.join(ssh(entry | {"identity_file": str(key)}))
    assert "Permission denied (publickey)" in fetch("--list-only", f"--rsh={shell}", f"{login}:/").stderr


@pytest.mark.parametrize("name", ["sshd", "rsyncd"])
def test_a_transfer_that_runs_ends_when_its_server_is_stopped(own_services, tmp_path, name):
    entry = own_services.up(name)
    put(entry.get("root") or entry["modules"]["outbound"], "big.tar", bytes(BIG))
    if name == "sshd":
        source = [f"--rsh={shlex.join(ssh(entry))}", f"{entry['user']}@{entry['host']}:/big.tar"]
    else:
        source = [f"rsync://{entry['host']}:{entry['port']}/outbound/big.tar"]
    with subprocess.Popen(
        ["rsync", "--bwlimit=10", "--inplace", *source, tmp_path / "big.tar"], stderr=subprocess.DEVNULL
    ) as transfer:
        while not (tmp_path / "big.tar").exists():
            assert transfer.poll() is None
            time.sleep(0.01)
        own_services.down(name)
        assert transfer.wait(timeout=20) != 0
