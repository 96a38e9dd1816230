"""What the end of an rsync run means for the work item: exit code and last words in, figures or a typed error out.

Exit codes as rsync(1) lists them, checked against rsync 3.2.7 and 3.5.0; 255 is ssh's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dpn.errors import DpnError, LocalTrouble, Misconfigured, NoSpace, ServiceUnavailable, TransientError
from dpn.local_causes import is_machine_error
from dpn.process import Ended
from dpn.text import replaced
from dpn.transfer.errors import SourceMissing, SourceTooLarge
from dpn.transfer.ssh_refusals import why_refused

MAX_REASON_CHARACTERS = 300

_STATISTICS = re.compile(r"(Number of|Total |Literal data|Matched data|File list|sent [0-9]+ bytes|total size is)")
_IS_LINK = re.compile(r"^skipping non-regular file", re.MULTILINE)
_OPTION_REFUSED = re.compile(r"has been disabled on this server|server is configured to refuse")
_RESTRICTED_SHELL = re.compile(r"rrsync error: ")
_NO_SUCH_FILE = re.compile(r"(link_stat|change_dir\S*) .*failed: (No such file or directory|Not a directory)")
_UNREADABLE = re.compile(r"^(rsync: \[sender\]|rrsync error:) .*Permission denied", re.MULTILINE)
_NOT_A_FILE = re.compile(r"skipping (non-regular file|directory)")
_NO_ROOM = re.compile(r"\[receiver\] .*(No space left on device|Disk quota exceeded)")
_HERE = re.compile(r"\[(?:receiver|generator)\] .*\(([0-9]{1,4})\)")
"""What our end of rsync could not do, with the system's error number."""
_TOO_LARGE = re.compile(r"\[receiver\] .*File too large")

_PEER_DOWN = frozenset({2, 5, 6, 10, 12, 13, 14, 30, 35})
"""Where the connection or the peer's own rsync failed, as opposed to this one file."""

_LAST_OF_RSYNC = 35
"""Higher exit codes are those of ssh or of the command at its other end."""

_SSH_FAILED = frozenset({12, 255})
"""255 if rsync noticed that ssh had ended, 12 if it noticed first that nothing came: chance decides."""

_LOCAL_USAGE = frozenset({1, 4})


@dataclass(frozen=True, slots=True)
class Figures:
    """What rsync says of a run that went well."""

    literal_bytes: int
    """Bytes of the file that were sent, as opposed to found here already."""
    file_bytes: int
    """The file's size, as the peer has it."""


def is_link(ended: Ended) -> bool:
    """Whether the peer showed no file but, as far as we can know, a symbolic link to one."""
    return ended.exit_code == 0 and bool(_IS_LINK.search(ended.output))


def judge(ended: Ended, *, service: str, max_bytes: int, known_hosts: Path | None = None) -> Figures:
    """The figures of a run that fetched the file; else raises what a caller can act on. `known_hosts` pins keys.

    ServiceUnavailable(service), SourceMissing, SourceTooLarge, LocalTrouble and its kinds, TransientError.
    """
    if ended.exit_code != 0:
        raise _failure(ended, service, max_bytes, known_hosts)
    if _figure("Number of regular files transferred", ended.output) != 1:
        raise _nothing_sent(ended, max_bytes)
    return Figures(_figure("Literal data", ended.output), _figure("Total file size", ended.output))


def last_words(output: str) -> str:
    """What the program complained about, as one printable line of bounded length."""
    lines = (line.strip() for line in output.splitlines())
    said = " | ".join(line for line in lines if line and not _STATISTICS.match(line))
    return replaced(said[:MAX_REASON_CHARACTERS], "?")


def _failure(ended: Ended, service: str, max_bytes: int, known_hosts: Path | None) -> DpnError:
    code, output = ended.exit_code, ended.output
    reason = f"rsync exit {code}: {last_words(output)}"
    if code in (11, 23) and _NO_ROOM.search(output):
        return NoSpace(f"the staging volume is full: free space on it or enlarge it ({reason})")
    if code in (11, 23) and _TOO_LARGE.search(output):
        return SourceTooLarge(max_bytes + 1, max_bytes)
    if code in (11, 23) and any(is_machine_error(int(number)) for number in _HERE.findall(output)):
        return LocalTrouble(f"the staging volume cannot be written: look at its disk and permissions ({reason})")
    if _OPTION_REFUSED.search(output):
        return SourceMissing(f"the peer's server does not let us ask for this file: {reason}")
    if _UNREADABLE.search(output):
        return Misconfigured(
            f"{service}: its rsync user may not read the file: ask the peer's operators to allow it ({reason})"
        )
    if _RESTRICTED_SHELL.search(output) or (code == 23 and _NO_SUCH_FILE.search(output)):
        return SourceMissing(f"the peer does not have the file: {reason}")
    if code in _SSH_FAILED and (refused := why_refused(output, known_hosts)):
        return Misconfigured(f"{service}: {refused}")
    if remedy := _remedy(code, output):
        return Misconfigured(f"{service}: {remedy} ({reason})")
    if code == 5 and "Unknown module" in output:
        return SourceMissing(f"the peer has no such module: {reason}")
    if code in _PEER_DOWN or code > _LAST_OF_RSYNC:
        return ServiceUnavailable(service, reason)
    return TransientError(f"the file did not come whole: {reason}")


def _remedy(code: int, output: str) -> str | None:
    """What an operator has to do, where no retry will help."""
    if code == 5 and "auth failed" in output:
        return "the rsync daemon refuses the password: check rsync.password_file and the user in the link"
    if code == 5 and "access denied" in output:
        return "the rsync daemon refuses this host: ask the peer to allow its address"
    if code == 1 and "password file" in output:
        return "rsync.password_file must belong to the worker's user and be readable by nobody else (chmod 600)"
    if code == 14 and "Failed to exec" in output:
        return "a program is missing: check transfer.ssh"
    if code in _LOCAL_USAGE:
        return "rsync does not know what it is asked for: use rsync 3.2.7 or newer on both sides"
    return None


def _nothing_sent(ended: Ended, max_bytes: int) -> TransientError:
    """Exit 0, but the file was passed over."""
    seen_bytes = _figure("Total file size", ended.output)
    if _NOT_A_FILE.search(ended.output):
        return SourceMissing("the peer has a folder, a link or a device where the file should be")
    if seen_bytes > max_bytes:
        return SourceTooLarge(seen_bytes, max_bytes)
    return SourceMissing(f"the peer sent nothing: {last_words(ended.output)}")


def _figure(name: str, output: str) -> int:
    """The last number that stands behind `name`; 0 if there is none."""
    found = re.findall(rf"^{re.escape(name)}: ([0-9]+)", output, re.MULTILINE)
    return int(found[-1][:18]) if found else 0
