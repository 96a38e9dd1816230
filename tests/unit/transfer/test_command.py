"""The exact command that fetches a file: nothing of the peer's choosing but one source argument."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from dpn.errors import Misconfigured
from dpn.process import Command
from dpn.transfer.command import rsync_command
from dpn.transfer.link import RemoteFile
from dpn.transfer.settings import RsyncSource, TransferSettings

DESTINATION = Path("/srv/dpn/staging/items/7/3/bag.tar")
DAEMON = RemoteFile("daemon", None, "north.example.org", 8730, "out/bag.tar")
DAEMON_SOURCE = RsyncSource(mode="daemon", hosts=("north.example.org",), port=8730)


def test_the_peers_words_stand_alone_behind_the_end_of_options() -> None:
    arguments = _daemon_command().arguments
    assert arguments[-3:] == ("--", DAEMON.argument, str(DESTINATION))
    assert not any("north" in word for word in arguments[:-3])


def test_the_environment_holds_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSYNC_RSH", "touch /tmp/x")
    monkeypatch.setenv("HOME", "/root")
    assert _daemon_command().environment.keys() == {"PATH", "LC_ALL"}


def test_nothing_but_a_plain_file_of_bounded_size_can_come() -> None:
    arguments = _daemon_command().arguments
    assert {"--no-links", "--no-devices", "--no-specials", "--no-perms", "--no-recursive"} <= set(arguments)
    assert "--max-size=1000" in arguments
    assert "--fsize=1000" in arguments


def test_a_link_is_followed_by_the_sender_only_when_asked_for() -> None:
    assert "--copy-links" not in _daemon_command().arguments
    followed = rsync_command(
        DAEMON, DESTINATION, settings=TransferSettings(), source=DAEMON_SOURCE, max_bytes=1, follow_link=True
    )
    assert "--copy-links" in followed.arguments


def test_every_process_of_a_fetch_ends_with_its_worker() -> None:
    names = [Path(word).name for word in _daemon_command().arguments]
    assert names[:2] == ["setpriv", "--pdeathsig"]
    assert names.index("timeout") < names.index("rsync")


def test_where_the_programs_that_guard_it_are_missing_rsync_runs_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, path=None: which(name, path=path) if name == "rsync" else None
    )
    assert Path(_daemon_command().arguments[0]).name == "rsync"


@pytest.mark.parametrize(
    ("path", "protected"), [("out/a-1_b/x.tar", False), ("~dpn/x.tar", True), ("a=b/x.tar", True)]
)
def test_a_path_that_a_shell_might_read_otherwise_does_not_pass_through_one(path: str, protected: bool) -> None:
    remote = RemoteFile("daemon", None, "north.example.org", 8730, path)
    command = rsync_command(remote, DESTINATION, settings=TransferSettings(), source=DAEMON_SOURCE, max_bytes=1)
    assert ("--protect-args" in command.arguments) == protected


def test_timeouts_limit_and_password_file_reach_rsync(tmp_path: Path) -> None:
    password_file = tmp_path / "password"
    password_file.touch()
    source = DAEMON_SOURCE.model_copy(update={"password_file": password_file})
    settings = TransferSettings(io_timeout_seconds=77, connect_timeout_seconds=8, bandwidth_limit_kib=500)
    arguments = rsync_command(DAEMON, DESTINATION, settings=settings, source=source, max_bytes=1).arguments
    assert {
        "--timeout=77", "--contimeout=8", "--bwlimit=500", f"--password-file={password_file}"
    } <= set(arguments)  # fmt: skip


def test_ssh_trusts_pinned_host_keys_only_and_asks_nobody(tmp_path: Path) -> None:
    words = _ssh_words(tmp_path / "keys")
    assert words[1:3] == ["-F", "none"]
    assert words[-2:] == ["-p", "2222"]
    assert {
        "-oBatchMode=yes",
        "-oStrictHostKeyChecking=yes",
        f'-oUserKnownHostsFile="{tmp_path / "keys" / "known_hosts"}"',
        "-oGlobalKnownHostsFile=/dev/null",
        f'-oIdentityFile="{tmp_path / "keys" / "key"}"',
        "-oIdentitiesOnly=yes",
        "-oIdentityAgent=none",
        "-oConnectTimeout=15",
        "-oServerAliveInterval=100",
        "-oServerAliveCountMax=3",
    } <= set(words)


def test_the_peers_own_key_comes_before_the_nodes(tmp_path: Path) -> None:
    mine, theirs, known = (_touched(tmp_path / name) for name in ("mine", "theirs", "known"))
    settings = TransferSettings(identity_file=mine, known_hosts_file=known)
    source = RsyncSource(mode="ssh", hosts=("north.example.org",), identity_file=theirs)
    assert f'-oIdentityFile="{theirs}"' in _words(settings, source)
    assert f'-oIdentityFile="{mine}"' in _words(settings, source.model_copy(update={"identity_file": None}))


def test_key_files_may_have_spaces_in_their_path(tmp_path: Path) -> None:
    words = _ssh_words(tmp_path / "the keys")
    assert f'-oIdentityFile="{tmp_path / "the keys" / "key"}"' in words


@pytest.mark.parametrize("character", list("\"'\\$%\t\n"))
def test_a_key_file_that_cannot_be_quoted_is_refused_with_a_remedy(tmp_path: Path, character: str) -> None:
    with pytest.raises(Misconfigured, match="rename"):
        _ssh_words(tmp_path / f"a{character}b")


def test_missing_keys_host_keys_and_programs_are_named_with_their_setting(tmp_path: Path) -> None:
    key, known, gone = _touched(tmp_path / "key"), _touched(tmp_path / "known"), tmp_path / "gone"
    source = RsyncSource(mode="ssh", hosts=("north.example.org",))
    for settings, named in (
        (TransferSettings(identity_file=gone, known_hosts_file=known), "transfer.identity_file: .*gone"),
        (TransferSettings(identity_file=key, known_hosts_file=gone), "transfer.known_hosts_file: .*gone"),
        (TransferSettings(known_hosts_file=known), "identity_file"),
        (TransferSettings(identity_file=key), "transfer.known_hosts_file"),
        (TransferSettings(identity_file=key, known_hosts_file=known, ssh="no-such-ssh"), "transfer.ssh"),
        (TransferSettings(identity_file=key, known_hosts_file=known, rsync="/no/rsync"), "transfer.rsync"),
    ):
        with pytest.raises(Misconfigured, match=named):
            _words(settings, source)
    keys = TransferSettings(identity_file=key, known_hosts_file=known)
    with pytest.raises(Misconfigured, match=r"^rsync.identity_file: .*gone"):
        _words(keys, source.model_copy(update={"identity_file": gone}))
    source = DAEMON_SOURCE.model_copy(update={"password_file": gone})
    with pytest.raises(Misconfigured, match=r"^rsync.password_file: .*gone"):
        rsync_command(DAEMON, DESTINATION, settings=keys, source=source, max_bytes=1)


def _daemon_command() -> Command:
    return rsync_command(DAEMON, DESTINATION, settings=TransferSettings(), source=DAEMON_SOURCE, max_bytes=1000)


def _ssh_words(folder: Path) -> list[str]:
    folder.mkdir()
    settings = TransferSettings(
        identity_file=_touched(folder / "key"), known_hosts_file=_touched(folder / "known_hosts")
    )
    return _words(settings, RsyncSource(mode="ssh", hosts=("north.example.org",), port=2222))


def _words(settings: TransferSettings, source: RsyncSource) -> list[str]:
    remote = RemoteFile("ssh", "dpn", "north.example.org", source.port, "out/bag.tar")
    command = rsync_command(remote, DESTINATION, settings=settings, source=source, max_bytes=1)
    (shell,) = (word for word in command.arguments if word.startswith("--rsh="))
    return shlex.split(shell.removeprefix("--rsh="))  # rsync splits single quotes as a shell does


def _touched(path: Path) -> Path:
    path.touch()
    return path
