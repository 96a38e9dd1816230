"""sshd: an ssh server with keys of its own: one hands out a folder by rsync, the other opens one over SFTP, and no
key does anything else."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.services.ports import LOOPBACK
from tools.services.process import Launch
from tools.services.programs import find
from tools.services.rsyncd import require_listing
from tools.services.service import ANSWER_SECONDS, Home, Service, StartFailed

PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Compiled into Debian's sshd, which insists on it when started by root."""

CONFIGURATION = """\
# Written by bin/services at every start.
ListenAddress {host}:{port}
HostKey "{host_key}"
Subsystem sftp internal-sftp
AuthorizedKeysFile "{authorized_keys}"
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
UsePAM {pam}
StrictModes no
PidFile none
LogLevel VERBOSE
MaxStartups 200
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
"""


class Sshd(Service):
    """An ssh server. `--set sshd.NAME=VALUE` passes `-o NAME=VALUE`."""

    name = "sshd"
    port_names = ("tcp",)

    def prepare(self, home: Home) -> Launch:
        host_key = _key(home.path / "host_key")
        commands = {
            _key(home.path / "client_key"): [find("rrsync"), "-ro", str(home.folder("outbound"))],
            _key(home.path / "sftp_key"): ["internal-sftp", "-d", str(home.folder("sftp"))],
        }
        _write_authorized_keys(home.path / "authorized_keys", commands)
        _write_known_hosts(home.path / "known_hosts", host_key, home.ports["tcp"])
        configuration = home.path / "sshd_config"
        configuration.write_text(
            CONFIGURATION.format(
                host=LOOPBACK,
                port=home.ports["tcp"],
                host_key=host_key,
                authorized_keys=home.path / "authorized_keys",
                pam="yes" if _is_locked_root() else "no",
            ),
            encoding="utf-8",
        )
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        flags = [word for name, value in home.flags.items() for word in ("-o", f"{name}={value}")]
        return Launch([find("sshd"), "-D", "-e", "-f", str(configuration), *flags], {})

    def entry(self, home: Home) -> dict[str, Any]:
        return {
            "host": LOOPBACK,
            "port": home.ports["tcp"],
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "identity_file": str(home.path / "client_key"),
            "known_hosts_file": str(home.path / "known_hosts"),
            "root": str(home.path / "outbound"),
            "sftp": {"identity_file": str(home.path / "sftp_key"), "root": str(home.path / "sftp")},
        }

    def check(self, entry: dict[str, Any]) -> None:
        """Logs in and lists the folder, as a node that fetches a bag would."""
        ssh = [
            find("ssh"), "-F", "none", "-p", str(entry["port"]), "-i", entry["identity_file"],
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f'UserKnownHostsFile="{entry["known_hosts_file"]}"',
            "-o", f"ConnectTimeout={round(ANSWER_SECONDS)}",
        ]  # fmt: skip
        require_listing(
            [f"--rsh={shlex.join(ssh)}", f"{entry['user']}@{entry['host']}:/"], f"over ssh to port {entry['port']}"
        )


def _key(path: Path) -> Path:
    """A key pair, made once."""
    if not path.exists():
        made = subprocess.run(
            [find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise StartFailed(f"sshd: ssh-keygen failed: {made.stderr.strip()}")
    return path


def _write_authorized_keys(path: Path, commands: Mapping[Path, Sequence[str]]) -> None:
    """Each key may run its one command, whatever its client asks for."""
    lines = []
    for key, words in commands.items():
        command = shlex.join(words).replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'restrict,command="{command}" {_public(key)}\n')
    path.write_text("".join(lines), encoding="utf-8")


def _write_known_hosts(path: Path, host_key: Path, port: int) -> None:
    path.write_text(f"[{LOOPBACK}]:{port} {_public(host_key)}\n", encoding="utf-8")


def _public(key: Path) -> str:
    algorithm, body, *_ = key.with_suffix(".pub").read_text(encoding="ascii").split()
    return f"{algorithm} {body}"


def _is_locked_root() -> bool:
    """Whether we are a root without password, as Debian's installer makes it: sshd lets that in by PAM only."""
    if os.geteuid() != 0:
        return False
    try:
        lines = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.startswith("root:!") for line in lines)
