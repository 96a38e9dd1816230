"""An rsync or ssh that is too old is told of when a worker starts, by the setting that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn.errors import Misconfigured
from dpn.transfer.programs import require_programs
from dpn.transfer.settings import RsyncSource, TransferSettings

OVER_SSH = RsyncSource(mode="ssh", hosts=("north.example.org",))
DAEMON = RsyncSource(mode="daemon", hosts=("north.example.org",))


def program(folder: Path, name: str, says: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "key"),
    [
        ("rsync  version 3.2.3  protocol version 31", "transfer.rsync"),
        ("openrsync: protocol version 29, rsync version 2.6.9 compatible", "transfer.rsync"),
        ("OpenSSH_8.4p1 Debian-5, OpenSSL 1.1.1k", "transfer.ssh"),
    ],
)
def test_one_that_is_too_old_is_named_with_its_version(tmp_path: Path, says: str, key: str) -> None:
    name = key.rpartition(".")[2]
    settings = TransferSettings.model_validate({name: program(tmp_path, name, says)})
    with pytest.raises(Misconfigured, match=rf"{key}: .*{name} is of version [\d.]+: install [\d.]+ or newer"):
        require_programs(settings, [DAEMON, OVER_SSH])


@pytest.mark.parametrize("says", ["rsync  version v3.2.7  protocol", "rsync  version 3.10.0", "who knows", ""])
def test_one_that_is_new_enough_or_says_nothing_of_itself_is_good(tmp_path: Path, says: str) -> None:
    require_programs(TransferSettings(rsync=program(tmp_path, "rsync", says)), [OVER_SSH])


def test_one_that_is_missing_or_that_no_peer_wants_is_not_asked(tmp_path: Path) -> None:
    old = program(tmp_path, "ssh", "OpenSSH_5.1p1")
    require_programs(TransferSettings(rsync=str(tmp_path / "none"), ssh=old), [DAEMON])
