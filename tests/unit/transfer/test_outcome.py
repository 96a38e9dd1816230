"""What rsync's last words mean for an item. The words are those of rsync 3.2.7 and 3.5.0 and OpenSSH 9.2."""

from __future__ import annotations

import pytest

from dpn.errors import DpnError, LocalTrouble, Misconfigured, NoSpace, ServiceUnavailable, TransientError
from dpn.process import Ended
from dpn.transfer.errors import SourceMissing, SourceTooLarge
from dpn.transfer.outcome import MAX_REASON_CHARACTERS, is_link, judge, last_words

SENT = """
Number of files: 1 (reg: 1)
Number of regular files transferred: 1
Total file size: 30000000 bytes
Literal data: 1000 bytes
Matched data: 29999000 bytes
sent 39 bytes  received 30007408 bytes  60014894.00 bytes/sec
total size is 30000000  speedup is 1.00
"""
PASSED_OVER = SENT.replace("transferred: 1", "transferred: 0")
CLOSED = "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]\n"


def test_the_bytes_that_were_sent_are_told_from_those_that_were_here() -> None:
    assert judge(Ended(0, SENT), service="rsync:north", max_bytes=30_000_000).literal_bytes == 1000


@pytest.mark.parametrize(
    ("exit_code", "output"),
    [
        (10, "rsync: [Receiver] failed to connect to 127.0.0.1 (127.0.0.1): Connection refused (111)"),
        (10, "rsync: getaddrinfo: north.example.org 873: Name or service not known"),
        (12, "rsync: connection unexpectedly closed (1310720 bytes received so far) [receiver]"),
        (30, "[Receiver] io timeout after 2 seconds -- exiting"),
        (35, "rsync error: timeout waiting for daemon connection (code 35)"),
        (5, "@ERROR: max connections (4) reached -- try again later"),
        (5, "@ERROR: chdir failed"),
        (5, 'rsync: server sent "SSH-2.0-OpenSSH_9.2p1" rather than greeting'),
        (2, "protocol version mismatch -- is your shell clean?"),
        (247, "rsync: connection unexpectedly closed (7374661 bytes received so far) [receiver]"),
        (127, "bash: line 1: rsync: command not found"),
        (255, "ssh: connect to host 127.0.0.1 port 18823: Connection refused\n" + CLOSED),
        (255, "ssh: Could not resolve hostname north.example.org: Name or service not known\n" + CLOSED),
        (255, "Connection timed out during banner exchange\n" + CLOSED),
        (255, "Timeout, server north.example.org not responding.\n" + CLOSED),
    ],
)
def test_a_peers_outage_is_the_peers(exit_code: int, output: str) -> None:
    error = _failure(exit_code, output)
    assert isinstance(error, ServiceUnavailable)
    assert error.service == "rsync:north"


@pytest.mark.parametrize(
    ("exit_code", "output"),
    [
        (23, 'rsync: [sender] link_stat "missing.tar" (in outbound) failed: No such file or directory (2)'),
        (23, 'rsync: [sender] change_dir "nodir" (in outbound) failed: No such file or directory (2)'),
        (23, 'rsync: [sender] link_stat "/a.tar/b.tar" failed: Not a directory (20)'),
        (5, "@ERROR: Unknown module 'elsewhere'"),
        (
            12,
            "rrsync error: post-realpath open failed (race detected): missing.tar No such file or directory\n"
            + CLOSED,
        ),
        (12, "rrsync error: option -L has been disabled on this server.\n" + CLOSED),
        (0, "skipping directory bag.tar\n" + PASSED_OVER),
        (0, 'skipping non-regular file "bag.tar"\n' + PASSED_OVER),
        (0, ""),
    ],
)
def test_what_only_this_file_lacks_is_not_an_outage_of_its_peer(exit_code: int, output: str) -> None:
    assert isinstance(_failure(exit_code, output), SourceMissing)


@pytest.mark.parametrize(
    "output",
    [
        'rsync: [receiver] open "/srv/staging/items/1/1/x.tar" failed: Read-only file system (30)',
        'rsync: [receiver] open "/srv/staging/items/1/1/x.tar" failed: Permission denied (13)',
        'rsync: [generator] recv_generator: failed to stat "/srv/x.tar": Stale file handle (116)',
        'rsync: [receiver] write failed on "/srv/x.tar": Input/output error (5)',
    ],
)
def test_a_disk_of_ours_that_fails_is_no_fault_of_the_file(output: str) -> None:
    for code in (11, 23):
        error = _failure(code, output)
        assert isinstance(error, LocalTrouble)
        assert "look at its disk" in str(error)
    theirs = output.replace("[receiver]", "[sender]").replace("[generator]", "[sender]")
    assert "look at its disk" not in str(_failure(23, theirs)), "the peer's disk is the peer's"


@pytest.mark.parametrize(
    ("exit_code", "output", "remedy"),
    [
        (255, "Host key verification failed.\n" + CLOSED, "known_hosts_file"),
        (12, "Host key verification failed.\n" + CLOSED, "known_hosts_file"),
        (255, "dpn@north: Permission denied (publickey,keyboard-interactive).\n" + CLOSED, "identity_file"),
        (5, "@ERROR: auth failed on module locked", "password_file"),
        (5, "@ERROR: access denied to outbound from localhost (127.0.0.1)", "allow"),
        (1, "ERROR: password file must not be other-accessible", "chmod 600"),
        (14, "rsync: [Receiver] Failed to exec /no/ssh: No such file or directory (2)", "transfer.ssh"),
        (1, "rsync: --protect-args: unknown option", "newer"),
        (
            23,
            'rsync: [sender] send_files failed to open "a.tar" (in outbound): Permission denied (13)',
            "ask the peer's operators",
        ),
        (
            23,
            'rsync: [sender] link_stat "/a.tar" (in outbound) failed: Permission denied (13)',
            "ask the peer's operators",
        ),
    ],
)
def test_what_an_operator_must_fix_says_how(exit_code: int, output: str, remedy: str) -> None:
    error = _failure(exit_code, output)
    assert isinstance(error, Misconfigured)
    assert remedy in str(error)


@pytest.mark.parametrize(
    ("exit_code", "output"),
    [
        (11, 'rsync: [receiver] write failed on "/s/a.tar": No space left on device (28)'),
        (11, 'rsync: [receiver] write failed on "/s/a.tar": Disk quota exceeded (122)'),
        (23, 'rsync: [receiver] open "/s/a.tar" failed: No space left on device (28)'),
    ],
)
def test_a_full_volume_waits_for_room(exit_code: int, output: str) -> None:
    assert isinstance(_failure(exit_code, output), NoSpace)


def test_a_full_disk_at_the_peer_is_not_ours() -> None:
    error = _failure(23, 'rsync: [sender] write failed on "/log": No space left on device (28)')
    assert type(error) is TransientError


@pytest.mark.parametrize(
    ("exit_code", "output"),
    [
        (23, 'rsync: [sender] read errors mapping "a.tar": Input/output error (5)'),
        (23, "ERROR: a.tar failed verification -- update retained."),
        (24, 'file has vanished: "a.tar" (in outbound)'),
        (20, "rsync error: received SIGINT, SIGTERM, or SIGHUP (code 20)"),
        (-9, ""),
    ],
)
def test_what_befell_one_file_is_tried_again(exit_code: int, output: str) -> None:
    assert type(_failure(exit_code, output)) is TransientError


def test_a_file_that_is_too_large_tells_its_size() -> None:
    error = _failure(0, PASSED_OVER, max_bytes=29_999_999)
    assert isinstance(error, SourceTooLarge)
    assert (error.seen_bytes, error.max_bytes) == (30_000_000, 29_999_999)


def test_a_file_that_grew_past_the_limit_while_it_came_is_too_large() -> None:
    output = 'rsync: [receiver] write failed on "/s/a.tar": File too large (27)'
    assert isinstance(_failure(11, output), SourceTooLarge)


def test_a_symbolic_link_is_recognised() -> None:
    assert is_link(Ended(0, 'skipping non-regular file "bag.tar"\n' + PASSED_OVER))
    assert not is_link(Ended(0, SENT))


def test_last_words_are_one_bounded_printable_line_without_statistics() -> None:
    words = last_words("\x1b[31mrsync: no\x07\n" + "x" * 5000 + SENT)
    assert words.isprintable()
    assert words.startswith("?[31mrsync: no? | xxx")
    assert len(words) == MAX_REASON_CHARACTERS
    assert last_words(SENT) == ""


def test_figures_that_no_file_could_have_do_no_harm() -> None:
    output = SENT.replace("Literal data: 1000", "Literal data: " + "9" * 5000)
    assert judge(Ended(0, output), service="rsync:north", max_bytes=1).literal_bytes < 10**18


def _failure(exit_code: int, output: str, *, max_bytes: int = 30_000_000) -> DpnError:
    with pytest.raises(DpnError) as raised:
        judge(Ended(exit_code, output), service="rsync:north", max_bytes=max_bytes)
    return raised.value
