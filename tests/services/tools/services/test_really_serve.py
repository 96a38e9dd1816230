"""Each server of bin/services does what our tests rely on it to do."""

from __future__ import annotations

import shlex
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import boto3
import pika
import psycopg
import pytest
from botocore.exceptions import ClientError

from tools.services.folder import process_of
from tools.services.process import family

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


def test_sshd_opens_a_folder_over_sftp_to_the_key_for_it_only(services, tmp_path):
    entry = services.up("sshd")
    (tmp_path / "object").write_bytes(b"bytes")
    key = {"identity_file": entry["sftp"]["identity_file"]}

    def sftp(entry: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        options = [option if option != "-p" else "-P" for option in ssh(entry)[1:]]
        return subprocess.run(
            ["sftp", *options, "-b", "-", f"{entry['user']}@{entry['host']}"],
            input=f"put {tmp_path}/object sent\n", capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip

    assert sftp(entry).returncode != 0, "the key of rsync opens nothing"
    done = sftp(entry | key)
    assert done.returncode == 0, done.stderr
    assert (Path(entry["sftp"]["root"]) / "sent").read_bytes() == b"bytes"
    command = [*ssh(entry | key), f"{entry['user']}@{entry['host']}", "id"]
    assert (
        "uid="
        not in subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30
        ).stdout
    )


def test_rabbitmq_gives_back_what_was_not_acknowledged_and_has_streams(rabbitmq, tmp_path):
    queue = str(tmp_path)
    with pika.BlockingConnection(pika.URLParameters(rabbitmq["url"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, b"request", mandatory=True)
        method, _, body = channel.basic_get(queue)
        assert (method.redelivered, body) == (False, b"request")
    with pika.BlockingConnection(pika.URLParameters(rabbitmq["url"])) as connection:
        channel = connection.channel()
        method, _, body = channel.basic_get(queue)
        assert (method.redelivered, body) == (True, b"request")
        channel.queue_declare(f"{queue}.stream", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_delete(f"{queue}.stream")
        channel.queue_delete(queue)


def test_rabbitmq_needs_its_password(rabbitmq):
    wrong = pika.URLParameters(rabbitmq["url"].replace(rabbitmq["password"], "wrong"))
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(wrong)


def test_sqs_delivers_again_under_the_same_id(services, tmp_path):
    entry = services.up("sqs")
    client = boto3.client(
        "sqs",
        endpoint_url=entry["endpoint"],
        region_name=entry["region"],
        aws_access_key_id=entry["access_key"],
        aws_secret_access_key=entry["secret_key"],
    )
    url = client.create_queue(QueueName=tmp_path.name)["QueueUrl"]
    sent = client.send_message(QueueUrl=url, MessageBody="request")["MessageId"]
    taken = [client.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"][0] for _ in range(2)]
    assert [(message["MessageId"], message["Body"]) for message in taken] == [(sent, "request")] * 2


def test_webdav_keeps_files_in_its_folder_behind_a_password(services):
    entry = services.up("webdav")
    put(entry["root"], "there.txt", b"there")

    def ask(method: str, name: str, password: str, body: bytes | None = None) -> bytes:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, entry["url"], entry["user"], password)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
        request = urllib.request.Request(entry["url"] + name, data=body, method=method)  # noqa: S310
        with opener.open(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content

    assert ask("GET", "there.txt", entry["password"]) == b"there"
    ask("PUT", "a%20b.txt", entry["password"], b"sent")
    assert (Path(entry["root"]) / "a b.txt").read_bytes() == b"sent"
    with pytest.raises(HTTPError, match="401"):
        ask("GET", "there.txt", "wrong")


def test_nothing_is_left_of_a_stopped_rabbitmq_sqs_or_webdav(own_services):
    members = [
        member for name in ("rabbitmq", "sqs", "webdav") for member in family(process_of(own_services.up(name)))
    ]
    assert len(members) > 3, "the broker is more than one process"
    own_services.down()
    assert [member for member in members if member.alive()] == []


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
