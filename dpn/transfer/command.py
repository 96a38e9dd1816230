"""The exact command and environment that fetch one file: fixed arguments, no shell, nothing inherited.

What stands in a peer's link reaches rsync only as the one source argument, after `--`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from dpn.errors import Misconfigured
from dpn.process import Command
from dpn.setting_types import require_file
from dpn.transfer.link import RemoteFile
from dpn.transfer.settings import RsyncSource, TransferSettings

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""All that the child gets. Without HOME, rsync reads no aliases of its user; RSYNC_* and SSH_* cannot reach it."""

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
"""What no shell could read as anything but itself."""

SSH_ALIVE_PROBES = 3

KILL_AFTER_SECONDS = 2
"""How long rsync has to end by itself once its worker is gone, before it is killed."""

LARGEST_FILE = 2**62
"""Bytes: more than any disk takes, and less than what rsync refuses as a size; a peer may claim any."""

_UNQUOTABLE = frozenset("\"'\\$%\n\r\t")


def rsync_command(
    remote: RemoteFile,
    destination: Path,
    *,
    settings: TransferSettings,
    source: RsyncSource,
    max_bytes: int,
    follow_link: bool = False,
    only_ask: bool = False,
) -> Command:
    """The command that makes `destination` equal to `remote`, sending only what is not there already. With
    `only_ask` nothing is sent or written: it tells what would be.

    With `follow_link` the *sender* replaces a symbolic link by the file it points to; never is a link made here.
    Raises Misconfigured if a program, key or host file that it needs is missing.
    """
    max_bytes = min(max_bytes, LARGEST_FILE)
    options = [
        # Bytes of an earlier try are compared block by block and kept where they are right: a crash at any moment
        # leaves something to go on from, and neither size nor time of what lies here is believed.
        "--inplace",
        "--partial",
        "--ignore-times",
        "--no-whole-file",
        # One plain file of our own making: no links, devices, owners or modes of the peer's choosing.
        "--no-recursive",
        "--no-links",
        "--no-devices",
        "--no-specials",
        "--no-perms",
        "--chmod=F600",
        f"--max-size={max_bytes}",
        f"--timeout={settings.io_timeout_seconds}",
        "--stats",
        "--no-human-readable",
    ]
    if only_ask:
        options.append("--dry-run")
    if follow_link:
        options.append("--copy-links")
    if not _PLAIN_PATH.fullmatch(remote.path):
        # Also spelled --secluded-args: the path does not pass through the peer's shell. Only where it could
        # matter, since rrsync, the restricted shell that a careful peer uses, refuses the option.
        options.append("--protect-args")
    if settings.bandwidth_limit_kib:
        options.append(f"--bwlimit={settings.bandwidth_limit_kib}")
    if remote.mode == "ssh":
        options.append(f"--rsh={_ssh(remote, settings, source)}")
    else:
        options.extend(_daemon_options(settings, source))
    rsync = _program(settings.rsync, "transfer.rsync", "rsync")
    arguments = (*_guard(max_bytes), rsync, *options, "--", remote.argument, str(destination))
    return Command(arguments=arguments, environment=dict(ENVIRONMENT))


def _guard(max_bytes: int) -> tuple[str, ...]:
    """What runs rsync so that all its processes end with the worker, and none can write past the limit.

    The kernel tells `timeout` when the thread that started it is gone; `timeout` ends its whole process group.
    A parent-death signal for rsync alone would not do: its second process, which writes, would go on. Where
    these programs are missing (they belong to every Debian), the folder's lock still keeps others away.
    """
    programs = [shutil.which(name, path=ENVIRONMENT["PATH"]) for name in ("setpriv", "prlimit", "timeout")]
    setpriv, prlimit, timeout = programs
    die = (setpriv, "--pdeathsig", "TERM") if setpriv and timeout else ()
    limit = (prlimit, f"--fsize={max_bytes}") if prlimit else ()
    group = (timeout, f"--kill-after={KILL_AFTER_SECONDS}", "0") if setpriv and timeout else ()
    return (*die, *limit, *group)


def _daemon_options(settings: TransferSettings, source: RsyncSource) -> list[str]:
    options = [
        f"--contimeout={settings.connect_timeout_seconds}",
        "--sockopts=TCP_NODELAY",  # saves 40 ms of waiting a bag, and as much again where the daemon sets it, too
        "--no-motd",
    ]
    if source.password_file is not None:
        options.append(f"--password-file={require_file(source.password_file, 'rsync.password_file')}")
    return options


def _ssh(remote: RemoteFile, settings: TransferSettings, source: RsyncSource) -> str:
    """The ssh command as one string, quoted as rsync splits it (its own rules, no shell)."""
    identity = source.identity_file or settings.identity_file
    if identity is None:
        raise Misconfigured(
            "no ssh key for this peer: set rsync.identity_file of the peer or transfer.identity_file"
        )
    require_file(identity, "rsync.identity_file" if source.identity_file else "transfer.identity_file")
    if settings.known_hosts_file is None:
        raise Misconfigured("no ssh host keys are pinned: set transfer.known_hosts_file")
    require_file(settings.known_hosts_file, "transfer.known_hosts_file")
    alive_seconds = max(1, settings.io_timeout_seconds // SSH_ALIVE_PROBES)
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f'UserKnownHostsFile="{_quotable(settings.known_hosts_file)}"',
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        f'IdentityFile="{_quotable(identity)}"',
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ControlMaster=no",
        "ControlPath=none",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        "ConnectionAttempts=1",
        f"ConnectTimeout={settings.connect_timeout_seconds}",
        f"ServerAliveInterval={alive_seconds}",
        f"ServerAliveCountMax={SSH_ALIVE_PROBES}",
        "LogLevel=ERROR",
    ]
    ssh = _quotable(Path(_program(settings.ssh, "transfer.ssh", "openssh-client")))
    words = [ssh, "-F", "none", *(f"-o{option}" for option in options)]
    if remote.port is not None:
        words.extend(["-p", str(remote.port)])
    return " ".join(f"'{word}'" for word in words)


def _quotable(path: Path) -> str:
    """`path`, if it comes through rsync's and ssh's quoting unchanged (spaces do). Raises Misconfigured if not."""
    text = str(path)
    if _UNQUOTABLE.intersection(text):
        raise Misconfigured(f"{text!r}: quotes, backslash, $, % and tabs cannot stand in this path: rename it")
    return text


def find_program(name: str) -> str | None:
    """Where the program of this name or path is."""
    return shutil.which(name, path=None if "/" in name else ENVIRONMENT["PATH"])


def _program(name: str, key: str, package: str) -> str:
    found = find_program(name)
    if found is None:
        raise Misconfigured(f"{key}: no program {name!r}: install {package}, or give its full path")
    return found
