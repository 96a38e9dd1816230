"""Fetching from real servers: what comes, what does not, and what each failure is called."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpn.errors import Misconfigured, NoSpace, ServiceUnavailable, TransientError
from dpn.process import Command, run
from dpn.transfer.command import rsync_command
from dpn.transfer.errors import SourceMissing, SourceTooLarge
from dpn.transfer.link import RemoteFile
from dpn.transfer.outcome import judge
from dpn.transfer.rsync import NOWHERE
from tests.services.transfer.conftest import Peer, daemon_peer

MEBIBYTE = 1024**2


def test_a_file_comes_whole_and_private(peer: Peer) -> None:
    content = _content(3 * MEBIBYTE)
    peer.offer(content)
    peer.file.chmod(0o444)
    sizes: list[int] = []
    result = peer.fetch(progress=sizes.append)
    assert peer.destination.read_bytes() == content
    assert (result.bytes, result.sent_bytes) == (len(content), len(content))
    assert peer.destination.stat().st_mode & 0o777 == 0o600
    assert list(peer.destination.parent.iterdir()) == [peer.destination]


def test_a_size_that_no_disk_has_is_no_reason_to_blame_rsync(daemon: Peer) -> None:
    """A peer may claim any size that fits into its record; rsync itself takes a little less."""
    daemon.offer(b"some bytes")
    assert daemon.fetch(max_bytes=2**63 - 1).bytes == 10


@pytest.mark.parametrize("lies_here", ["same", "damaged", "longer", "same size", "empty", "shorter"])
def test_whatever_lies_here_ends_equal_to_the_peers_file(daemon: Peer, lies_here: str) -> None:
    content = _content(2 * MEBIBYTE)
    before = {
        "same": content,
        "damaged": content[:500_000] + b"x" * 1000 + content[501_000:],
        "longer": content + _content(MEBIBYTE, seed=2),
        "same size": _content(len(content), seed=3),
        "empty": b"",
        "shorter": content[:777_777],
    }[lies_here]
    daemon.offer(content)
    daemon.destination.write_bytes(before)
    stamp = daemon.file.stat()
    os.utime(daemon.destination, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    result = daemon.fetch()
    assert daemon.destination.read_bytes() == content
    assert result.bytes == len(content)
    if lies_here == "same":
        assert result.sent_bytes == 0
    if lies_here in ("damaged", "longer"):
        assert result.sent_bytes <= 50_000


def test_a_peer_is_asked_for_its_files_size_and_sends_nothing_of_it(peer: Peer) -> None:
    peer.offer(b"x" * 100_000)
    assert peer.ask_size() == 100_000
    with pytest.raises(SourceTooLarge) as raised:
        peer.ask_size(max_bytes=99_999)
    assert raised.value.seen_bytes == 100_000
    peer.file.unlink()
    with pytest.raises(SourceMissing):
        peer.ask_size()
    assert not NOWHERE.exists()


def test_an_empty_file_is_a_file(peer: Peer) -> None:
    peer.offer(b"")
    assert peer.fetch().bytes == 0
    assert peer.destination.is_file()


def test_a_peer_may_serve_a_bag_through_a_symbolic_link(daemon: Peer) -> None:
    content = _content(100_000)
    (daemon.root / "store").mkdir(exist_ok=True)
    target = daemon.root / "store" / f"{daemon.bag}.bin"
    target.write_bytes(content)
    daemon.file.symlink_to(f"store/{daemon.bag}.bin")
    daemon.fetch()
    assert daemon.destination.read_bytes() == content
    assert not daemon.destination.is_symlink()


def test_a_link_that_the_peers_server_will_not_follow_is_a_missing_file(ssh: Peer) -> None:
    ssh.file.symlink_to("/etc/hostname")
    with pytest.raises(SourceMissing):
        ssh.fetch()
    assert not ssh.destination.exists()


def test_a_link_in_the_destinations_place_is_not_written_through(daemon: Peer, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    daemon.offer(b"from the peer")
    daemon.destination.symlink_to(victim)
    daemon.fetch()
    assert victim.read_bytes() == b"precious"
    assert daemon.destination.read_bytes() == b"from the peer"
    daemon.destination.unlink()
    os.link(victim, daemon.destination)
    daemon.fetch()
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_not_a_file_at_the_peer_is_missing(peer: Peer, kind: str) -> None:
    if kind == "folder":
        peer.file.mkdir()
    if kind == "fifo":
        os.mkfifo(peer.file)
    with pytest.raises(SourceMissing):
        peer.fetch()
    assert not list(peer.destination.parent.iterdir())


def test_a_file_larger_than_expected_is_not_begun(peer: Peer) -> None:
    peer.offer(_content(200_000))
    with pytest.raises(SourceTooLarge) as raised:
        peer.fetch(max_bytes=199_999)
    assert raised.value.seen_bytes == 200_000
    assert not peer.destination.exists()


def test_a_file_of_just_the_expected_size_comes_though_something_longer_lay_here(daemon: Peer) -> None:
    content = _content(200_000)
    daemon.offer(content)
    daemon.destination.write_bytes(content + b"x" * 50_000)
    assert daemon.fetch(max_bytes=200_000).sent_bytes == 0
    assert daemon.destination.read_bytes() == content


def test_a_sender_that_lies_about_the_size_is_stopped_by_the_kernel(daemon: Peer) -> None:
    """As if the sender had said a small size and sent more: without --max-size only the process limit is left."""
    daemon.offer(_content(3 * MEBIBYTE))
    remote = RemoteFile("daemon", None, daemon.source.hosts[0], daemon.source.port, f"outbound/{daemon.bag}.tar")
    command = rsync_command(
        remote, daemon.destination, settings=daemon.settings, source=daemon.source, max_bytes=MEBIBYTE
    )
    arguments = tuple(word for word in command.arguments if not word.startswith("--max-size"))
    ended = run(Command(arguments, command.environment), keep_open=(), watch=lambda group: None)
    with pytest.raises(SourceTooLarge):
        judge(ended, service="rsync:north", max_bytes=MEBIBYTE)
    assert daemon.destination.stat().st_size <= MEBIBYTE


def test_a_path_with_signs_that_shells_know_comes_over_a_daemon(daemon: Peer) -> None:
    folder = daemon.root / "a=b,c+d%e@f~"
    folder.mkdir(exist_ok=True)
    (folder / f"{daemon.bag}.tar").write_bytes(b"content")
    daemon.prefix += "a=b,c+d%e@f~/"
    daemon.fetch()
    assert daemon.destination.read_bytes() == b"content"


def test_a_module_with_a_password_opens_to_the_right_one_only(services: Any, tmp_path: Path) -> None:
    entry = services.up("rsyncd")
    locked = daemon_peer(entry, tmp_path, module="locked", user=f"{entry['user']}@")
    locked.offer(b"content")
    with pytest.raises(Misconfigured, match="password_file"):
        locked.fetch()
    password = tmp_path / "password"
    password.write_text("wrong\n")
    password.chmod(0o600)
    locked.source = locked.source.model_copy(update={"password_file": password})
    with pytest.raises(Misconfigured, match="password_file"):
        locked.fetch()
    password.write_text(Path(entry["password_file"]).read_text())
    password.chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        locked.fetch()
    password.chmod(0o600)
    assert locked.fetch().bytes == 7


def test_an_unknown_module_is_a_missing_file(daemon: Peer) -> None:
    daemon.prefix = daemon.prefix.replace("/outbound/", "/elsewhere/")
    with pytest.raises(SourceMissing):
        daemon.fetch()


def test_an_unpinned_host_key_is_refused(ssh: Peer, tmp_path: Path) -> None:
    ssh.offer(b"content")
    known = tmp_path / "known hosts"
    known.touch()
    right = ssh.settings.known_hosts_file
    ssh.set(known_hosts_file=known)
    with pytest.raises(Misconfigured, match="no key of this host is pinned"):
        ssh.fetch()
    other = _new_key(tmp_path / "other").with_suffix(".pub")
    known.write_text(f"# a comment\n[{ssh.source.hosts[0]}]:{ssh.source.port} {other.read_text()}")
    with pytest.raises(Misconfigured, match="the host's key is not the one that is pinned") as refused:
        ssh.fetch()
    assert f"pinned is ssh-ed25519 {_fingerprint(other)} in {known}, line 2" in str(refused.value)
    assert right is not None
    assert f"it offers ED25519 {_fingerprint(right)}" in str(refused.value)
    assert not ssh.destination.exists()


def _fingerprint(file: Path) -> str:
    told = subprocess.run(["ssh-keygen", "-l", "-f", str(file)], capture_output=True, text=True, check=True).stdout
    return told.split()[1]


def test_a_key_that_the_peer_does_not_know_is_the_operators_matter(ssh: Peer, tmp_path: Path) -> None:
    ssh.set(identity_file=_new_key(tmp_path / "key"))
    with pytest.raises(Misconfigured, match=r"does not accept our key: .*identity_file"):
        ssh.fetch()


def test_keys_in_a_folder_with_spaces_work(ssh: Peer, tmp_path: Path) -> None:
    ssh.offer(b"content")
    folder = tmp_path / "the keys"
    folder.mkdir()
    moved = {
        name: shutil.copy2(getattr(ssh.settings, name), folder / f"my {name}")
        for name in ("identity_file", "known_hosts_file")
    }
    ssh.set(**moved)
    assert ssh.fetch().bytes == 7


@pytest.mark.parametrize("mode", ["daemon", "ssh"])
def test_a_peer_that_is_not_there_is_an_outage(request: pytest.FixtureRequest, mode: str) -> None:
    peer: Peer = request.getfixturevalue(mode)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        _move_to_port(peer, closed.getsockname()[1])
        with pytest.raises(ServiceUnavailable, match="Connection refused") as raised:
            peer.fetch()
    assert raised.value.service == "rsync:north"


@pytest.mark.parametrize("mode", ["daemon", "ssh"])
def test_a_peer_that_takes_the_call_and_says_nothing_is_an_outage(
    request: pytest.FixtureRequest, mode: str
) -> None:
    peer: Peer = request.getfixturevalue(mode)
    peer.set(io_timeout_seconds=1, connect_timeout_seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        _move_to_port(peer, mute.getsockname()[1])
        with pytest.raises(ServiceUnavailable):
            peer.fetch()


def test_a_peer_that_talks_nonsense_is_an_outage(daemon: Peer, services: Any) -> None:
    _move_to_port(daemon, services.up("sshd")["port"])
    with pytest.raises(ServiceUnavailable):
        daemon.fetch()


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of four MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_volume_is_no_space_and_the_rest_comes_when_there_is_room(daemon: Peer, small_volume: Path) -> None:
    content = _content(3 * MEBIBYTE)
    daemon.offer(content)
    ballast = small_volume / "ballast"
    ballast.write_bytes(b"x" * (2 * MEBIBYTE))
    daemon.destination = small_volume / "bag.tar"
    with pytest.raises(NoSpace, match="free space"):
        daemon.fetch()
    came = daemon.destination.stat().st_size
    assert came > MEBIBYTE
    ballast.unlink()
    assert daemon.fetch().sent_bytes <= len(content) - came + 64 * 1024
    assert daemon.destination.read_bytes() == content


def test_after_a_failed_fsync_nothing_that_lies_here_is_believed(
    daemon: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.offer(b"content")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TransientError, match="fetched anew"):
        daemon.fetch()
    assert not daemon.destination.exists()


def _content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def _move_to_port(peer: Peer, port: int) -> None:
    peer.prefix = peer.prefix.replace(str(peer.source.port), str(port))
    peer.source = peer.source.model_copy(update={"port": port})


def _new_key(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL
    )
    return path
